/* Four bytes of a row against four of each column at once, exact.  One side of vpdpbusd is unsigned: where rows are
 * signed, either they are shifted by 128 and their zero point with them, or columns are, and 128 times the sum of each
 * row is taken off. */
#include "edge_blocks.h"
#include "rescale.h"

#define ROWS 12
#define WIDE 2
#define DEEP 2
#define BLOCK (8 * ROWS) /* rows of which the sums are kept */
#define WORTH (64 * 128) /* columns times depth from which on the sums of rows take less time than shifting rows */

typedef enum shifted { NONE, THE_ROWS, THE_COLUMNS } shifted;

EDGE_INLINE __m512i shift(__m512i v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }

EDGE_INLINE __m512i columns(const shifted what, const int8_t *b) {
    __m512i w = _mm512_loadu_si512(b);
    return what == THE_COLUMNS ? shift(w) : w;
}

EDGE_INLINE __m512i plus(const shifted what, __m512i sum, __m512i row, __m512i column) {
    return what == THE_COLUMNS ? _mm512_dpbusd_epi32(sum, column, row) : _mm512_dpbusd_epi32(sum, row, column);
}

/* `count` times four bytes of every row; rows, vectors, count and what are constants where this is called. */
EDGE_INLINE void steps(const int rows, const int vectors, const int count, const shifted what,
                       const uint8_t *const *row, int64_t k, const int8_t *b, __m512i (*acc)[WIDE]) {
    __m512i w[DEEP][WIDE];
#pragma GCC unroll 2
    for (int s = 0; s < count; s++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) w[s][v] = columns(what, b + (s * vectors + v) * 64);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int s = 0; s < count; s++) {
            int32_t bytes;
            memcpy(&bytes, row[r] + k + s * 4, sizeof bytes);
            __m512i x = what == THE_ROWS ? shift(_mm512_set1_epi32(bytes)) : _mm512_set1_epi32(bytes);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) acc[r][v] = plus(what, acc[r][v], x, w[s][v]);
        }
}

/* Fewer than four bytes, the last ones; behind them is zero on the side that is not shifted. */
EDGE_INLINE void last_step(const int rows, const int vectors, const shifted what, const uint8_t *const *row, int64_t k,
                           int64_t count, const int8_t *b, __m512i (*acc)[WIDE]) {
    __mmask16 mask = e_mask(count);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        __m512i x = _mm512_broadcastd_epi32(_mm_maskz_loadu_epi8(mask, row[r] + k));
        if (what == THE_ROWS) x = shift(x);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) acc[r][v] = plus(what, acc[r][v], x, columns(what, b + v * 64));
    }
}

EDGE_INLINE __m512i sum_row(const edge_gemm_s8 *g, const uint8_t *const *tap) {
    const __m512i one = _mm512_set1_epi8(1);
    __mmask64 mask = ((__mmask64)1 << g->depth % 64) - 1;
    __m512i sum = _mm512_setzero_si512();
    for (int64_t t = 0; t < g->taps; t++) {
        int64_t k = 0;
        for (; k + 64 <= g->depth; k += 64) sum = _mm512_dpbusd_epi32(sum, one, _mm512_loadu_si512(tap[t] + k));
        if (mask) sum = _mm512_dpbusd_epi32(sum, one, _mm512_maskz_loadu_epi8(mask, tap[t] + k));
    }
    return sum;
}

