#include "edge_kernels.h"

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static void spmv(int side, const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t rows, const float *x, float *c,
                 const float *add) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = begin; column < end; column++) {
            float sum = s->bias ? s->bias[column] : 0;
            for (int32_t i = s->start[column / side]; i < s->start[column / side + 1]; i++)
                sum += x[row * s->x_row + s->index[i]] * s->value[i * side + column % side];
            if (add) sum += add[row * s->add_row + column];
            c[row * s->c_row + column] = clamp(sum, s->low, s->high);
        }
}

void edge_spmv_f32_1x1_scalar(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t rows, const float *x, float *c,
                              const float *add) {
    spmv(1, s, begin, end, rows, x, c, add);
}

void edge_spmv_f32_4x1_scalar(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t rows, const float *x, float *c,
                              const float *add) {
    spmv(4, s, begin, end, rows, x, c, add);
}
