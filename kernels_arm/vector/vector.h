/* Vectors of EDGE_LANES floats: compiler types, and the few operations that those do not have. */
#ifndef EDGE_VECTOR_H
#define EDGE_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "edge_kernels.h"

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define EDGE_JOIN_(a, b) a##_##b
#define EDGE_JOIN(a, b) EDGE_JOIN_(a, b)
/* The name of a kernel of this instruction set. */
#define EDGE_NAME(name) EDGE_JOIN(name, EDGE_SUFFIX)
#define EDGE_INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * EDGE_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * EDGE_LANES)));

EDGE_INLINE vf v_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
EDGE_INLINE void v_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
/* x in every lane: x - 0 is x, signed zeros and NaN included. */
EDGE_INLINE vf v_set(float x) { return x - (vf){0}; }
/* Bits of yes where mask is all ones, of no where it is zero. */
EDGE_INLINE vf v_pick(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* a * b + c, rounded once or twice. */
#if defined(__wasm_relaxed_simd__)
EDGE_INLINE vf v_madd(vf a, vf b, vf c) { return (vf)__builtin_wasm_relaxed_madd_f32x4(a, b, c); }
#else
EDGE_INLINE vf v_madd(vf a, vf b, vf c) { return a * b + c; }
#endif

#if defined(__AVX512F__) && EDGE_LANES == 16
EDGE_INLINE __mmask16 v_mask(int64_t count) { return (__mmask16)((1u << count) - 1); }
EDGE_INLINE vf v_load_some(const float *p, int64_t count) { return (vf)_mm512_maskz_loadu_ps(v_mask(count), p); }
EDGE_INLINE void v_store_some(float *p, vf v, int64_t count) { _mm512_mask_storeu_ps(p, v_mask(count), (__m512)v); }
/* The second operand where either is NaN. */
EDGE_INLINE vf v_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
EDGE_INLINE vf v_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__) && EDGE_LANES == 8
EDGE_INLINE __m256i v_mask(int64_t count) {
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - count));
}
EDGE_INLINE vf v_load_some(const float *p, int64_t count) { return (vf)_mm256_maskload_ps(p, v_mask(count)); }
EDGE_INLINE void v_store_some(float *p, vf v, int64_t count) { _mm256_maskstore_ps(p, v_mask(count), (__m256)v); }
EDGE_INLINE vf v_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
EDGE_INLINE vf v_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
#else
EDGE_INLINE vf v_load_some(const float *p, int64_t count) {
    vf v = {0};
    for (int64_t i = 0; i < count; i++) v[i] = p[i];
    return v;
}
EDGE_INLINE void v_store_some(float *p, vf v, int64_t count) {
    for (int64_t i = 0; i < count; i++) p[i] = v[i];
}
#ifdef __wasm__
/* By name: from a comparison clang makes relaxed_min where there is one, which gives either operand for NaN. */
EDGE_INLINE vf v_min(vf a, vf b) { return (vf)__builtin_wasm_pmin_f32x4(b, a); }
EDGE_INLINE vf v_max(vf a, vf b) { return (vf)__builtin_wasm_pmax_f32x4(b, a); }
#else
EDGE_INLINE vf v_min(vf a, vf b) { return v_pick(a < b, a, b); }
EDGE_INLINE vf v_max(vf a, vf b) { return v_pick(a > b, a, b); }
#endif
#endif

/* NaN stays NaN: it is the second operand. */
EDGE_INLINE vf v_clamp(vf v, vf low, vf high) { return v_min(high, v_max(low, v)); }

/* Halves onto each other: four steps for sixteen lanes instead of sixteen. */
#define EDGE_HALVES(v, combine)                                                                                        \
    float lane[EDGE_LANES];                                                                                            \
    memcpy(lane, &(v), sizeof lane);                                                                                   \
    for (int half = EDGE_LANES / 2; half > 0; half /= 2)                                                               \
        for (int i = 0; i < half; i++) lane[i] = combine(lane[i], lane[i + half]);                                     \
    return lane[0]

#if defined(__AVX512F__) && EDGE_LANES == 16
EDGE_INLINE float v_sum(vf v) { return _mm512_reduce_add_ps((__m512)v); }
EDGE_INLINE float v_largest(vf v) {
    return _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q) ? NAN : _mm512_reduce_max_ps((__m512)v);
}
#else
#define EDGE_PLUS(a, b) ((a) + (b))
#define EDGE_LARGER(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
EDGE_INLINE float v_sum(vf v) { EDGE_HALVES(v, EDGE_PLUS); }
EDGE_INLINE float v_largest(vf v) { EDGE_HALVES(v, EDGE_LARGER); }
#endif

#endif
