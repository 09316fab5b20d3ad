/* Four bytes of a row against four of each column, as 16-bit numbers: exact, which products of bytes are not here.
 * Rows are made 16-bit once for all columns, as much of their depth as fits. */
#include "edge_blocks.h"
#include "rescale.h"

enum { ROWS = 4, MOST_ROWS = 8 /* with blocks */, MOST_FOURS = 768, PANELS_BYTES = 128 << 10 /* what stays in the second cache beside the rows */ };

/* Rows of a tile: [four][row][4]. */
typedef struct {
    int16_t of[MOST_FOURS * ROWS * 4];
} wide_rows;

static int64_t fours_of(const edge_gemm_s8 *g) { return g->taps * ((g->depth + 3) / 4); }

/* Up to four bytes, zeros behind them. */
EDGE_INLINE __m128i some_bytes(const uint8_t *p, int64_t count) {
    int32_t bytes;
    if (count >= 4) memcpy(&bytes, p, 4);
    else bytes = p[0] | (count > 1 ? p[1] << 8 : 0) | (count > 2 ? p[2] << 16 : 0);
    return _mm_cvtsi32_si128(bytes);
}

/* count bytes of one row, zeros behind them to a multiple of four, signed or not. */
EDGE_INLINE void widen_row(const int rows, bool is_signed, const uint8_t *from, int64_t count, int16_t *to) {
    int64_t k = 0;
    for (; k + 8 <= count; k += 8, to += 2 * rows * 4) {
        __m128i x = _mm_loadl_epi64((const __m128i *)(const void *)(from + k));
        x = is_signed ? _mm_cvtepi8_epi16(x) : _mm_cvtepu8_epi16(x);
        _mm_storel_epi64((__m128i *)(void *)to, x);
        _mm_storeh_pd((double *)(void *)(to + rows * 4), _mm_castsi128_pd(x));
    }
    for (; k < count; k += 4, to += rows * 4) {
        __m128i x = some_bytes(from + k, count - k);
        _mm_storel_epi64((__m128i *)(void *)to, is_signed ? _mm_cvtepi8_epi16(x) : _mm_cvtepu8_epi16(x));
    }
}

/* Fours of a tile's rows, of which `there` are there, from the first of a row's on; a row's taps lie one after the other, each
 * filled up. */
EDGE_INLINE void widen(const int rows, int64_t there, const edge_gemm_s8 *g, const uint8_t *const *a, int64_t first,
                       int64_t fours, int16_t *to) {
    const int64_t of_tap = (g->depth + 3) / 4;
    for (int64_t done = 0; done < fours;) {
        int64_t tap = (first + done) / of_tap, at = (first + done) % of_tap;
        int64_t count = of_tap - at < fours - done ? of_tap - at : fours - done;
        int64_t bytes = g->depth - at * 4 < count * 4 ? g->depth - at * 4 : count * 4;
        for (int r = 0; r < rows; r++)
            widen_row(rows, g->out.a_signed, a[(r < there ? r : 0) * g->taps + tap] + at * 4, bytes, to + (done * rows + r) * 4);
        done += count;
    }
}

/* sum += a four of a row, times those of four columns.  It stays in its register: else the compiler, which wants to keep
 * it twice in a loop, has too few of them. */
EDGE_INLINE void add_product(__m256i *sum, __m256i x, __m256i b) {
    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, b));
    __asm__("" : "+x"(*sum));
}

/* Rows of four columns in each of two vectors, two partial sums a column. */
EDGE_INLINE void multiply(const int rows, const bool wide, const int16_t *a, const int8_t *b, int64_t fours,
                          __m256i (*acc)[2]) {
    for (int64_t k = 0; k < fours; k++, a += rows * 4, b += wide ? 32 : 16) {
        __m256i b0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)b)), b1 = b0;
        if (wide) b1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(b + 16)));
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m256i x = _mm256_castpd_si256(_mm256_broadcast_sd((const double *)(const void *)(a + r * 4)));
            add_product(&acc[r][0], x, b0);
            if (wide) add_product(&acc[r][1], x, b1);
        }
    }
}

