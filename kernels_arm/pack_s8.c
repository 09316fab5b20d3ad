/* 8-bit weights in the order in which kernels read them, sums of their columns in front: a zero point of the other side
 * is that many times the sum.
 *
 * Products: panels of columns as in pack.c, each [width] sums (s32), then [taps][depth / 4][width][4], zeros beyond
 * depth and n.  Depthwise: [padded channels] sums, then [height / mr][kernel_width][padded channels][mr]. */
#include <string.h>

#include "edge_kernels.h"

enum { CHANNELS = 16 }; /* channels are padded to a multiple of this */

static int64_t panel_width(const edge_kernel *kernel, int64_t left) {
    return left <= kernel->nr / 2 ? kernel->nr / 2 : kernel->nr;
}

static int64_t panel_bytes(int64_t width, int64_t depth, int64_t taps) {
    return width * 4 * (1 + taps * ((depth + 3) / 4));
}

size_t edge_gemm_packed_s8(const edge_kernel *kernel, int64_t n, int64_t depth, int64_t taps) {
    int64_t whole = n / kernel->nr, left = n % kernel->nr;
    int64_t bytes = whole * panel_bytes(kernel->nr, depth, taps);
    return (size_t)(bytes + (left ? panel_bytes(panel_width(kernel, left), depth, taps) : 0));
}

/* One column of a panel. */
static void pack_column(int64_t width, int64_t column, int64_t depth, int64_t taps, const int8_t *b, int64_t b_row,
                        uint8_t *panel) {
    int32_t sum = 0;
    int8_t *to = (int8_t *)panel + width * 4 + column * 4;
    for (int64_t t = 0; t < taps; t++, b += depth * b_row)
        for (int64_t k = 0; k < depth; k += 4, to += width * 4)
            for (int64_t i = 0; i < 4 && k + i < depth; i++) {
                to[i] = b[(k + i) * b_row];
                sum += to[i];
            }
    memcpy(panel + column * 4, &sum, sizeof sum);
}

void edge_gemm_pack_s8(const edge_kernel *kernel, int64_t n, int64_t depth, int64_t taps, const int8_t *b,
                       int64_t b_row, int64_t b_col, void *packed) {
    uint8_t *panel = packed;
    for (int64_t column = 0; column < n; column += kernel->nr) {
        int64_t width = panel_width(kernel, n - column), bytes = panel_bytes(width, depth, taps);
        memset(panel, 0, (size_t)bytes);
        for (int64_t j = 0; j < width && column + j < n; j++)
            pack_column(width, j, depth, taps, b + (column + j) * b_col, b_row, panel);
        panel += bytes;
    }
}

static int64_t padded(int64_t channels) { return (channels + CHANNELS - 1) / CHANNELS * CHANNELS; }

size_t edge_depthwise_packed_s8(const edge_kernel *kernel, int64_t channels, int64_t height, int64_t width) {
    int64_t lines = (height + kernel->mr - 1) / kernel->mr * kernel->mr;
    return (size_t)(padded(channels) * (4 + lines * width));
}

void edge_depthwise_pack_s8(const edge_kernel *kernel, int64_t channels, int64_t height, int64_t width,
                            const int8_t *weights, void *packed) {
    int64_t all = padded(channels), together = kernel->mr;
    memset(packed, 0, edge_depthwise_packed_s8(kernel, channels, height, width));
    int8_t *sums = packed, *to = sums + all * 4;
    for (int64_t c = 0; c < channels; c++) {
        int32_t sum = 0;
        for (int64_t i = 0; i < height; i++)
            for (int64_t j = 0; j < width; j++) {
                int8_t w = *weights++;
                sum += w;
                to[((i / together * width + j) * all + c) * together + i % together] = w;
            }
        memcpy(sums + c * 4, &sum, sizeof sum);
    }
}
