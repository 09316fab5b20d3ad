/* From exact sums to bytes, sixteen at once. */
#ifndef EDGE_AVX512VNNI_RESCALE_H
#define EDGE_AVX512VNNI_RESCALE_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "edge_kernels.h"

#define EDGE_INLINE static inline __attribute__((always_inline))

EDGE_INLINE __mmask16 e_mask(int64_t left) { return left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1 << left) - 1); }

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

EDGE_INLINE void e_store(const edge_rescale *out, __m512i sum, __mmask16 mask, int64_t at, uint8_t *y) {
    float zero = (float)out->zero;
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_maskz_loadu_ps(mask, out->scale + at));
    __m512i whole = _mm512_cvtps_epi32(e_clamp(v, out->low - zero, out->high - zero));
    _mm512_mask_cvtepi32_storeu_epi8(y, mask, _mm512_add_epi32(whole, _mm512_set1_epi32(out->zero)));
}

#endif