EDGE_INLINE __m512i add_pairs(__m512i a, __m512i b) {
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

/* 128 times the sum of each row; excess has room for a multiple of four. */
static void sum_rows(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, int32_t *excess) {
    for (int64_t r = 0; r < rows; r += 4, excess += 4) {
        __m512i sum[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) sum[i] = sum_row(g, a + (r + i < rows ? r + i : r) * g->taps);
        __m512i low = add_pairs(sum[0], sum[2]), high = add_pairs(sum[1], sum[3]), all = add_pairs(low, high);
        __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
        __m128i four = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        _mm_storeu_si128((__m128i *)(void *)excess, _mm_slli_epi32(four, 7));
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

/* excess: what is taken off each row, where columns are shifted. */
EDGE_INLINE void tile(const int rows, const int vectors, const shifted what, const place *p, const uint8_t *const *a,
                      const int32_t *excess, const int8_t *b) {
    const edge_gemm_s8 *g = p->g;
    __m512i acc[ROWS][WIDE];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        int64_t at = p->column + v * 16;
        __m512i start = e_start(&g->out, what == THE_ROWS, e_mask(g->n - at), at, b + v * 64);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
            acc[r][v] = what == THE_COLUMNS ? _mm512_sub_epi32(start, _mm512_set1_epi32(excess[r])) : start;
    }
    b += vectors * 64;
    for (int64_t t = 0; t < g->taps; t++) {
        const uint8_t *row[ROWS];
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) row[r] = a[r * g->taps + t];
        int64_t k = 0;
        for (; k + 4 * DEEP <= g->depth; k += 4 * DEEP, b += DEEP * vectors * 64)
            steps(rows, vectors, DEEP, what, row, k, b, acc);
        for (; k + 4 <= g->depth; k += 4, b += vectors * 64) steps(rows, vectors, 1, what, row, k, b, acc);
        if (k == g->depth) continue;
        last_step(rows, vectors, what, row, k, g->depth - k, b, acc);
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

EDGE_INLINE void some_rows(const int vectors, const shifted what, int64_t rows, const place *p, const uint8_t *const *a,
                           const int32_t *excess, const int8_t *b) {
    switch (rows) {
    case 1: tile(1, vectors, what, p, a, excess, b); break;
    case 2: tile(2, vectors, what, p, a, excess, b); break;
    case 3: tile(3, vectors, what, p, a, excess, b); break;
    case 4: tile(4, vectors, what, p, a, excess, b); break;
    case 5: tile(5, vectors, what, p, a, excess, b); break;
    case 6: tile(6, vectors, what, p, a, excess, b); break;
    case 7: tile(7, vectors, what, p, a, excess, b); break;
    case 8: tile(8, vectors, what, p, a, excess, b); break;
    case 9: tile(9, vectors, what, p, a, excess, b); break;
    case 10: tile(10, vectors, what, p, a, excess, b); break;
    case 11: tile(11, vectors, what, p, a, excess, b); break;
    default: tile(ROWS, vectors, what, p, a, excess, b);
    }
}

EDGE_INLINE void panels(const shifted what, const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c,
                        const float *add) {
    const int8_t *b = g->b;
    int64_t lines = 1 + g->taps * ((g->depth + 3) / 4), bytes = g->to_f32 ? 4 : 1;
    int32_t excess[BLOCK];
    if (what == THE_COLUMNS) sum_rows(g, rows, a, excess);
    for (int64_t column = 0; column < g->n; column += WIDE * 16) {
        int wide = g->n - column > 16 ? WIDE : 1;
        for (int64_t r = 0, count; r < rows; r += count) {
            count = EDGE_TILE_ROWS(rows - r, ROWS);
            const uint8_t *const *from = a + r * g->taps;
            place p = {g, column, (uint8_t *)c + r * g->c_row * bytes, add ? add + r * g->add_row : NULL};
            const int32_t *off = what == THE_COLUMNS ? excess + r : NULL;
            if (wide == WIDE) some_rows(WIDE, what, count, &p, from, off, b);
            else some_rows(1, what, count, &p, from, off, b);
        }
        b += wide * 64 * lines;
    }
}

/* Each a function of its own: pointers of rows need all registers. */
#define PANELS(name, what)                                                                                             \
    static __attribute__((noinline)) void name(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c,  \
                                               const float *add) {                                                     \
        panels(what, g, rows, a, c, add);                                                                              \
    }
PANELS(panels_as_they_are, NONE)
PANELS(panels_of_shifted_rows, THE_ROWS)
PANELS(panels_of_shifted_columns, THE_COLUMNS)

void edge_gemm_s8_avx512vnni(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    if (!g->out.a_signed) {
        panels_as_they_are(g, rows, a, c, add);
        return;
    }
    if (g->n * g->depth < WORTH) {
        panels_of_shifted_rows(g, rows, a, c, add);
        return;
    }
    int64_t bytes = g->to_f32 ? 4 : 1;
    for (int64_t r = 0; r < rows; r += BLOCK)
        panels_of_shifted_columns(g, rows - r < BLOCK ? rows - r : BLOCK, a + r * g->taps,
                                  (uint8_t *)c + r * g->c_row * bytes, add ? add + r * g->add_row : NULL);
}

/* ---- blocks ---- */

/* Rows of a tile lie four bytes by four bytes, shifted where they are signed: [four][vector][row][4].  Many of them
 * fill vectors, which meet one column; each of few fills a quarter, which meets four columns. */
enum { FEW = 4, MANY = 16, VECTORS = 2, GROUPS = 4 /* a vector of sums */, HELD = EDGE_BLOCKS_MOST_FOURS * MANY * 4 };

/* Sums of a tile: [row][column] of few rows, [column][row] of many. */
typedef struct sums {
    int32_t of[VECTORS][16][16];
} sums;

/* In each quarter of four vectors: rows and columns of four numbers changed. */
EDGE_INLINE void turn_quarters(__m512i *v) {
    __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
    __m512i c = _mm512_unpacklo_epi32(v[2], v[3]), d = _mm512_unpackhi_epi32(v[2], v[3]);
    v[0] = _mm512_unpacklo_epi64(a, c);
    v[1] = _mm512_unpackhi_epi64(a, c);
    v[2] = _mm512_unpacklo_epi64(b, d);
    v[3] = _mm512_unpackhi_epi64(b, d);
}

/* Rows and columns of sixteen numbers changed. */
EDGE_INLINE void turn(__m512i *v) {
    __m512i from[16];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) turn_quarters(v + i);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) from[i] = v[i % 4 * 4 + i / 4];
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) e_transpose(from + i);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) v[i] = from[i % 4 * 4 + i / 4];
}

