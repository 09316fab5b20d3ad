#include "rescale.h"

void edge_depthwise_s8_scalar(const edge_depthwise_s8 *d, const uint8_t *const *line, uint8_t *out) {
    int64_t padded = (d->channels + 15) / 16 * 16;
    const int8_t *sums = d->weights, *weights = sums + padded * 4;
    for (int64_t x = 0; x < d->out_width; x++)
        for (int64_t c = 0; c < d->channels; c++) {
            int32_t weights_sum;
            memcpy(&weights_sum, sums + c * 4, sizeof weights_sum);
            int32_t sum = edge_start(&d->out, c, weights_sum);
            for (int64_t i = 0; i < d->kernel_height; i++)
                for (int64_t j = 0; j < d->kernel_width; j++) {
                    int64_t column = x * d->stride - d->pad + j * d->dilation;
                    int inside = line[i] && column >= 0 && column < d->in_width;
                    uint8_t q = inside ? line[i][column * d->channels + c] : d->zeros[c];
                    int8_t w = weights[(i * d->kernel_width + j) * padded + c];
                    sum = edge_plus(sum, edge_byte(q, d->out.a_signed) * w);
                }
            out[x * d->channels + c] = edge_rescaled(&d->out, c, sum);
        }
}