EDGE_INLINE void store_floats(const int rows, const edge_gemm_s8 *g, const __m256i *sum, int64_t column, float *c,
                              const float *add) {
    int64_t left = g->n - column;
    __m256i mask = e_mask(left);
    __m256 scale = _mm256_maskload_ps(g->out.scale + column, mask);
    __m256 offset = g->offset ? _mm256_maskload_ps(g->offset + column, mask) : _mm256_setzero_ps();
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r]), scale);
        if (g->offset) y = _mm256_add_ps(y, offset);
        if (add) y = _mm256_add_ps(y, _mm256_maskload_ps(add + r * g->add_row + column, mask));
        y = e_clamp(y, g->out.low, g->out.high);
        if (left >= 8) _mm256_storeu_ps(c + r * g->c_row + column, y);
        else _mm256_maskstore_ps(c + r * g->c_row + column, mask, y); /* slow on some processors */
    }
}

EDGE_INLINE void store_bytes(const int rows, const edge_gemm_s8 *g, const __m256i *sum, int64_t column, uint8_t *c) {
    int64_t left = g->n - column < 8 ? g->n - column : 8;
    __m256 scale = _mm256_maskload_ps(g->out.scale + column, e_mask(left));
    __m256i whole[ROWS] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256()};
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) whole[r] = e_whole(&g->out, sum[r], scale);
    __m256i bytes = _mm256_packus_epi16(e_pairs(whole[0], whole[1]), e_pairs(whole[2], whole[3]));
    int64_t eight[ROWS];
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)eight, bytes);
    for (int r = 0; r < rows; r++) {
        uint8_t *to = c + r * g->c_row + column;
        if (left == 8) memcpy(to, &eight[r], 8);
        else memcpy(to, &eight[r], (size_t)left);
    }
}

/* One panel of columns; what the rows hold of the depth is there already if that is all of it. */
EDGE_INLINE void tile(const int rows, const bool wide, const edge_gemm_s8 *g, const uint8_t *const *a, wide_rows *held,
                      const int8_t *b, int64_t column, void *c, const float *add) {
    const int64_t width = wide ? 8 : 4, fours = fours_of(g);
    __m128i four = _mm_loadu_si128((const __m128i *)(const void *)b);
    __m256i acc[ROWS][2], sums = wide ? e_load(b) : _mm256_castsi128_si256(four);
    int64_t left = g->n - column < width ? g->n - column : width;
    for (int r = 0; r < rows; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    b += width * 4;
    for (int64_t k = 0, count; k < fours; k += count, b += width * 4 * count) {
        count = fours - k < MOST_FOURS ? fours - k : MOST_FOURS;
        if (fours > MOST_FOURS) widen(rows, rows, g, a, k, count, held->of);
        multiply(rows, wide, held->of, b, count, acc);
    }
    __m256i start = e_start(&g->out, e_mask(left), column, sums), sum[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        sum[r] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[r][0], acc[r][1]), 0xd8);
        sum[r] = _mm256_add_epi32(start, sum[r]);
    }
    if (g->to_f32) store_floats(rows, g, sum, column, c, add);
    else store_bytes(rows, g, sum, column, c);
}

/* Panels of some columns, from one on. */
EDGE_INLINE void panels(const int rows, const edge_gemm_s8 *g, const uint8_t *const *a, int64_t column, int64_t end,
                        void *c, const float *add) {
    const int64_t fours = fours_of(g);
    const int8_t *b = (const int8_t *)g->b + column * 4 * (1 + fours);
    wide_rows held;
    if (fours <= MOST_FOURS) widen(rows, rows, g, a, 0, fours, held.of);
    for (; end - column > 4; column += 8, b += 32 * (1 + fours)) tile(rows, true, g, a, &held, b, column, c, add);
    if (column < end) tile(rows, false, g, a, &held, b, column, c, add);
}

