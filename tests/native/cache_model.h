/* A data cache as a model: set associative, what was used least recently goes, lines of 64 bytes, stores fetch their
 * line as loads do.  No prefetcher, and nobody else in it. */
#pragma once

#include <stdint.h>

typedef struct cache cache;

/* An empty cache of `bytes` in lines of `ways` each; what it misses is looked for in `below`, when there is one.
 * NULL: the sizes do not divide, or no memory. */
cache *cache_new(uint64_t bytes, uint64_t ways, cache *below);

/* Somebody reads or writes these bytes; there is nothing at address 0. */
void cache_touch(cache *c, uint64_t address, uint64_t bytes);

/* Lines that were not there when they were touched. */
uint64_t cache_misses(const cache *c);