/* Up to sixteen fours of rows beside one another; rows: FEW, MANY. */
EDGE_INLINE void lay_fours(const int rows, const uint8_t *const *row, int64_t k, int64_t bytes, bool flip,
                           int64_t step, uint8_t *to) {
    __m512i v[MANY];
    __mmask64 mask = bytes >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << bytes) - 1;
    int64_t fours = bytes >= 64 ? 16 : (bytes + 3) / 4;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        v[r] = _mm512_maskz_loadu_epi8(mask, row[r] + k);
        if (flip) v[r] = shift(v[r]);
    }
    if (rows == MANY) {
        turn(v);
        for (int i = 0; i < fours; i++) _mm512_storeu_si512(to + i * step, v[i]);
        return;
    }
    turn_quarters(v);
    e_transpose(v);
    for (int64_t i = 0; i < fours; i++) memcpy(to + i * step, (const uint8_t *)v + i * 16, 16);
}

/* A tile's rows, of which `there` are there, in `vectors` times `rows`; a row's taps one after the other. */
static void lay(int rows, int vectors, int64_t there, const edge_gemm_s8 *g, const uint8_t *const *a, uint8_t *to) {
    int64_t step = vectors * rows * 4, of_tap = (g->depth + 3) / 4 * step;
    for (int v = 0; v < vectors; v++)
        for (int64_t t = 0; t < g->taps; t++) {
            const uint8_t *row[MANY];
            for (int r = 0; r < rows; r++) row[r] = a[(v * rows + r < there ? v * rows + r : 0) * g->taps + t];
            for (int64_t k = 0; k < g->depth; k += 64) {
                uint8_t *at = to + v * rows * 4 + t * of_tap + k / 4 * step;
                if (rows == FEW) lay_fours(FEW, row, k, g->depth - k, g->out.a_signed, step, at);
                else lay_fours(MANY, row, k, g->depth - k, g->out.a_signed, step, at);
            }
        }
}

EDGE_INLINE __m512i four_bytes(const int8_t *p) {
    int32_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return _mm512_set1_epi32(bytes);
}

EDGE_INLINE __m128i sixteen_bytes(const void *p) { return _mm_loadu_si128((const __m128i *)p); }

/* What the blocks of a group give, the group-th of a vector of columns. */
EDGE_INLINE void multiply_many(const int vectors, const uint8_t *a, const edge_blocks *b, int64_t first, int group,
                               sums *to) {
    const uint16_t *index = b->index + b->start[first], *end = b->index + b->start[first + 1];
    const int8_t *value = b->value + (int64_t)b->start[first] * 16;
    __m512i acc[VECTORS][4];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) acc[v][0] = acc[v][1] = acc[v][2] = acc[v][3] = _mm512_setzero_si512();
    for (; index < end; index++, value += 16) {
        const uint8_t *x = a + (int64_t)*index * (vectors * 64);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m512i w = four_bytes(value + j * 4);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                acc[v][j] = _mm512_dpbusd_epi32(acc[v][j], _mm512_loadu_si512(x + v * 64), w);
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) _mm512_storeu_si512(to->of[v][group * 4 + j], acc[v][j]);
}

