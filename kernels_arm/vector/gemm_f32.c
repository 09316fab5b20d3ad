/* Tiles of rows x panel: each step of depth loads the panel's row once and one value of every row of a. */
#include "vector.h"

#if EDGE_LANES == 16
#define ROWS 8
#else
#define ROWS 6
#endif
#define WIDE 2

/* rows and vectors are constants where this is called: the loops below unroll and acc lives in registers. */
EDGE_INLINE void tile(const int rows, const int vectors, const edge_gemm_f32 *g, const float *const *a, const float *b,
                      int64_t column, float *c, const float *add) {
    vf acc[ROWS][WIDE];
    for (int v = 0; v < vectors; v++) {
        int64_t left = g->n - column - v * EDGE_LANES;
        vf start = {0};
        if (g->bias && left > 0)
            start = v_load_some(g->bias + column + v * EDGE_LANES, left < EDGE_LANES ? left : EDGE_LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) acc[r][v] = start;
    }
    for (int64_t t = 0; t < g->taps; t++) {
        const float *row[ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) row[r] = a[r * g->taps + t];
        for (int64_t k = 0; k < g->depth; k++, b += vectors * EDGE_LANES) {
            vf b0 = v_load(b), b1 = vectors > 1 ? v_load(b + EDGE_LANES) : b0;
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                vf x = v_set(row[r][k]);
                acc[r][0] += x * b0;
                if (vectors > 1) acc[r][1] += x * b1;
            }
        }
    }
    vf low = v_set(g->low), high = v_set(g->high);
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        int64_t at = column + v * EDGE_LANES, left = g->n - at;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            float *to = c + r * g->c_row + at;
            const float *more = add ? add + r * g->add_row + at : NULL;
            if (left >= EDGE_LANES) {
                vf sum = more ? acc[r][v] + v_load(more) : acc[r][v];
                v_store(to, v_clamp(sum, low, high));
            } else if (left > 0) {
                vf sum = more ? acc[r][v] + v_load_some(more, left) : acc[r][v];
                v_store_some(to, v_clamp(sum, low, high), left);
            }
        }
    }
}

EDGE_INLINE void some_rows(const int vectors, int64_t rows, const edge_gemm_f32 *g, const float *const *a,
                           const float *b, int64_t column, float *c, const float *add) {
    switch (rows) {
    case 1: tile(1, vectors, g, a, b, column, c, add); break;
    case 2: tile(2, vectors, g, a, b, column, c, add); break;
    case 3: tile(3, vectors, g, a, b, column, c, add); break;
    case 4: tile(4, vectors, g, a, b, column, c, add); break;
    case 5: tile(5, vectors, g, a, b, column, c, add); break;
#if ROWS > 6
    case 6: tile(6, vectors, g, a, b, column, c, add); break;
    case 7: tile(7, vectors, g, a, b, column, c, add); break;
#endif
    default: tile(ROWS, vectors, g, a, b, column, c, add);
    }
}

void EDGE_NAME(edge_gemm_f32)(const edge_gemm_f32 *g, int64_t rows, const float *const *a, float *c, const float *add) {
    const float *b = g->b;
    int64_t depth = g->taps * g->depth;
    for (int64_t column = 0; column < g->n; column += WIDE * EDGE_LANES) {
        int wide = g->n - column > EDGE_LANES ? WIDE : 1;
        for (int64_t r = 0; r < rows; r += ROWS) {
            int64_t count = rows - r < ROWS ? rows - r : ROWS;
            const float *const *from = a + r * g->taps;
            float *to = c + r * g->c_row;
            const float *more = add ? add + r * g->add_row : NULL;
            if (wide == WIDE) some_rows(WIDE, count, g, from, b, column, to, more);
            else some_rows(1, count, g, from, b, column, to, more);
        }
        b += wide * EDGE_LANES * depth;
    }
}
