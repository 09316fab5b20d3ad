/* Weights of 8 bits with zeros as kernels read them: blocks of four columns and four of depth, of which only those are there that
 * hold anything.  One piece of memory: how many groups of four columns and how many blocks there are, the sums of all columns of
 * groups, for each group the place of its first block and then that behind the last one, for each block the number of its four of
 * depth (taps lie one after the other, each filled up to whole fours), to a multiple of four bytes, and its weights, [column][4]. */
#ifndef EDGE_BLOCKS_H
#define EDGE_BLOCKS_H

#include "edge_kernels.h"

typedef struct edge_blocks {
    int64_t groups;
    const int32_t *sums, *start;
    const uint16_t *index; /* ascending in a group */
    const int8_t *value;
} edge_blocks;

static inline edge_blocks edge_blocks_of(const void *packed) {
    const int32_t *counts = (const int32_t *)packed, *sums = counts + 2, *start = sums + 4 * (int64_t)counts[0];
    const uint16_t *index = (const uint16_t *)(const void *)(start + counts[0] + 1);
    return (edge_blocks){counts[0], sums, start, index, (const int8_t *)(index + (counts[1] + 1) / 2 * 2)};
}

#endif
