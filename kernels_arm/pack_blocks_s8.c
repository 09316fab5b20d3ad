/* 8-bit weights with zeros in the order in which kernels read them: edge_blocks.h. */
#include <string.h>

#include "edge_blocks.h"

typedef struct matrix {
    int64_t n, depth, taps;
    const int8_t *b;
    int64_t tap, row, col;
} matrix;

/* [column][4] from a column and a depth on, zeros beyond both; whether anything is in it. */
static int read_block(const matrix *m, int64_t column, int64_t tap, int64_t depth, int8_t *block) {
    static const int8_t none[16];
    memset(block, 0, sizeof none);
    for (int64_t j = 0; j < 4 && column + j < m->n; j++)
        for (int64_t i = 0; i < 4 && depth + i < m->depth; i++)
            block[j * 4 + i] = m->b[tap * m->tap + (depth + i) * m->row + (column + j) * m->col];
    return memcmp(block, none, sizeof none) != 0;
}

/* Blocks of a group; where there is memory for them, also what is in them. */
static int32_t read_group(const matrix *m, int64_t column, int32_t *sums, uint16_t *index, int8_t *value) {
    int64_t of_tap = (m->depth + 3) / 4;
    int32_t count = 0;
    int8_t block[16];
    for (int64_t t = 0; t < m->taps; t++)
        for (int64_t four = 0; four < of_tap; four++) {
            if (!read_block(m, column, t, four * 4, block)) continue;
            if (index) {
                index[count] = (uint16_t)(t * of_tap + four);
                memcpy(value + (int64_t)count * 16, block, sizeof block);
                for (int i = 0; i < 16; i++) sums[i / 4] += block[i];
            }
            count++;
        }
    return count;
}

int64_t edge_gemm_blocks_s8(int64_t n, int64_t depth, int64_t taps, const int8_t *b, int64_t b_tap, int64_t b_row, int64_t b_col) {
    matrix m = {n, depth, taps, b, b_tap, b_row, b_col};
    int64_t count = 0;
    for (int64_t column = 0; column < n; column += 4) count += read_group(&m, column, NULL, NULL, NULL);
    return count;
}

size_t edge_gemm_blocks_bytes_s8(int64_t n, int64_t blocks) {
    int64_t groups = (n + 3) / 4;
    return (size_t)(4 * (2 + 4 * groups + groups + 1) + (blocks + 1) / 2 * 4 + 16 * blocks);
}

void edge_gemm_pack_blocks_s8(int64_t n, int64_t depth, int64_t taps, const int8_t *b, int64_t b_tap, int64_t b_row, int64_t b_col,
                              void *packed) {
    matrix m = {n, depth, taps, b, b_tap, b_row, b_col};
    int32_t *counts = packed;
    counts[0] = (int32_t)((n + 3) / 4);
    counts[1] = (int32_t)edge_gemm_blocks_s8(n, depth, taps, b, b_tap, b_row, b_col);
    edge_blocks to = edge_blocks_of(packed);
    int32_t *sums = (int32_t *)(uintptr_t)to.sums, *start = (int32_t *)(uintptr_t)to.start, count = 0;
    uint16_t *index = (uint16_t *)(uintptr_t)to.index;
    memset(sums, 0, (size_t)counts[0] * 16);
    for (int64_t group = 0; group < to.groups; group++) {
        start[group] = count;
        count += read_group(&m, group * 4, sums + group * 4, index + count, (int8_t *)(uintptr_t)to.value + (int64_t)count * 16);
    }
    start[to.groups] = count;
    if (count % 2) index[count] = 0;
}
