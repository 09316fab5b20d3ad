/* Four bytes of a row against four of each column at once, exact: vpdpbusd takes unsigned rows, signed ones are shifted
 * by 128 and their zero point with them. */
#include "rescale.h"

#define ROWS 12
#define WIDE 2

/* A call of memcpy would put every sum into memory. */
EDGE_INLINE uint32_t few(const uint8_t *row, int64_t count) {
    uint32_t bytes = row[0];
    if (count > 1) bytes |= (uint32_t)row[1] << 8;
    if (count > 2) bytes |= (uint32_t)row[2] << 16;
    return bytes;
}

EDGE_INLINE __m512i four(const uint8_t *row, int64_t count, bool flip) {
    uint32_t bytes;
    if (count == 4) memcpy(&bytes, row, 4);
    else bytes = few(row, count);
    return _mm512_set1_epi32((int32_t)(flip ? bytes ^ 0x80808080u : bytes));
}

/* rows, vectors and flip are constants where this is called. */
EDGE_INLINE void step(const int rows, const int vectors, const bool flip, const uint8_t *const *row, int64_t k,
                      int64_t count, const int8_t *b, __m512i (*acc)[WIDE]) {
    __m512i b0 = _mm512_loadu_si512(b), b1 = vectors > 1 ? _mm512_loadu_si512(b + 64) : b0;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512i x = four(row[r] + k, count, flip);
        acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], x, b0);
        if (vectors > 1) acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], x, b1);
    }
}

EDGE_INLINE void store(const edge_gemm_s8 *g, __m512i sum, __mmask16 mask, int64_t r, int64_t column, void *c,
                       const float *add) {
    int64_t at = r * g->c_row + column;
    if (!g->to_f32) {
        e_store(&g->out, sum, mask, column, (uint8_t *)c + at);
        return;
    }
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_maskz_loadu_ps(mask, g->out.scale + column));
    if (g->offset) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, g->offset + column));
    if (add) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, add + r * g->add_row + column));
    _mm512_mask_storeu_ps((float *)c + at, mask, e_clamp(y, g->out.low, g->out.high));
}

EDGE_INLINE void tile(const int rows, const int vectors, const bool flip, const edge_gemm_s8 *g,
                      const uint8_t *const *a, const int8_t *b, int64_t column, void *c, const float *add) {
    __m512i acc[ROWS][WIDE];
    __mmask16 mask[WIDE];
    for (int v = 0; v < vectors; v++) {
        mask[v] = e_mask(g->n - column - v * 16);
        __m512i start = e_start(&g->out, flip, mask[v], column + v * 16, b + v * 64);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) acc[r][v] = start;
    }
    b += vectors * 64;
    for (int64_t t = 0; t < g->taps; t++) {
        const uint8_t *row[ROWS];
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) row[r] = a[r * g->taps + t];
        int64_t k = 0;
        for (; k + 4 <= g->depth; k += 4, b += vectors * 64) step(rows, vectors, flip, row, k, 4, b, acc);
        if (k == g->depth) continue;
        step(rows, vectors, flip, row, k, g->depth - k, b, acc);
        b += vectors * 64;
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) store(g, acc[r][v], mask[v], r, column + v * 16, c, add);
}

EDGE_INLINE void some_rows(const int vectors, const bool flip, int64_t rows, const edge_gemm_s8 *g,
                           const uint8_t *const *a, const int8_t *b, int64_t column, void *c, const float *add) {
    switch (rows) {
    case 1: tile(1, vectors, flip, g, a, b, column, c, add); break;
    case 2: tile(2, vectors, flip, g, a, b, column, c, add); break;
    case 3: tile(3, vectors, flip, g, a, b, column, c, add); break;
    case 4: tile(4, vectors, flip, g, a, b, column, c, add); break;
    case 5: tile(5, vectors, flip, g, a, b, column, c, add); break;
    case 6: tile(6, vectors, flip, g, a, b, column, c, add); break;
    case 7: tile(7, vectors, flip, g, a, b, column, c, add); break;
    case 8: tile(8, vectors, flip, g, a, b, column, c, add); break;
    case 9: tile(9, vectors, flip, g, a, b, column, c, add); break;
    case 10: tile(10, vectors, flip, g, a, b, column, c, add); break;
    case 11: tile(11, vectors, flip, g, a, b, column, c, add); break;
    default: tile(ROWS, vectors, flip, g, a, b, column, c, add);
    }
}

EDGE_INLINE void panels(const bool flip, const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c,
                        const float *add) {
    const int8_t *b = g->b;
    int64_t lines = 1 + g->taps * ((g->depth + 3) / 4), bytes = g->to_f32 ? 4 : 1;
    for (int64_t column = 0; column < g->n; column += WIDE * 16) {
        int wide = g->n - column > 16 ? WIDE : 1;
        for (int64_t r = 0; r < rows; r += ROWS) {
            int64_t count = rows - r < ROWS ? rows - r : ROWS;
            const uint8_t *const *from = a + r * g->taps;
            void *to = (uint8_t *)c + r * g->c_row * bytes;
            const float *more = add ? add + r * g->add_row : NULL;
            if (wide == WIDE) some_rows(WIDE, flip, count, g, from, b, column, to, more);
            else some_rows(1, flip, count, g, from, b, column, to, more);
        }
        b += wide * 64 * lines;
    }
}

void edge_gemm_s8_avx512vnni(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c,
                             const float *add) {
    if (g->out.a_signed) panels(true, g, rows, a, c, add);
    else panels(false, g, rows, a, c, add);
}
