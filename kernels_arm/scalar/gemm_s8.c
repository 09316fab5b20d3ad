#include "rescale.h"

#define NR 8

static int32_t product(const edge_gemm_s8 *g, const uint8_t *const *a, const int8_t *b, int64_t width) {
    int32_t sum = 0;
    for (int64_t t = 0; t < g->taps; t++) {
        for (int64_t k = 0; k < g->depth; k++)
            sum = edge_plus(sum, edge_byte(a[t][k], g->out.a_signed) * b[k / 4 * width * 4 + k % 4]);
        b += (g->depth + 3) / 4 * width * 4;
    }
    return sum;
}

void edge_gemm_s8_scalar(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    const int8_t *panel = g->b;
    for (int64_t column = 0; column < g->n; column += NR) {
        int64_t left = g->n - column, width = left <= NR / 2 ? NR / 2 : NR;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < width && j < left; j++) {
                int64_t at = column + j;
                int32_t column_sum;
                memcpy(&column_sum, panel + j * 4, sizeof column_sum);
                int32_t sum = edge_plus(edge_start(&g->out, at, column_sum),
                                        product(g, a + r * g->taps, panel + (width + j) * 4, width));
                if (!g->to_f32) {
                    ((uint8_t *)c)[r * g->c_row + at] = edge_rescaled(&g->out, at, sum);
                    continue;
                }
                float y = (float)sum * g->out.scale[at] + (g->offset ? g->offset[at] : 0);
                if (add) y += add[r * g->add_row + at];
                ((float *)c)[r * g->c_row + at] = edge_clamp(y, g->out.low, g->out.high);
            }
        panel += width * 4 * (1 + g->taps * ((g->depth + 3) / 4));
    }
}
