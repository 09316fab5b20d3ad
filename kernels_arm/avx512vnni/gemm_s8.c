/* Four bytes of a row against four of each column at once, exact: vpdpbusd takes unsigned rows, signed ones are shifted
 * by 128 and their zero point with them. */
#include "rescale.h"

#define ROWS 12
#define WIDE 2
#define DEEP 2

/* `count` times four bytes of every row; rows, vectors, count and flip are constants where this is called. */
EDGE_INLINE void steps(const int rows, const int vectors, const int count, const bool flip, const uint8_t *const *row,
                       int64_t k, const int8_t *b, __m512i (*acc)[WIDE]) {
    __m512i w[DEEP][WIDE], turn = _mm512_set1_epi8(-128);
#pragma GCC unroll 2
    for (int s = 0; s < count; s++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) w[s][v] = _mm512_loadu_si512(b + (s * vectors + v) * 64);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int s = 0; s < count; s++) {
            int32_t bytes;
            memcpy(&bytes, row[r] + k + s * 4, sizeof bytes);
            __m512i x = _mm512_set1_epi32(bytes);
            if (flip) x = _mm512_xor_si512(x, turn);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], x, w[s][v]);
        }
}

/* Fewer than four bytes, the last ones; where a row has ended, b is zero. */
EDGE_INLINE void last_step(const int rows, const int vectors, const bool flip, const uint8_t *const *row, int64_t k,
                           int64_t count, const int8_t *b, __m512i (*acc)[WIDE]) {
    __mmask16 mask = e_mask(count);
    __m512i turn = _mm512_set1_epi8(flip ? -128 : 0);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512i x = _mm512_xor_si512(turn, _mm512_broadcastd_epi32(_mm_maskz_loadu_epi8(mask, row[r] + k)));
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], x, _mm512_loadu_si512(b + v * 64));
    }
}

/* Where the sums of a tile go to. */
typedef struct place {
    const edge_gemm_s8 *g;
    int64_t column;
    void *c;
    const float *add;
} place;

static __attribute__((noinline)) void store_floats(const place *p, int rows, int vectors, const __m512i *sum) {
    const edge_gemm_s8 *g = p->g;
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++, sum++) {
            int64_t at = p->column + v * 16;
            __mmask16 mask = e_mask(g->n - at);
            __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(*sum), _mm512_maskz_loadu_ps(mask, g->out.scale + at));
            if (g->offset) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, g->offset + at));
            if (p->add) y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, p->add + r * g->add_row + at));
            _mm512_mask_storeu_ps((float *)p->c + r * g->c_row + at, mask, e_clamp(y, g->out.low, g->out.high));
        }
}

/* Four vectors of sums at once: those of two rows, or of four. */
EDGE_INLINE void store_bytes(const int vectors, const place *p, int rows, const __m512i *sum) {
    const edge_gemm_s8 *g = p->g;
    e_bytes bytes = e_bytes_of(&g->out);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    int64_t left = g->n - p->column;
    __mmask32 mask = left >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << left) - 1;
    __m512 scale[WIDE];
    for (int v = 0; v < vectors; v++)
        scale[v] = _mm512_maskz_loadu_ps(e_mask(left - v * 16), g->out.scale + p->column + v * 16);
    uint8_t *to = (uint8_t *)p->c + p->column;
    for (int r = 0; r < rows; r += 4 / vectors, sum += 4) {
        __m512i whole[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) whole[i] = e_round(&bytes, sum[i], scale[i % vectors]);
        __m512i y = _mm512_permutexvar_epi32(order, e_pack(&bytes, whole));
        if (vectors == 2) {
            _mm256_mask_storeu_epi8(to, mask, _mm512_castsi512_si256(y));
            if (r + 1 < rows) _mm256_mask_storeu_epi8(to + g->c_row, mask, _mm512_extracti64x4_epi64(y, 1));
            to += 2 * g->c_row;
            continue;
        }
        uint8_t part[4][16];
        memcpy(part, &y, sizeof part);
        for (int i = 0; i < 4 && r + i < rows; i++, to += g->c_row)
            _mm_mask_storeu_epi8(to, (__mmask16)mask, _mm_loadu_si128((const __m128i *)(const void *)part[i]));
    }
}

static __attribute__((noinline)) void store_bytes_1(const place *p, int rows, const __m512i *sum) {
    store_bytes(1, p, rows, sum);
}
static __attribute__((noinline)) void store_bytes_2(const place *p, int rows, const __m512i *sum) {
    store_bytes(2, p, rows, sum);
}

EDGE_INLINE void tile(const int rows, const int vectors, const bool flip, const place *p, const uint8_t *const *a,
                      const int8_t *b) {
    const edge_gemm_s8 *g = p->g;
    __m512i acc[ROWS][WIDE];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        int64_t at = p->column + v * 16;
        __m512i start = e_start(&g->out, flip, e_mask(g->n - at), at, b + v * 64);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) acc[r][v] = start;
    }
    b += vectors * 64;
    for (int64_t t = 0; t < g->taps; t++) {
        const uint8_t *row[ROWS];
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) row[r] = a[r * g->taps + t];
        int64_t k = 0;
        for (; k + 4 * DEEP <= g->depth; k += 4 * DEEP, b += DEEP * vectors * 64)
            steps(rows, vectors, DEEP, flip, row, k, b, acc);
        for (; k + 4 <= g->depth; k += 4, b += vectors * 64) steps(rows, vectors, 1, flip, row, k, b, acc);
        if (k == g->depth) continue;
        last_step(rows, vectors, flip, row, k, g->depth - k, b, acc);
        b += vectors * 64;
    }
    __m512i sum[ROWS * WIDE + 3];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r * vectors + v] = acc[r][v];
#pragma GCC unroll 3
    for (int i = rows * vectors; i % 4; i++) sum[i] = _mm512_setzero_si512();
    if (g->to_f32) store_floats(p, rows, vectors, sum);
    else if (vectors == 1) store_bytes_1(p, rows, sum);
    else store_bytes_2(p, rows, sum);
}

EDGE_INLINE void some_rows(const int vectors, const bool flip, int64_t rows, const place *p, const uint8_t *const *a,
                           const int8_t *b) {
    switch (rows) {
    case 1: tile(1, vectors, flip, p, a, b); break;
    case 2: tile(2, vectors, flip, p, a, b); break;
    case 3: tile(3, vectors, flip, p, a, b); break;
    case 4: tile(4, vectors, flip, p, a, b); break;
    case 5: tile(5, vectors, flip, p, a, b); break;
    case 6: tile(6, vectors, flip, p, a, b); break;
    case 7: tile(7, vectors, flip, p, a, b); break;
    case 8: tile(8, vectors, flip, p, a, b); break;
    case 9: tile(9, vectors, flip, p, a, b); break;
    case 10: tile(10, vectors, flip, p, a, b); break;
    case 11: tile(11, vectors, flip, p, a, b); break;
    default: tile(ROWS, vectors, flip, p, a, b);
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
            place p = {g, column, (uint8_t *)c + r * g->c_row * bytes, add ? add + r * g->add_row : NULL};
            if (wide == WIDE) some_rows(WIDE, flip, count, &p, from, b);
            else some_rows(1, flip, count, &p, from, b);
        }
        b += wide * 64 * lines;
    }
}

void edge_gemm_s8_avx512vnni(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c,
                             const float *add) {
    if (g->out.a_signed) panels(true, g, rows, a, c, add);
    else panels(false, g, rows, a, c, add);
}
