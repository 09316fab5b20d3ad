/* Tiles of rows x panel: each step of depth loads the panel's row once and one value of every row of a. */
#include "vector.h"

#if EDGE_LANES == 16
#define ROWS 12
#elif defined(__aarch64__)
#define ROWS 8
#elif defined(__wasm__)
#define ROWS 4
#else
#define ROWS 6
#endif
#define WIDE 2

/* The last columns, fewer than a panel has. */
static __attribute__((noinline)) void store_part(int rows, int vectors, const edge_gemm_f32 *g, const float *part,
                                                 int64_t column, float *c, const float *add) {
    vf low = v_set(g->low), high = v_set(g->high);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++, part += EDGE_LANES) {
            int64_t at = column + v * EDGE_LANES, left = g->n - at;
            if (left <= 0) continue;
            left = left < EDGE_LANES ? left : EDGE_LANES;
            vf sum = v_load(part);
            if (add) sum += v_load_some(add + r * g->add_row + at, left);
            v_store_some(c + r * g->c_row + at, v_clamp(sum, low, high), left);
        }
}

#ifdef __aarch64__
/* All eight are loaded before what follows: a core that runs in order stands still at every load among products. */
#define LOADED(at, a, b, c, d, e, f, g, h)                                                                             \
    __asm__ volatile("" : "+r"(at), "+w"(a), "+w"(b), "+w"(c), "+w"(d), "+w"(e), "+w"(f), "+w"(g), "+w"(h))

/* Four steps of depth at once: their values of a are lanes of one vector, by which a product can be taken directly.
 * One offset in bytes that ends at 0 serves every row, and as the counter.  Gives the panel behind what was done. */
EDGE_INLINE const float *four_steps(const int rows, const int vectors, int64_t depth, const float *const *row,
                                    const float *b, vf acc[ROWS][WIDE]) {
    const int full = rows == ROWS && vectors == WIDE;
    const char *end[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) end[r] = (const char *)(row[r] + depth / 4 * 4);
    for (int64_t at = depth / 4 * -16; at; b += 4 * vectors * EDGE_LANES) {
        vf x[ROWS], w[4][WIDE];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) x[r] = v_load((const float *)(const void *)(end[r] + at));
        if (full) LOADED(at, x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]);
        at += 16;
#pragma GCC unroll 4
        for (int step = 0; step < 4; step++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) w[step][v] = v_load(b + (step * vectors + v) * EDGE_LANES);
        if (full) LOADED(at, w[0][0], w[0][1], w[1][0], w[1][1], w[2][0], w[2][1], w[3][0], w[3][1]);
#pragma GCC unroll 4
        for (int step = 0; step < 4; step++)
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) acc[r][v] += x[r][step] * w[step][v];
    }
    return b;
}
#endif

/* rows and vectors are constants where this is called: the loops below unroll and acc lives in registers. */
EDGE_INLINE void tile(const int rows, const int vectors, const edge_gemm_f32 *g, const float *const *a, const float *b,
                      int64_t column, float *c, const float *add) {
    vf acc[ROWS][WIDE];
#pragma GCC unroll 2 /* for clang, which else leaves acc in memory */
    for (int v = 0; v < vectors; v++) {
        int64_t left = g->n - column - v * EDGE_LANES;
        vf start = {0};
        if (g->bias && left > 0)
            start = v_load_some(g->bias + column + v * EDGE_LANES, left < EDGE_LANES ? left : EDGE_LANES);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) acc[r][v] = start;
    }
    for (int64_t t = 0; t < g->taps; t++) {
        const float *row[ROWS];
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) row[r] = a[r * g->taps + t];
        int64_t k = 0;
#ifdef __aarch64__
        b = four_steps(rows, vectors, g->depth, row, b, acc);
        k = g->depth / 4 * 4;
