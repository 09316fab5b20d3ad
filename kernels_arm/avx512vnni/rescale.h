/* From exact sums to bytes, sixty-four at once. */
#ifndef EDGE_AVX512VNNI_RESCALE_H
#define EDGE_AVX512VNNI_RESCALE_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "edge_kernels.h"

#define EDGE_INLINE static inline __attribute__((always_inline))

EDGE_INLINE __mmask16 e_mask(int64_t left) {
    return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1 << left) - 1);
}

/* low where v is NaN. */
EDGE_INLINE __m512 e_clamp(__m512 v, float low, float high) {
    return _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(low)), _mm512_set1_ps(high));
}

/* What sums begin with; weights: the sums of the weights of each. */
EDGE_INLINE __m512i e_start(const edge_rescale *out, bool flip, __mmask16 mask, int64_t at, const void *weights) {
    __m512i zero = _mm512_set1_epi32(out->a_zero + (flip ? 128 : 0));
    __m512i bias = out->bias ? _mm512_maskz_loadu_epi32(mask, out->bias + at) : _mm512_setzero_si512();
    return _mm512_sub_epi32(bias, _mm512_mullo_epi32(zero, _mm512_loadu_si512(weights)));
}

/* An edge_rescale in vectors. */
typedef struct e_bytes {
    __m512 most;
    __m512i zero, low, high;
    bool is_signed;
} e_bytes;

EDGE_INLINE e_bytes e_bytes_of(const edge_rescale *out) {
    e_bytes y = {_mm512_set1_ps(out->high - (float)out->zero), _mm512_set1_epi16((int16_t)out->zero),
                 _mm512_set1_epi8((char)(int32_t)out->low), _mm512_set1_epi8((char)(int32_t)out->high), out->low < 0};
    return y;
}

/* The least integer where v is NaN: the first operand of min is not. */
EDGE_INLINE __m512i e_round(const e_bytes *y, __m512i sum, __m512 scale) {
    return _mm512_cvtps_epi32(_mm512_min_ps(y->most, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale)));
}

/* Four vectors of whole numbers as bytes; every quarter of the result holds a quarter of each, in their order. */
EDGE_INLINE __m512i e_pack(const e_bytes *y, const __m512i *whole) {
    __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(whole[0], whole[1]), y->zero);
    __m512i b = _mm512_adds_epi16(_mm512_packs_epi32(whole[2], whole[3]), y->zero);
    if (y->is_signed) return _mm512_min_epi8(_mm512_max_epi8(_mm512_packs_epi16(a, b), y->low), y->high);
    return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(a, b), y->low), y->high);
}

/* Rows and columns of a square of 4 x 4 quarters. */
EDGE_INLINE void e_transpose(__m512i *v) {
    __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[2], v[3], 0x44);
    __m512i c = _mm512_shuffle_i32x4(v[0], v[1], 0xee), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
    v[0] = _mm512_shuffle_i32x4(a, b, 0x88);
    v[1] = _mm512_shuffle_i32x4(a, b, 0xdd);
    v[2] = _mm512_shuffle_i32x4(c, d, 0x88);
    v[3] = _mm512_shuffle_i32x4(c, d, 0xdd);
}

#endif
