/* Four bytes of a row against four of each column, as 16-bit numbers: exact, which products of bytes are not here. */
#include "rescale.h"

#define ROWS 6

/* count: up to 4, a constant but for the last bytes of a row; no call, which would put the sums into memory. */
EDGE_INLINE __m128i some_bytes(const uint8_t *p, int64_t count) {
    int32_t bytes;
    if (count == 4) memcpy(&bytes, p, 4);
    else bytes = p[0] | (count > 1 ? p[1] << 8 : 0) | (count > 2 ? p[2] << 16 : 0);
    return _mm_cvtsi32_si128(bytes);
}

/* Rows of four columns in each of two vectors, two partial sums a column. */
EDGE_INLINE void step(const int rows, const bool wide, const uint8_t *const *row, int64_t k, int64_t count,
                      bool is_signed, const int8_t *b, __m256i (*acc)[2]) {
    __m256i b0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)b)), b1 = b0;
    if (wide) b1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(b + 16)));
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        __m128i x = some_bytes(row[r] + k, count);
        __m256i all = _mm256_broadcastq_epi64(is_signed ? _mm_cvtepi8_epi16(x) : _mm_cvtepu8_epi16(x));
        acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(all, b0));
        if (wide) acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(all, b1));
    }
}

EDGE_INLINE void store(const edge_gemm_s8 *g, __m256i sum, int64_t left, int64_t r, int64_t column, void *c,
                       const float *add) {
    int64_t at = r * g->c_row + column;
    if (!g->to_f32) {
        e_store(&g->out, sum, left, column, (uint8_t *)c + at);
        return;
    }
    __m256i mask = e_mask(left);
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_maskload_ps(g->out.scale + column, mask));
    if (g->offset) y = _mm256_add_ps(y, _mm256_maskload_ps(g->offset + column, mask));
    if (add) y = _mm256_add_ps(y, _mm256_maskload_ps(add + r * g->add_row + column, mask));
    _mm256_maskstore_ps((float *)c + at, mask, e_clamp(y, g->out.low, g->out.high));
}

/* rows, wide and is_signed are constants where this is called. */
EDGE_INLINE void tile(const int rows, const bool wide, const bool is_signed, const edge_gemm_s8 *g,
                      const uint8_t *const *a, const int8_t *b, int64_t column, void *c, const float *add) {
    const int64_t width = wide ? 8 : 4;
    __m128i four = _mm_loadu_si128((const __m128i *)(const void *)b);
    __m256i acc[ROWS][2], sums = wide ? e_load(b) : _mm256_castsi128_si256(four);
    int64_t left = g->n - column < width ? g->n - column : width;
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    b += width * 4;
    for (int64_t t = 0; t < g->taps; t++) {
        const uint8_t *const *row = a + t;
        const uint8_t *at[ROWS];
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) at[r] = row[r * g->taps];
        int64_t k = 0;
        for (; k + 4 <= g->depth; k += 4, b += width * 4) step(rows, wide, at, k, 4, is_signed, b, acc);
        if (k == g->depth) continue;
        step(rows, wide, at, k, g->depth - k, is_signed, b, acc);
        b += width * 4;
    }
    __m256i start = e_start(&g->out, e_mask(left), column, sums);
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++) {
        __m256i sum = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[r][0], acc[r][1]), 0xd8);
        store(g, _mm256_add_epi32(start, sum), left, r, column, c, add);
    }
}

EDGE_INLINE void some_rows(const bool wide, const bool is_signed, int64_t rows, const edge_gemm_s8 *g,
                           const uint8_t *const *a, const int8_t *b, int64_t column, void *c, const float *add) {
    switch (rows) {
    case 1: tile(1, wide, is_signed, g, a, b, column, c, add); break;
    case 2: tile(2, wide, is_signed, g, a, b, column, c, add); break;
    case 3: tile(3, wide, is_signed, g, a, b, column, c, add); break;
    case 4: tile(4, wide, is_signed, g, a, b, column, c, add); break;
    case 5: tile(5, wide, is_signed, g, a, b, column, c, add); break;
    default: tile(ROWS, wide, is_signed, g, a, b, column, c, add);
    }
}

EDGE_INLINE void panels(const bool is_signed, const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c,
                        const float *add) {
    const int8_t *b = g->b;
    int64_t lines = 1 + g->taps * ((g->depth + 3) / 4), bytes = g->to_f32 ? 4 : 1;
    for (int64_t column = 0; column < g->n; column += 8) {
        bool wide = g->n - column > 4;
        for (int64_t r = 0, count; r < rows; r += count) {
            count = EDGE_TILE_ROWS(rows - r, ROWS);
            const uint8_t *const *from = a + r * g->taps;
            void *to = (uint8_t *)c + r * g->c_row * bytes;
            const float *more = add ? add + r * g->add_row : NULL;
            if (wide) some_rows(true, is_signed, count, g, from, b, column, to, more);
            else some_rows(false, is_signed, count, g, from, b, column, to, more);
        }
        b += (wide ? 32 : 16) * lines;
    }
}

void edge_gemm_s8_avx2(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    if (g->out.a_signed) panels(true, g, rows, a, c, add);
    else panels(false, g, rows, a, c, add);
}
