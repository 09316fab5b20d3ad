#include "edge_kernels.h"

#define NR 8

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

void edge_gemm_f32_scalar(const edge_gemm_f32 *g, int64_t rows, const float *const *a, float *c, const float *add) {
    const float *b = g->b;
    for (int64_t column = 0; column < g->n; column += NR) {
        int64_t left = g->n - column, width = left <= NR / 2 ? NR / 2 : NR;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < width && j < left; j++) {
                float sum = g->bias ? g->bias[column + j] : 0;
                for (int64_t t = 0; t < g->taps; t++)
                    for (int64_t k = 0; k < g->depth; k++)
                        sum += a[r * g->taps + t][k] * b[(t * g->depth + k) * width + j];
                if (add) sum += add[r * g->add_row + column + j];
                c[r * g->c_row + column + j] = clamp(sum, g->low, g->high);
            }
        b += width * g->taps * g->depth;
    }
}
