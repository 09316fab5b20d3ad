/* From exact sums to bytes. */
#ifndef EDGE_AVX2_RESCALE_H
#define EDGE_AVX2_RESCALE_H

#include <immintrin.h>
#include <stdbool.h>
#include <string.h>

#include "edge_kernels.h"

#define EDGE_INLINE static inline __attribute__((always_inline))

EDGE_INLINE __m256i e_mask(int64_t left) {
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - (left < 0 ? 0 : left < 8 ? left : 8)));
}

EDGE_INLINE __m256i e_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* low where v is NaN. */
EDGE_INLINE __m256 e_clamp(__m256 v, float low, float high) {
    return _mm256_min_ps(_mm256_max_ps(v, _mm256_set1_ps(low)), _mm256_set1_ps(high));
}

/* What sums begin with; weights: the sums of the weights of each. */
EDGE_INLINE __m256i e_start(const edge_rescale *out, __m256i mask, int64_t at, __m256i weights) {
    __m256i bias = out->bias ? _mm256_maskload_epi32(out->bias + at, mask) : _mm256_setzero_si256();
    return _mm256_sub_epi32(bias, _mm256_mullo_epi32(_mm256_set1_epi32(out->a_zero), weights));
}

/* Sums on the grid of the result. */
EDGE_INLINE __m256i e_whole(const edge_rescale *out, __m256i sum, __m256 scale) {
    float zero = (float)out->zero;
    __m256 v = e_clamp(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale), out->low - zero, out->high - zero);
    return _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(out->zero));
}

/* Two such vectors as 16-bit numbers that bytes can be made of, their halves taking turns. */
EDGE_INLINE __m256i e_pairs(__m256i a, __m256i b) {
    return _mm256_and_si256(_mm256_packs_epi32(a, b), _mm256_set1_epi16(255));
}

#endif
