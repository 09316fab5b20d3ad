/* The blocks of b[k, n] that hold anything but zeros, column group after column group. */
#include "edge_kernels.h"

/* NaN is not zero. */
static int holds(const edge_kernel *kernel, int64_t n, int64_t column, const float *row, int64_t b_col) {
    for (int64_t j = column; j < column + kernel->nr && j < n; j++)
        if (row[j * b_col] != 0) return 1;
    return 0;
}

int64_t edge_spmm_blocks(const edge_kernel *kernel, int64_t n, int64_t k, const float *b, int64_t b_row, int64_t b_col) {
    int64_t count = 0;
    for (int64_t column = 0; column < n; column += kernel->nr)
        for (int64_t i = 0; i < k; i++) count += holds(kernel, n, column, b + i * b_row, b_col);
    return count;
}

void edge_spmm_pack_f32(const edge_kernel *kernel, int64_t n, int64_t k, const float *b, int64_t b_row, int64_t b_col,
                        int32_t *start, uint16_t *index, float *value) {
    int32_t count = 0;
    for (int64_t column = 0; column < n; column += kernel->nr) {
        *start++ = count;
        for (int64_t i = 0; i < k; i++) {
            const float *row = b + i * b_row;
            if (!holds(kernel, n, column, row, b_col)) continue;
            index[count++] = (uint16_t)i;
            for (int64_t j = column; j < column + kernel->nr; j++) *value++ = j < n ? row[j * b_col] : 0;
        }
    }
    *start = count;
}
