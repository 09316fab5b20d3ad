/* One value at a time, by the mathematical library. */
#include <math.h>

#include "edge_kernels.h"

#define MAP(name, expression)                                                                                          \
    void edge_##name##_f32_scalar(const float *from, float *y, int64_t count) {                                        \
        for (int64_t i = 0; i < count; i++) {                                                                          \
            float x = from[i];                                                                                         \
            y[i] = expression;                                                                                         \
        }                                                                                                              \
    }

MAP(exp, expf(x))
MAP(erf, erff(x))
MAP(gelu, (float)(0.5 * (double)x * (1.0 + erf((double)x * 0.70710678118654752440))))
MAP(tanh, tanhf(x))
MAP(sigmoid, x >= 0 ? 1.0f / (1.0f + expf(-x)) : expf(x) / (1.0f + expf(x)))
MAP(silu, x >= 0 ? x / (1.0f + expf(-x)) : x * expf(x) / (1.0f + expf(x)))

void edge_softmax_f32_scalar(const float *x, float *y, int64_t count) {
    float largest = -INFINITY, total = 0;
    for (int64_t i = 0; i < count; i++) largest = x[i] > largest || x[i] != x[i] ? x[i] : largest;
    for (int64_t i = 0; i < count; i++) total += y[i] = expf(x[i] - largest);
    for (int64_t i = 0; i < count; i++) y[i] /= total;
}

void edge_layer_norm_f32_scalar(const float *x, const float *scale, const float *bias, float epsilon, float *y,
                                int64_t count) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < count; i++) mean += (double)x[i] / (double)count;
    for (int64_t i = 0; i < count; i++) variance += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)count;
    double factor = 1.0 / sqrt(variance + (double)epsilon);
    for (int64_t i = 0; i < count; i++)
        y[i] = (float)(((double)x[i] - mean) * factor) * scale[i] + (bias ? bias[i] : 0.0f);
}

void edge_max_f32_scalar(const float *a, const float *b, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = a[i] > b[i] || a[i] != a[i] ? a[i] : b[i];
}

void edge_add_f32_scalar(const float *a, const float *b, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = a[i] + b[i];
}

void edge_range_f32_scalar(const float *x, int64_t count, float *low, float *high) {
    *low = *high = 0;
    for (int64_t i = 0; i < count; i++) {
        if (x[i] < *low) *low = x[i];
        if (x[i] > *high) *high = x[i];
    }
}
