/* Memory of programs that do one product: what lies where is the same in every run and beside every library, since places
 * say which lines share a set of a cache. */
#pragma once

#include <stdint.h>

enum { MEMORY_FLOATS = 1 << 22, LARGEST_WAY = 1 << 18 /* bytes, of the caches in arm_models.py */ };
static _Alignas(LARGEST_WAY) float memory[MEMORY_FLOATS];

/* Zeros where a line of a cache begins, as everything of a session does; NULL: there are no more. */
static float *zeros(int64_t count) {
    static int64_t used;
    float *given = memory + used;
    used += (count + 15) / 16 * 16;
    return used <= MEMORY_FLOATS ? given : NULL;
}
