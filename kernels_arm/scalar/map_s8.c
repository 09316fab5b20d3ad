#include "rescale.h"

static void limits(const edge_grid *grid, float *low, float *high) {
    *low = grid->is_signed ? -128 : 0;
    *high = grid->is_signed ? 127 : 255;
}

void edge_quantize_s8_scalar(const edge_grid *grid, const float *x, uint8_t *y, int64_t count) {
    float low, high, zero = (float)grid->zero;
    limits(grid, &low, &high);
    for (int64_t i = 0; i < count; i++)
        y[i] = (uint8_t)((int32_t)nearbyintf(edge_clamp(x[i] / grid->scale, low - zero, high - zero)) + grid->zero);
}

void edge_dequantize_s8_scalar(const edge_grid *grid, const uint8_t *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) y[i] = (float)(edge_byte(x[i], grid->is_signed) - grid->zero) * grid->scale;
}

void edge_add_s8_scalar(const edge_add_s8_job *j, const uint8_t *a, const uint8_t *b, uint8_t *y, int64_t count) {
    float low = (float)(j->low - j->y.zero), high = (float)(j->high - j->y.zero);
    for (int64_t i = 0; i < count; i++) {
        float left = (float)(edge_byte(a[i], j->a.is_signed) - j->a.zero) * j->a.scale;
        float right = (float)(edge_byte(b[i], j->b.is_signed) - j->b.zero) * j->b.scale;
        y[i] = (uint8_t)((int32_t)nearbyintf(edge_clamp((left + right) / j->y.scale, low, high)) + j->y.zero);
    }
}