#elif defined(__wasm__)
        /* Two steps at once: the second one's addresses are the first one's and a constant. */
        for (; k + 2 <= g->depth; k += 2, b += 2 * vectors * EDGE_LANES) {
#pragma GCC unroll 2
            for (int step = 0; step < 2; step++) {
                const float *from = b + step * vectors * EDGE_LANES;
                vf b0 = v_load(from), b1 = vectors > 1 ? v_load(from + EDGE_LANES) : b0;
#pragma GCC unroll 12
                for (int r = 0; r < rows; r++) {
                    vf x = v_set(row[r][step]);
                    acc[r][0] = v_madd(x, b0, acc[r][0]);
                    if (vectors > 1) acc[r][1] = v_madd(x, b1, acc[r][1]);
                }
            }
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) row[r] += 2;
        }
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) row[r] -= k; /* as it was, for the last step of an odd depth */
#endif
        for (; k < g->depth; k++, b += vectors * EDGE_LANES) {
            vf b0 = v_load(b), b1 = vectors > 1 ? v_load(b + EDGE_LANES) : b0;
#pragma GCC unroll 12
            for (int r = 0; r < rows; r++) {
                vf x = v_set(row[r][k]);
                acc[r][0] = v_madd(x, b0, acc[r][0]);
                if (vectors > 1) acc[r][1] = v_madd(x, b1, acc[r][1]);
            }
        }
    }
    vf low = v_set(g->low), high = v_set(g->high);
    if (g->n - column >= vectors * EDGE_LANES) {
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                vf sum = acc[r][v];
                if (add) sum += v_load(add + r * g->add_row + column + v * EDGE_LANES);
                v_store(c + r * g->c_row + column + v * EDGE_LANES, v_clamp(sum, low, high));
            }
    } else {
        float part[ROWS * WIDE * EDGE_LANES];
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) v_store(part + (r * vectors + v) * EDGE_LANES, acc[r][v]);
        store_part(rows, vectors, g, part, column, c, add);
    }
}

/* Rows of the next tile; in a narrow panel, the last one, of fewer sizes where a library has to be small: each is code. */
EDGE_INLINE int64_t rows_of(const int vectors, int64_t left) {
    if (vectors == WIDE || EDGE_LANES != 4) return EDGE_TILE_ROWS(left, ROWS);
    return left >= ROWS ? ROWS : left >= 4 ? 4 : 1;
}

#define TILE(count)                                                                                                    \
    case count:                                                                                                        \
        if (rows_of(vectors, count) == count) tile(count, vectors, g, a, b, column, c, add);                           \
        break;

EDGE_INLINE void some_rows(const int vectors, int64_t rows, const edge_gemm_f32 *g, const float *const *a,
                           const float *b, int64_t column, float *c, const float *add) {
    switch (rows) {
        TILE(1)
        TILE(2)
        TILE(3)
#if ROWS > 4
        TILE(4)
        TILE(5)
#endif
#if ROWS > 6
        TILE(6)
        TILE(7)
#endif
#if ROWS > 8
        TILE(8)
        TILE(9)
        TILE(10)
        TILE(11)
#endif
    default: tile(ROWS, vectors, g, a, b, column, c, add);
    }
}

void EDGE_NAME(edge_gemm_f32)(const edge_gemm_f32 *g, int64_t rows, const float *const *a, float *c, const float *add) {
    const float *b = g->b;
    int64_t depth = g->taps * g->depth;
    for (int64_t column = 0; column < g->n; column += WIDE * EDGE_LANES) {
        int wide = g->n - column > EDGE_LANES ? WIDE : 1;
        for (int64_t r = 0, count; r < rows; r += count) {
            count = rows_of(wide, rows - r);
            const float *const *from = a + r * g->taps;
            float *to = c + r * g->c_row;
            const float *more = add ? add + r * g->add_row : NULL;
            if (wide == WIDE) some_rows(WIDE, count, g, from, b, column, to, more);
            else some_rows(1, count, g, from, b, column, to, more);
        }
        b += wide * EDGE_LANES * depth;
    }
}
