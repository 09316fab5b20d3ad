/* Few rows by many: sums in the order of the values. */
#include "edge_kernels.h"

void edge_dots_f32_scalar(const float *x, const float *rows, int64_t row, int64_t count, int64_t depth, float *y) {
    for (int64_t i = 0; i < count; i++) {
        float sum = 0;
        for (int64_t j = 0; j < depth; j++) sum += x[j] * rows[i * row + j];
        y[i] = sum;
    }
}

void edge_mix_f32_scalar(const float *weights, const float *rows, int64_t row, int64_t count, int64_t depth, float *y) {
    for (int64_t j = 0; j < depth; j++) y[j] = 0;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < depth; j++) y[j] += weights[i] * rows[i * row + j];
}
