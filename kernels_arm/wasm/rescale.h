/* From exact sums to bytes and floats, four at once. */
#ifndef EDGE_WASM_RESCALE_H
#define EDGE_WASM_RESCALE_H

#include <string.h>
#include <wasm_simd128.h>

#include "vector.h"

/* Bytes in memory are signed here: unsigned ones are shifted by 128, and their zero point with them. */
EDGE_INLINE v128_t e_turn(const edge_rescale *out) { return wasm_i8x16_splat(out->a_signed ? 0 : -128); }
EDGE_INLINE v128_t e_widened(v128_t bytes, v128_t turn) {
    return wasm_i16x8_extend_low_i8x16(wasm_v128_xor(bytes, turn));
}

/* Fewer than four numbers of 32 bits, zeros behind them. */
static __attribute__((noinline)) v128_t e_few(const void *from, int64_t left) {
    int32_t part[4] = {0};
    memcpy(part, from, (size_t)left * 4);
    return wasm_v128_load(part);
}

/* Up to four. */
EDGE_INLINE v128_t e_some(const void *from, int64_t left) {
    return left < 4 ? e_few(from, left) : wasm_v128_load(from);
}

/* low where v is NaN: pmax is its first operand then. */
EDGE_INLINE v128_t e_clamp(v128_t v, float low, float high) {
    return wasm_f32x4_pmin(wasm_f32x4_splat(high), wasm_f32x4_pmax(wasm_f32x4_splat(low), v));
}

/* What sums begin with; weights: the sums of the weights of each. */
EDGE_INLINE v128_t e_start(const edge_rescale *out, int64_t left, int64_t at, v128_t weights) {
    v128_t bias = out->bias ? e_some(out->bias + at, left) : wasm_i32x4_splat(0);
    return wasm_i32x4_sub(bias, wasm_i32x4_mul(wasm_i32x4_splat(out->a_zero - (out->a_signed ? 0 : 128)), weights));
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
