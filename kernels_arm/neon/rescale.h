/* From exact sums to bytes and floats, four at once. */
#ifndef EDGE_NEON_RESCALE_H
#define EDGE_NEON_RESCALE_H

#include <arm_neon.h>
#include <string.h>

#include "vector.h"

/* Bytes in memory are signed here: unsigned ones are shifted by 128, and their zero point with them. */
EDGE_INLINE uint8x16_t e_turn(const edge_rescale *out) { return vdupq_n_u8(out->a_signed ? 0 : 128); }
EDGE_INLINE int8x16_t e_turned(uint8x16_t bytes, uint8x16_t turn) { return vreinterpretq_s8_u8(veorq_u8(bytes, turn)); }

/* Up to four numbers of 32 bits, zeros behind them. */
EDGE_INLINE int32x4_t e_some(const void *from, int64_t left) {
    int32_t part[4] = {0};
    if (left >= 4) return vreinterpretq_s32_u8(vld1q_u8(from));
    memcpy(part, from, (size_t)left * 4);
    return vld1q_s32(part);
}

/* low where v is NaN. */
EDGE_INLINE float32x4_t e_clamp(float32x4_t v, float low, float high) {
    return vminnmq_f32(vmaxnmq_f32(v, vdupq_n_f32(low)), vdupq_n_f32(high));
}

/* What sums begin with; weights: the sums of the weights of each. */
EDGE_INLINE int32x4_t e_start(const edge_rescale *out, int64_t left, int64_t at, int32x4_t weights) {
    int32x4_t bias = out->bias ? e_some(out->bias + at, left) : vdupq_n_s32(0);
    return vmlsq_n_s32(bias, weights, out->a_zero - (out->a_signed ? 0 : 128));
}

EDGE_INLINE float32x4_t e_scaled(const edge_rescale *out, int32x4_t sum, int64_t left, int64_t at) {
    return vmulq_f32(vcvtq_f32_s32(sum), vreinterpretq_f32_s32(e_some(out->scale + at, left)));
}

EDGE_INLINE void e_store(const edge_rescale *out, int32x4_t sum, int64_t left, int64_t at, uint8_t *y) {
    float zero = (float)out->zero;
    float32x4_t v = e_clamp(e_scaled(out, sum, left, at), out->low - zero, out->high - zero);
    int16x4_t whole = vmovn_s32(vaddq_s32(vcvtnq_s32_f32(v), vdupq_n_s32(out->zero)));
    uint32_t four = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(whole, whole))), 0);
    if (left >= 4) memcpy(y, &four, 4);
    else memcpy(y, &four, (size_t)left);
}

#endif
