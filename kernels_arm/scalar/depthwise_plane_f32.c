#include "edge_kernels.h"

static float sum(const edge_depthwise_plane_f32 *j, const float *weights, float bias, const float *x, int64_t row, int64_t column) {
    for (int64_t i = 0; i < j->kernel_height; i++)
        for (int64_t k = 0; k < j->kernel_width; k++) {
            int64_t from = row * j->stride_y + i * j->dilation_y - j->pad_top;
            int64_t at = column * j->stride_x + k * j->dilation_x - j->pad_left;
            if (from < 0 || from >= j->in_height || at < 0 || at >= j->in_width) continue;
            bias += x[from * j->in_width + at] * weights[i * j->kernel_width + k];
        }
    return bias < j->low ? j->low : bias > j->high ? j->high : bias;
}

void edge_depthwise_plane_f32_scalar(const edge_depthwise_plane_f32 *j, int64_t channels, const float *weights,
                                     const float *bias, const float *x, int64_t x_step, float *y, int64_t y_step,
                                     float *work) {
    (void)work;
    for (int64_t i = 0; i < channels; i++, weights += j->kernel_height * j->kernel_width)
        for (int64_t row = 0; row < j->out_height; row++)
            for (int64_t column = 0; column < j->out_width; column++)
                y[i * y_step + row * j->out_width + column] = sum(j, weights, bias[i], x + i * x_step, row, column);
}
