/* From exact sums to bytes and floats, four at once. */
#ifndef EDGE_WASM_RESCALE_H
#define EDGE_WASM_RESCALE_H

#include <stdbool.h>
#include <string.h>
#include <wasm_simd128.h>

#include "vector.h"

/* Up to four numbers of 32 bits, zeros behind them. */
EDGE_INLINE v128_t e_some(const void *from, int64_t left) {
    int32_t part[4] = {0};
    if (left < 4) from = memcpy(part, from, (size_t)left * 4);
    return wasm_v128_load(from);
}

EDGE_INLINE v128_t e_widened(const bool is_signed, v128_t bytes) {
    return is_signed ? wasm_i16x8_extend_low_i8x16(bytes) : wasm_u16x8_extend_low_u8x16(bytes);
}

/* low where v is NaN: pmax is its first operand then. */
EDGE_INLINE v128_t e_clamp(v128_t v, float low, float high) {
    return wasm_f32x4_pmin(wasm_f32x4_splat(high), wasm_f32x4_pmax(wasm_f32x4_splat(low), v));
}

/* What sums begin with; weights: the sums of the weights of each. */
EDGE_INLINE v128_t e_start(const edge_rescale *out, int64_t left, int64_t at, v128_t weights) {
    v128_t bias = out->bias ? e_some(out->bias + at, left) : wasm_i32x4_splat(0);
    return wasm_i32x4_sub(bias, wasm_i32x4_mul(wasm_i32x4_splat(out->a_zero), weights));
}

EDGE_INLINE v128_t e_scaled(const edge_rescale *out, v128_t sum, int64_t left, int64_t at) {
    return wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sum), e_some(out->scale + at, left));
}

EDGE_INLINE void e_store(const edge_rescale *out, v128_t sum, int64_t left, int64_t at, uint8_t *y) {
    float zero = (float)out->zero;
    v128_t v = wasm_f32x4_nearest(e_clamp(e_scaled(out, sum, left, at), out->low - zero, out->high - zero));
    v128_t whole = wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(v), wasm_i32x4_splat(out->zero));
    v128_t bytes = wasm_i8x16_shuffle(whole, whole, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    int32_t four = wasm_i32x4_extract_lane(bytes, 0);
    if (left >= 4) memcpy(y, &four, 4);
    else memcpy(y, &four, (size_t)left);
}

#endif
