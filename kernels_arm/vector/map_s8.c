/* Bytes to floats and back, in float32 as a file says it: no fused multiply-add, see CMakeLists.txt. */
#include <stdbool.h>

#include "vector.h"

/* EDGE_LANES bytes as whole numbers, and the lowest byte of each. */
#if defined(__AVX2__) && EDGE_LANES == 8 /* what GCC does there one by one */
EDGE_INLINE vi load_bytes(const uint8_t *q, bool is_signed) {
    __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)q);
    return (vi)(is_signed ? _mm256_cvtepi8_epi32(bytes) : _mm256_cvtepu8_epi32(bytes));
}
EDGE_INLINE void store_bytes(uint8_t *y, vi whole) {
    __m256i v = _mm256_and_si256((__m256i)whole, _mm256_set1_epi32(255));
    v = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0xd8);
    __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(v), _mm_setzero_si128());
    _mm_storel_epi64((__m128i *)(void *)y, bytes);
}
#else
typedef uint8_t vu __attribute__((vector_size(EDGE_LANES)));
typedef int8_t vs __attribute__((vector_size(EDGE_LANES)));

EDGE_INLINE vi load_bytes(const uint8_t *q, bool is_signed) {
    vu bytes;
    memcpy(&bytes, q, sizeof bytes);
    return is_signed ? __builtin_convertvector((vs)bytes, vi) : __builtin_convertvector(bytes, vi);
}
EDGE_INLINE void store_bytes(uint8_t *y, vi whole) {
    vu bytes = __builtin_convertvector(whole, vu);
    memcpy(y, &bytes, sizeof bytes);
}
#endif

/* q - zero of EDGE_LANES bytes. */
EDGE_INLINE vf widen(const uint8_t *q, const edge_grid *grid) {
    return __builtin_convertvector(load_bytes(q, grid->is_signed) - grid->zero, vf);
}

/* clamp(round(v)) + zero, as bytes; v below 2^22 after the clamp, so that adding 1.5 * 2^23 rounds. */
EDGE_INLINE void narrow(vf v, float low, float high, int32_t zero, uint8_t *y) {
    v = v_min(v_set(high), v_max(v, v_set(low)));
    store_bytes(y, (vi)(v + 12582912.0f) - 0x4b400000 + zero);
}

#define LOW(grid) ((float)(((grid)->is_signed ? -128 : 0) - (grid)->zero))
#define HIGH(grid) ((float)(((grid)->is_signed ? 127 : 255) - (grid)->zero))

void EDGE_NAME(edge_quantize_s8)(const edge_grid *grid, const float *x, uint8_t *y, int64_t count) {
    float low = LOW(grid), high = HIGH(grid);
    int64_t i = 0;
    for (; i + EDGE_LANES <= count; i += EDGE_LANES) narrow(v_load(x + i) / grid->scale, low, high, grid->zero, y + i);
    if (i == count) return;
    uint8_t part[EDGE_LANES];
    narrow(v_load_some(x + i, count - i) / grid->scale, low, high, grid->zero, part);
    memcpy(y + i, part, (size_t)(count - i));
}

void EDGE_NAME(edge_dequantize_s8)(const edge_grid *grid, const uint8_t *x, float *y, int64_t count) {
    int64_t i = 0;
    for (; i + EDGE_LANES <= count; i += EDGE_LANES) v_store(y + i, widen(x + i, grid) * grid->scale);
    if (i == count) return;
    uint8_t part[EDGE_LANES] = {0};
    memcpy(part, x + i, (size_t)(count - i));
    v_store_some(y + i, widen(part, grid) * grid->scale, count - i);
}

EDGE_INLINE vf sum(const edge_add_s8_job *j, const uint8_t *a, const uint8_t *b) {
    return (widen(a, &j->a) * j->a.scale + widen(b, &j->b) * j->b.scale) / j->y.scale;
}

void EDGE_NAME(edge_add_s8)(const edge_add_s8_job *j, const uint8_t *a, const uint8_t *b, uint8_t *y, int64_t count) {
    float low = (float)(j->low - j->y.zero), high = (float)(j->high - j->y.zero);
    int64_t i = 0;
    for (; i + EDGE_LANES <= count; i += EDGE_LANES) narrow(sum(j, a + i, b + i), low, high, j->y.zero, y + i);
    if (i == count) return;
    uint8_t left[EDGE_LANES] = {0}, right[EDGE_LANES] = {0}, part[EDGE_LANES];
    memcpy(left, a + i, (size_t)(count - i));
    memcpy(right, b + i, (size_t)(count - i));
    narrow(sum(j, left, right), low, high, j->y.zero, part);
    memcpy(y + i, part, (size_t)(count - i));
}

void EDGE_NAME(edge_range_f32)(const float *x, int64_t count, float *low, float *high) {
    vf least = {0}, most = {0};
    int64_t i = 0;
    for (; i < count; i += EDGE_LANES) {
        vf v = i + EDGE_LANES <= count ? v_load(x + i) : v_load_some(x + i, count - i);
        least = v_min(v, least); /* the second operand where v is NaN */
        most = v_max(v, most);
    }
    *low = *high = 0;
    for (int lane = 0; lane < EDGE_LANES; lane++) {
        if (least[lane] < *low) *low = least[lane];
        if (most[lane] > *high) *high = most[lane];
    }
}
