/* b[k, n] as panels of nr columns, [k][nr] each, zeros beyond n; the last panel is nr / 2 wide when that is enough. */
#include <string.h>

#include "edge_kernels.h"

static int64_t panel_width(const edge_kernel *kernel, int64_t left) {
    return left <= kernel->nr / 2 ? kernel->nr / 2 : kernel->nr;
}

size_t edge_gemm_packed_f32(const edge_kernel *kernel, int64_t n, int64_t k) {
    int64_t whole = n / kernel->nr * kernel->nr, left = n - whole;
    return (size_t)((whole + (left ? panel_width(kernel, left) : 0)) * k);
}

static void pack_panel(int64_t k, int64_t width, int64_t filled, const float *b, int64_t b_row, int64_t b_col,
                       float *packed) {
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
