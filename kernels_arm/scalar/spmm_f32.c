#include "edge_kernels.h"

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static void spmm(int side, const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x, float *c,
                 const float *add) {
    for (int64_t row = begin; row < end; row++)
        for (int64_t p = 0; p < count; p++) {
            float sum = s->bias ? s->bias[row] : 0;
            for (int32_t i = s->start[row / side]; i < s->start[row / side + 1]; i++)
                sum += x[s->index[i] * s->x_row + p] * s->value[i * side + row % side];
            if (add) sum += add[row * s->add_row + p];
            c[row * s->c_row + p] = clamp(sum, s->low, s->high);
        }
}

void edge_spmm_f32_1x1_scalar(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x, float *c,
                              const float *add, float *work) {
    (void)work;
    spmm(1, s, begin, end, count, x, c, add);
}

void edge_spmm_f32_4x1_scalar(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x, float *c,
                              const float *add, float *work) {
    (void)work;
    spmm(4, s, begin, end, count, x, c, add);
}
