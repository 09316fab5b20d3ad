/* AVX-512 for a processor with AVX2: what the kernels use of it, by SIMDe, and here what SIMDe 0.7.4 does not have. */
#ifndef EMULATED_AVX512_H
#define EMULATED_AVX512_H

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <string.h>

/* As the processor does, these touch no memory that the mask leaves out. */
#define EMULATED_LOAD(name, vector, mask, lanes)                                                                       \
    static inline vector emulated_##name(mask kept, const void *from) {                                                \
        enum { BYTES = sizeof(vector) / (lanes) };                                                                     \
        vector v;                                                                                                      \
        memset(&v, 0, sizeof v);                                                                                       \
        for (int i = 0; i < (lanes); i++)                                                                              \
            if (kept >> i & 1) memcpy((char *)&v + i * BYTES, (const char *)from + i * BYTES, BYTES);                  \
        return v;                                                                                                      \
    }
EMULATED_LOAD(mm_maskz_loadu_epi8, __m128i, __mmask16, 16)
EMULATED_LOAD(mm512_maskz_loadu_epi8, __m512i, __mmask64, 64)
EMULATED_LOAD(mm512_maskz_loadu_epi32, __m512i, __mmask16, 16)
EMULATED_LOAD(mm512_maskz_loadu_ps, __m512, __mmask16, 16)
#define _mm_maskz_loadu_epi8 emulated_mm_maskz_loadu_epi8
#define _mm512_maskz_loadu_epi8 emulated_mm512_maskz_loadu_epi8
#define _mm512_maskz_loadu_epi32 emulated_mm512_maskz_loadu_epi32
#define _mm512_maskz_loadu_ps emulated_mm512_maskz_loadu_ps

#define EMULATED_STORE(name, vector, mask, lanes)                                                                      \
    static inline void emulated_##name(void *to, mask kept, vector v) {                                                \
        enum { BYTES = sizeof(vector) / (lanes) };                                                                     \
        for (int i = 0; i < (lanes); i++)                                                                              \
            if (kept >> i & 1) memcpy((char *)to + i * BYTES, (const char *)&v + i * BYTES, BYTES);                    \
    }
EMULATED_STORE(mm_mask_storeu_epi8, __m128i, __mmask16, 16)
EMULATED_STORE(mm256_mask_storeu_epi8, __m256i, __mmask32, 32)
EMULATED_STORE(mm512_mask_storeu_epi8, __m512i, __mmask64, 64)
EMULATED_STORE(mm512_mask_storeu_ps, __m512, __mmask16, 16)
#define _mm_mask_storeu_epi8 emulated_mm_mask_storeu_epi8
#define _mm256_mask_storeu_epi8 emulated_mm256_mask_storeu_epi8
#define _mm512_mask_storeu_epi8 emulated_mm512_mask_storeu_epi8
#define _mm512_mask_storeu_ps emulated_mm512_mask_storeu_ps

/* Half by half, as AVX has them. */
#define EMULATED_HALVES(name, vector, half, result, half_result)                                                       \
    static inline result emulated_mm512_##name(vector v) {                                                             \
        half given[2];                                                                                                 \
        memcpy(given, &v, sizeof given);                                                                               \
        half_result made[2] = {_mm256_##name(given[0]), _mm256_##name(given[1])};                                      \
        result all;                                                                                                    \
        memcpy(&all, made, sizeof all);                                                                                \
        return all;                                                                                                    \
    }
EMULATED_HALVES(cvtepi32_ps, __m512i, __m256i, __m512, __m256)
EMULATED_HALVES(cvtps_epi32, __m512, __m256, __m512i, __m256i)
#define _mm512_cvtepi32_ps emulated_mm512_cvtepi32_ps
#define _mm512_cvtps_epi32 emulated_mm512_cvtps_epi32

#define EMULATED_REDUCE(name, combined)                                                                                \
    static inline float emulated_mm512_##name(__m512 v) {                                                              \
        float lane[16];                                                                                                \
        memcpy(lane, &v, sizeof lane);                                                                                 \
        for (int half = 8; half > 0; half /= 2)                                                                        \
            for (int i = 0; i < half; i++) lane[i] = combined(lane[i], lane[i + half]);                                \
        return lane[0];                                                                                                \
    }
#define EMULATED_SUM(a, b) ((a) + (b))
#define EMULATED_LARGER(a, b) ((a) > (b) ? (a) : (b))
EMULATED_REDUCE(reduce_add_ps, EMULATED_SUM)
EMULATED_REDUCE(reduce_max_ps, EMULATED_LARGER)
#define _mm512_reduce_add_ps emulated_mm512_reduce_add_ps
#define _mm512_reduce_max_ps emulated_mm512_reduce_max_ps

/* SIMDe has it, but inlined into every step of an unrolled loop it takes a compiler minutes. */
static __attribute__((noinline, unused)) __m512i emulated_mm512_dpbusd_epi32(__m512i sum, __m512i a, __m512i b) {
    return simde_mm512_dpbusd_epi32(sum, a, b);
}
#undef _mm512_dpbusd_epi32
#define _mm512_dpbusd_epi32 emulated_mm512_dpbusd_epi32

/* vector.h asks for it; before SIMDe it would mean that the processor has it. */
#define __AVX512F__ 1

#endif
