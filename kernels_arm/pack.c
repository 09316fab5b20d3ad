/* b[k, n] as panels of nr columns, [k][nr] each, zeros beyond n; the last panel is nr / 2 wide when that is enough.  Of
 * small weights, words of successive values of a column, the first one lowest, zeros beyond k. */
#include <string.h>

#include "edge_kernels.h"

static int64_t panel_width(const edge_kernel *kernel, int64_t left) {
    return left <= kernel->nr / 2 ? kernel->nr / 2 : kernel->nr;
}

size_t edge_gemm_packed_f32(const edge_kernel *kernel, int64_t n, int64_t k) {
    int64_t whole = n / kernel->nr * kernel->nr, left = n - whole;
    return (size_t)((whole + (left ? panel_width(kernel, left) : 0)) * k);
}

typedef float four __attribute__((vector_size(16)));

/* Four columns of b, which lie b_col apart and are read in order, four rows at a time. */
static void pack_columns(int64_t k, int64_t width, const float *b, int64_t b_col, float *packed) {
    int64_t i = 0;
    for (; i + 4 <= k; i += 4) {
        four a[4], low[2], high[2];
        for (int j = 0; j < 4; j++) memcpy(&a[j], b + j * b_col + i, sizeof a[j]);
        for (int j = 0; j < 2; j++) {
            low[j] = __builtin_shufflevector(a[2 * j], a[2 * j + 1], 0, 4, 1, 5);
            high[j] = __builtin_shufflevector(a[2 * j], a[2 * j + 1], 2, 6, 3, 7);
        }
        four rows[4] = {__builtin_shufflevector(low[0], low[1], 0, 1, 4, 5),
                        __builtin_shufflevector(low[0], low[1], 2, 3, 6, 7),
                        __builtin_shufflevector(high[0], high[1], 0, 1, 4, 5),
                        __builtin_shufflevector(high[0], high[1], 2, 3, 6, 7)};
        for (int j = 0; j < 4; j++) memcpy(packed + (i + j) * width, &rows[j], sizeof rows[j]);
    }
    for (; i < k; i++)
        for (int j = 0; j < 4; j++) packed[i * width + j] = b[j * b_col + i];
}

static void pack_panel(int64_t k, int64_t width, int64_t filled, const float *b, int64_t b_row, int64_t b_col,
                       float *packed) {
    if (b_row == 1 && b_col != 1 && filled == width) {
        for (int64_t j = 0; j < width; j += 4) pack_columns(k, width, b + j * b_col, b_col, packed + j);
        return;
    }
    for (int64_t i = 0; i < k; i++, packed += width, b += b_row) {
        if (b_col == 1) memcpy(packed, b, (size_t)filled * sizeof *b);
        else
            for (int64_t j = 0; j < filled; j++) packed[j] = b[j * b_col];
        for (int64_t j = filled; j < width; j++) packed[j] = 0;
    }
}

void edge_gemm_pack_f32(const edge_kernel *kernel, int64_t n, int64_t k, const float *b, int64_t b_row, int64_t b_col,
                        float *packed) {
    for (int64_t j = 0; j < n; j += kernel->nr) {
        int64_t left = n - j, width = panel_width(kernel, left);
        pack_panel(k, width, left < width ? left : width, b + j * b_col, b_row, b_col, packed);
        packed += width * k;
    }
}

/* Up to 32 / bits values of a column. */
static uint32_t word_of(int64_t count, int32_t bits, const int8_t *b, int64_t b_row) {
    uint32_t word = 0;
    for (int64_t i = 0; i < count && i < 32 / bits; i++)
        word |= ((uint32_t)b[i * b_row] & ((1u << bits) - 1)) << bits * i;
    return word;
}

void edge_gemm_pack_grouped(const edge_kernel *kernel, int64_t n, int64_t k, int32_t bits, const int8_t *b,
                            int64_t b_row, int64_t b_col, int32_t *packed) {
    for (int64_t column = 0, width; column < n; column += width) {
        width = panel_width(kernel, n - column);
        for (int64_t i = 0; i < k; i += 32 / bits)
            for (int64_t j = column; j < column + width; j++)
                *packed++ = j < n ? (int32_t)word_of(k - i, bits, b + i * b_row + j * b_col, b_row) : 0;
    }
}
