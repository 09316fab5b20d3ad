#include "edge_kernels.h"

void edge_depthwise_f32_scalar(const edge_depthwise_f32 *d, const float *const *line, float *out) {
    for (int64_t x = 0; x < d->out_width; x++)
        for (int64_t c = 0; c < d->channels; c++) {
            float sum = d->bias[c];
            for (int64_t i = 0; i < d->kernel_height; i++)
                for (int64_t j = 0; j < d->kernel_width; j++) {
                    int64_t column = x * d->stride - d->pad + j * d->dilation;
                    int inside = line[i] && column >= 0 && column < d->in_width;
                    float x = inside ? line[i][column * d->channels + c] : 0;
                    sum += d->weights[(i * d->kernel_width + j) * d->channels + c] * x;
                }
            out[x * d->channels + c] = sum < d->low ? d->low : sum > d->high ? d->high : sum;
        }
}
