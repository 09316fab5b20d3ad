#include "edge_kernels.h"

#define NR 8

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

/* Value k of a column, whose words lie `width` apart. */
static float value(const edge_gemm_grouped *g, const int32_t *words, int64_t width, int64_t k) {
    int64_t each = 32 / g->bits;
    uint32_t word = (uint32_t)words[k / each * width] << (32 - g->bits * (k % each + 1));
    return (float)((int32_t)word >> (32 - g->bits));
}

void edge_gemm_grouped_f32_scalar(const edge_gemm_grouped *whole, int64_t rows, const float *const *a, float *c,
                                  const float *add) {
    const edge_gemm_f32 *g = &whole->product;
    const int32_t *words = whole->words;
    const float *scale = whole->scale;
    for (int64_t column = 0; column < g->n; column += NR) {
        int64_t left = g->n - column, width = left <= NR / 2 ? NR / 2 : NR;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < width && j < left; j++) {
                float sum = g->bias ? g->bias[column + j] : 0;
                for (int64_t k = 0; k < g->depth; k++)
                    sum += a[r][k] * (value(whole, words + j, width, k) * scale[k / whole->group * width + j]);
                if (add) sum += add[r * g->add_row + column + j];
                c[r * g->c_row + column + j] = clamp(sum, g->low, g->high);
            }
        words += (g->depth * whole->bits + 31) / 32 * width;
        scale += g->depth / whole->group * width;
    }
}
