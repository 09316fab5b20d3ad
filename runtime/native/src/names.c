#include "names.h"

edge_status ew_names_init(ew_names *names, ew_arena *arena, size_t most) {
    names->slots = 16;
    while (names->slots < 2 * most + 2) names->slots *= 2;
    names->keys = ew_arena_get(arena, names->slots * sizeof *names->keys);
    names->indices = ew_arena_get(arena, names->slots * sizeof *names->indices);
    return names->keys && names->indices ? EDGE_OK : EDGE_NO_MEMORY;
}

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash(const char *key) {
    uint64_t value = 0xcbf29ce484222325u;
    for (; *key; key++) value = (value ^ (uint8_t)*key) * 0x100000001b3u;
    return value;
}

int *ew_names_at(ew_names *names, const char *key) {
    size_t slot = hash(key) & (names->slots - 1);
    while (names->keys[slot] && strcmp(names->keys[slot], key) != 0) slot = (slot + 1) & (names->slots - 1);
    if (!names->keys[slot]) {
        names->keys[slot] = key;
        names->indices[slot] = -1;
    }
    return &names->indices[slot];
}
