/* From exact sums to bytes, eight at once. */
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

EDGE_INLINE void e_store(const edge_rescale *out, __m256i sum, int64_t left, int64_t at, uint8_t *y) {
    float zero = (float)out->zero;
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_maskload_ps(out->scale + at, e_mask(left)));
    __m256i whole = _mm256_cvtps_epi32(e_clamp(v, out->low - zero, out->high - zero));
    __m256i bytes = _mm256_and_si256(_mm256_add_epi32(whole, _mm256_set1_epi32(out->zero)), _mm256_set1_epi32(255));
    __m256i pairs = _mm256_packus_epi32(bytes, bytes);
    pairs = _mm256_permute4x64_epi64(pairs, 0xd8);
    int64_t eight = _mm_cvtsi128_si64(_mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm_setzero_si128()));
    if (left >= 8) memcpy(y, &eight, 8);
    else memcpy(y, &eight, (size_t)left);
}

#endif
