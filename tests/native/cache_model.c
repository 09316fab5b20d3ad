#include <stdlib.h>
#include <string.h>

#include "cache_model.h"

enum { LINE = 64 };

struct cache {
    uint64_t sets, ways, misses;
    cache *below;
    uint64_t lines[]; /* [sets][ways], the last used first; 0: empty */
};

cache *cache_new(uint64_t bytes, uint64_t ways, cache *below) {
    if (!bytes || !ways || bytes % (ways * LINE)) return NULL;
    cache *c = calloc(1, sizeof *c + bytes / LINE * sizeof *c->lines);
    if (c) c->sets = bytes / LINE / ways, c->ways = ways, c->below = below;
    return c;
}

static void touch_line(cache *c, uint64_t line) {
    uint64_t *set = c->lines + line % c->sets * c->ways, at = 0;
    while (at < c->ways - 1 && set[at] != line) at++;
    if (set[at] != line) {
        c->misses++;
        if (c->below) touch_line(c->below, line);
    }
    memmove(set + 1, set, at * sizeof *set);
    set[0] = line;
}

void cache_touch(cache *c, uint64_t address, uint64_t bytes) {
    for (uint64_t line = address / LINE; line <= (address + bytes - 1) / LINE; line++) touch_line(c, line);
}

uint64_t cache_misses(const cache *c) { return c->misses; }
