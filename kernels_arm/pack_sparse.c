/* The blocks of w[n, k] that hold anything but zeros, group of rows after group of rows. */
#include <string.h>

#include "edge_kernels.h"

/* Weights may lie in a file at an odd place. */
static float read(const float *at) {
    float value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* NaN is not zero. */
static int holds(const edge_kernel *kernel, int64_t n, int64_t row, const float *column, int64_t w_row) {
    for (int64_t i = row; i < row + kernel->nr && i < n; i++)
        if (read(column + i * w_row) != 0) return 1;
    return 0;
}

/* In the order in which they lie. */
int64_t edge_spmm_blocks(const edge_kernel *kernel, int64_t n, int64_t k, const float *w, int64_t w_row, int64_t w_col) {
    int64_t count = 0, groups = (n + kernel->nr - 1) / kernel->nr, by_row = w_col < w_row, inner = by_row ? k : groups;
    for (int64_t i = 0; i < (by_row ? groups : k); i++)
        for (int64_t j = 0; j < inner; j++) {
            int64_t row = (by_row ? i : j) * kernel->nr;
            count += holds(kernel, n, row, w + (by_row ? j : i) * w_col, w_row);
        }
    return count;
}

void edge_spmm_pack_f32(const edge_kernel *kernel, int64_t n, int64_t k, const float *w, int64_t w_row, int64_t w_col,
                        int32_t *start, uint16_t *index, float *value) {
    int32_t count = 0;
    for (int64_t row = 0; row < n; row += kernel->nr) {
        *start++ = count;
        for (int64_t j = 0; j < k; j++) {
            const float *column = w + j * w_col;
            if (!holds(kernel, n, row, column, w_row)) continue;
            index[count++] = (uint16_t)j;
            for (int64_t i = row; i < row + kernel->nr; i++) *value++ = i < n ? read(column + i * w_row) : 0;
        }
    }
    *start = count;
}
