/* From an exact sum to a byte, one value at a time. */
#ifndef EDGE_RESCALE_H
#define EDGE_RESCALE_H

#include <math.h>
#include <string.h>

#include "edge_kernels.h"

static inline int32_t edge_byte(uint8_t q, int32_t is_signed) { return is_signed ? (int8_t)q : q; }

/* low where x is NaN. */
static inline float edge_clamp(float x, float low, float high) { return x > low ? (x < high ? x : high) : low; }

/* Sums wrap around, as those of vectors do. */
static inline int32_t edge_plus(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

/* What a sum begins with: the bias, and the zero point as often as there are weights. */
static inline int32_t edge_start(const edge_rescale *out, int64_t at, int32_t weights) {
    uint32_t bias = out->bias ? (uint32_t)out->bias[at] : 0;
    return (int32_t)(bias - (uint32_t)out->a_zero * (uint32_t)weights);
}

static inline uint8_t edge_rescaled(const edge_rescale *out, int64_t at, int32_t sum) {
    float zero = (float)out->zero, y = (float)sum * out->scale[at];
    return (uint8_t)((int32_t)nearbyintf(edge_clamp(y, out->low - zero, out->high - zero)) + out->zero);
}

#endif