/* One block after another into each of some sums: a multiplication waits four times as long for its sum as it takes. */
static void multiply_few(const uint8_t *a, const edge_blocks *b, int64_t first, int group, sums *to) {
    enum { AT_ONCE = 4 };
    const uint16_t *index = b->index + b->start[first], *end = b->index + b->start[first + 1];
    const int8_t *value = b->value + (int64_t)b->start[first] * 16;
    const __m512i fourfold = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m512i acc[AT_ONCE];
#pragma GCC unroll 4
    for (int i = 0; i < AT_ONCE; i++) acc[i] = _mm512_setzero_si512();
    while (index < end) {
        int64_t count = end - index < AT_ONCE ? end - index : AT_ONCE;
#pragma GCC unroll 4
        for (int i = 0; i < AT_ONCE; i++) {
            if (i == count) break;
            __m512i x = _mm512_castsi128_si512(sixteen_bytes(a + (int64_t)index[i] * 16));
            __m512i w = _mm512_broadcast_i32x4(sixteen_bytes(value + i * 16));
            acc[i] = _mm512_dpbusd_epi32(acc[i], _mm512_permutexvar_epi32(fourfold, x), w);
        }
        index += count;
        value += count * 16;
    }
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3]));
    for (int r = 0; r < FEW; r++) memcpy(&to->of[0][r][group * 4], (const int32_t *)&sum + r * 4, 16);
}

/* From the sums of sixteen columns to what they give in up to as many rows. */
static __attribute__((noinline)) void finish(const place *p, bool turned, int64_t rows, const int32_t (*from)[16],
                                             const int32_t *columns) {
    __mmask16 mask = e_mask(p->g->n - p->column);
    __m512i of_columns = _mm512_maskz_loadu_epi32(mask, columns), sum[16];
    __m512i start = e_start(&p->g->out, p->g->out.a_signed, mask, p->column, &of_columns);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) sum[i] = _mm512_loadu_si512(from[i]);
    if (turned) turn(sum);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) sum[i] = _mm512_add_epi32(start, sum[i]);
    if (p->g->to_f32) store_floats(p, (int)rows, 1, sum);
    else store_bytes_1(p, (int)rows, sum);
}

/* A tile: vectors of FEW or MANY rows each. */
EDGE_INLINE void groups(const int rows, const int vectors, int64_t there, const edge_gemm_s8 *g, const edge_blocks *b,
                        const uint8_t *const *a, uint8_t *held, uint8_t *c, const float *add) {
    sums sum;
    memset(&sum, 0, sizeof sum);
    lay(rows, vectors, there, g, a, held);
    for (int64_t column = 0; column < g->n; column += 4 * GROUPS) {
        int64_t first = (g->first + column) / 4, left = (g->n - column + 3) / 4;
        for (int i = 0; i < GROUPS && i < left; i++) {
            if (rows == FEW) multiply_few(held, b, first + i, i, &sum);
            else multiply_many(vectors, held, b, first + i, i, &sum);
        }
        for (int64_t r = 0; r < there; r += MANY) {
            place p = {g, column, c + r * g->c_row * (g->to_f32 ? 4 : 1), add ? add + r * g->add_row : NULL};
            int64_t count = there - r < MANY ? there - r : MANY;
            finish(&p, rows == MANY, count, sum.of[r / MANY], b->sums + g->first + column);
        }
    }
}

void edge_gemm_s8_4x4_avx512vnni(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c,
                                 const float *add) {
    uint8_t held[HELD] __attribute__((aligned(64)));
    const edge_blocks b = edge_blocks_of(g->b);
    int64_t bytes = g->to_f32 ? 4 : 1, row = g->taps * ((g->depth + 3) / 4) * 4;
    int64_t most = VECTORS * MANY * row > HELD ? MANY : VECTORS * MANY;
    for (int64_t r = 0, count; r < rows; r += count) {
        count = rows - r < most ? rows - r : most;
        if (count > MANY && count <= MANY + FEW) count = MANY;
        const uint8_t *const *from = a + r * g->taps;
        uint8_t *to = (uint8_t *)c + r * g->c_row * bytes;
        const float *more = add ? add + r * g->add_row : NULL;
        if (count <= FEW) groups(FEW, 1, count, g, &b, from, held, to, more);
        else if (count <= MANY) groups(MANY, 1, count, g, &b, from, held, to, more);
        else groups(MANY, VECTORS, count, g, &b, from, held, to, more);
    }
}