void edge_gemm_s8_avx2(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    int64_t bytes = g->to_f32 ? 4 : 1, block = PANELS_BYTES / (4 * fours_of(g) + 4) / 8 * 8;
    if (block < 64) block = 64;
    for (int64_t column = 0, end; column < g->n; column = end) {
        end = g->n - column < block ? g->n : column + block;
        for (int64_t r = 0, count; r < rows; r += count) {
            count = EDGE_TILE_ROWS(rows - r, ROWS);
            const uint8_t *const *from = a + r * g->taps;
            void *to = (uint8_t *)c + r * g->c_row * bytes;
            const float *more = add ? add + r * g->add_row : NULL;
            switch (count) {
            case 1: panels(1, g, from, column, end, to, more); break;
            case 2: panels(2, g, from, column, end, to, more); break;
            case 3: panels(3, g, from, column, end, to, more); break;
            default: panels(ROWS, g, from, column, end, to, more);
            }
        }
    }
}

/* ---- blocks ---- */

/* What the blocks of a group give for each row of a tile, in four columns. */
EDGE_INLINE void multiply_blocks(const int rows, const int16_t *a, const edge_blocks *b, int64_t group, int32_t (*sum)[8]) {
    const uint16_t *index = b->index + b->start[group], *end = b->index + b->start[group + 1];
    const int8_t *value = b->value + (int64_t)b->start[group] * 16;
    __m256i acc[MOST_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) acc[r] = _mm256_setzero_si256();
    for (; index < end; index++, value += 16) {
        const int16_t *x = a + *index * (rows * 4);
        __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)value));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            add_product(&acc[r], _mm256_castpd_si256(_mm256_broadcast_sd((const double *)(const void *)(x + r * 4))), w);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r += 2) {
        __m256i both = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[r], acc[r + 1]), 0xd8);
        _mm_storeu_si128((__m128i *)(void *)sum[r], _mm256_castsi256_si128(both));
        _mm_storeu_si128((__m128i *)(void *)sum[r + 1], _mm256_extracti128_si256(both, 1));
    }
}

/* From the sums of two groups to what they give. */
static __attribute__((noinline)) void finish(int64_t rows, const edge_gemm_s8 *g, const int32_t (*sums)[8],
                                             const int32_t *column_sums, int64_t column, void *c, const float *add) {
    __m256i mask = e_mask(g->n - column), sum[ROWS];
    __m256i start = e_start(&g->out, mask, column, _mm256_maskload_epi32(column_sums, mask));
    for (int64_t r = 0; r < rows; r += ROWS) {
        int count = rows - r < ROWS ? (int)(rows - r) : ROWS;
        for (int i = 0; i < ROWS; i++) sum[i] = _mm256_add_epi32(start, e_load(sums[r + i]));
        if (g->to_f32) store_floats(count, g, sum, column, (float *)c + r * g->c_row, add ? add + r * g->add_row : NULL);
        else store_bytes(count, g, sum, column, (uint8_t *)c + r * g->c_row);
    }
}

/* Two groups after two groups. */
EDGE_INLINE void groups(const int rows, int64_t there, const edge_gemm_s8 *g, const edge_blocks *b, const uint8_t *const *a,
                        int16_t *held, void *c, const float *add) {
    int32_t sums[MOST_ROWS][8] = {{0}};
    widen(rows, there, g, a, 0, fours_of(g), held);
    for (int64_t column = 0; column < g->n; column += 8) {
        int64_t group = (g->first + column) / 4;
        multiply_blocks(rows, held, b, group, sums);
        if (g->n - column > 4) multiply_blocks(rows, held, b, group + 1, (int32_t(*)[8])(void *)&sums[0][4]);
        finish(there, g, (const int32_t(*)[8])sums, b->sums + g->first + column, column, c, add);
    }
}

void edge_gemm_s8_4x4_avx2(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    int16_t held[EDGE_BLOCKS_MOST_FOURS * ROWS * 4];
    const edge_blocks b = edge_blocks_of(g->b);
    int64_t bytes = g->to_f32 ? 4 : 1, most = fours_of(g) * MOST_ROWS > EDGE_BLOCKS_MOST_FOURS * ROWS ? ROWS : MOST_ROWS;
    for (int64_t r = 0, count; r < rows; r += count) {
        count = rows - r < most ? rows - r : most;
        const uint8_t *const *from = a + r * g->taps;
        void *to = (uint8_t *)c + r * g->c_row * bytes;
        const float *more = add ? add + r * g->add_row : NULL;
        if (count > ROWS) groups(MOST_ROWS, count, g, &b, from, held, to, more);
        else groups(ROWS, count, g, &b, from, held, to, more);
    }
}
