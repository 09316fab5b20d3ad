#include "edge_kernels.h"

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static void spmm(int wide, const edge_spmm_f32 *s, int64_t rows, const float *const *a, float *c, const float *add) {
    const edge_gemm_f32 *g = &s->product;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t column = s->first; column < s->last; column++) {
            float sum = g->bias ? g->bias[column] : 0;
            for (int32_t i = s->start[column / wide]; i < s->start[column / wide + 1]; i++)
                sum += a[r * g->taps + s->index[i] / g->depth][s->index[i] % g->depth] * s->value[i * wide + column % wide];
            if (add) sum += add[r * g->add_row + column];
            c[r * g->c_row + column] = clamp(sum, g->low, g->high);
        }
}

void edge_spmm_f32_1x1_scalar(const edge_spmm_f32 *s, int64_t rows, const float *const *a, float *c, const float *add,
                              float *work) {
    (void)work;
    spmm(1, s, rows, a, c, add);
}

void edge_spmm_f32_4x1_scalar(const edge_spmm_f32 *s, int64_t rows, const float *const *a, float *c, const float *add,
                              float *work) {
    (void)work;
    spmm(4, s, rows, a, c, add);
}
