/* Sparse products of rows of values: a block of weights reads vectors of the row of its own depth.  Of a block of four each
 * weight adds to another row of the result, so that a vector is loaded once for four products; a single weight adds to the one
 * row that is made, which is as many vectors as there are registers for. */
#include "vector.h"

#if EDGE_LANES == 16
enum { FOUR = 4, ONE = 8 }; /* the most vectors of a tile */
#elif EDGE_LANES == 8
enum { FOUR = 3, ONE = 8 };
#elif defined(__aarch64__)
enum { FOUR = 4, ONE = 8 };
#else
enum { FOUR = 2, ONE = 4 };
#endif
enum { SIDE = 4, MOST = 8 };

/* What is done for one tile: `count` values are left of a vector that is not whole, 0: all are. */
typedef struct tile {
    const edge_spmm_f32 *s;
    int64_t begin, end, count;
    const float *x, *add;
    float *c;
} tile;

EDGE_INLINE vf load(const tile *t, const int part, const float *p) { return part ? v_load_some(p, t->count) : v_load(p); }

EDGE_INLINE void store(const tile *t, const int part, const int wide, int64_t row, const vf *acc) {
    float *c = t->c + row * t->s->c_row;
    const float *add = t->add ? t->add + row * t->s->add_row : NULL;
    vf low = v_set(t->s->low), high = v_set(t->s->high);
#pragma GCC unroll 8
    for (int v = 0; v < wide; v++) {
        vf sum = add ? acc[v] + load(t, part, add + v * EDGE_LANES) : acc[v];
        sum = v_clamp(sum, low, high);
        if (part) v_store_some(c, sum, t->count);
        else v_store(c + v * EDGE_LANES, sum);
    }
}

EDGE_INLINE void four_rows(const tile *t, const int part, const int wide) {
    const edge_spmm_f32 *s = t->s;
    int32_t i = s->start[t->begin / SIDE];
    const float *value = s->value + (int64_t)i * SIDE;
    for (int64_t row = t->begin; row < t->end; row += SIDE) {
        vf acc[SIDE][FOUR];
        int rows = t->end - row < SIDE ? (int)(t->end - row) : SIDE;
#pragma GCC unroll 4
        for (int j = 0; j < SIDE; j++) {
            vf start = v_set(s->bias && j < rows ? s->bias[row + j] : 0);
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++) acc[j][v] = start;
        }
        for (int32_t end = s->start[row / SIDE + 1]; i < end; i++, value += SIDE) {
            const float *from = t->x + s->index[i] * s->x_row;
            vf x[FOUR];
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++) x[v] = load(t, part, from + v * EDGE_LANES);
#pragma GCC unroll 4
            for (int j = 0; j < SIDE; j++) {
                vf w = v_set(value[j]);
#pragma GCC unroll 4
                for (int v = 0; v < wide; v++) acc[j][v] = v_madd(w, x[v], acc[j][v]);
            }
        }
#pragma GCC unroll 4
        for (int j = 0; j < SIDE; j++)
            if (j < rows) store(t, part, wide, row + j, acc[j]);
    }
}

EDGE_INLINE void one_row(const tile *t, const int part, const int wide) {
    const edge_spmm_f32 *s = t->s;
    int32_t i = s->start[t->begin];
    for (int64_t row = t->begin; row < t->end; row++) {
        vf acc[MOST];
#pragma GCC unroll 8
        for (int v = 0; v < wide; v++) acc[v] = v_set(s->bias ? s->bias[row] : 0);
        for (int32_t end = s->start[row + 1]; i < end; i++) {
            const float *from = t->x + s->index[i] * s->x_row;
            vf w = v_set(s->value[i]);
#pragma GCC unroll 8
            for (int v = 0; v < wide; v++) acc[v] = v_madd(w, load(t, part, from + v * EDGE_LANES), acc[v]);
        }
        store(t, part, wide, row, acc);
    }
}

/* Tiles of nearly one size; the last one begins where it ends with the last value. */
#define TILES(most, rows, cases)                                                                                       \
    tile t = {s, begin, end, count, x, add, c};                                                                        \
    int64_t vectors = (count + EDGE_LANES - 1) / EDGE_LANES, tiles = (vectors + most - 1) / most;                      \
    if (vectors == 1 && count < EDGE_LANES) {                                                                          \
        rows(&t, 1, 1);                                                                                                \
        return;                                                                                                        \
    }                                                                                                                  \
    if (tiles == 1 && vectors * EDGE_LANES > count) tiles = 2;                                                         \
    for (int64_t at = 0; tiles > 0; tiles--) {                                                                         \
        int64_t wide = (vectors + tiles - 1) / tiles, place = at * EDGE_LANES, last = count - wide * EDGE_LANES;       \
        if (place > last) place = last;                                                                                \
        t.x = x + place;                                                                                               \
        t.c = c + place;                                                                                               \
        t.add = add ? add + place : NULL;                                                                              \
        switch (wide) { cases }                                                                                        \
        vectors -= wide;                                                                                               \
        at += wide;                                                                                                    \
    }
#define CASE(rows, wide)                                                                                               \
    case wide: rows(&t, 0, wide); break;

void EDGE_NAME(edge_spmm_f32_4x1)(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x,
                                  float *c, const float *add) {
#if EDGE_LANES == 16 || defined(__aarch64__)
    TILES(FOUR, four_rows, CASE(four_rows, 1) CASE(four_rows, 2) CASE(four_rows, 3) CASE(four_rows, 4))
#elif EDGE_LANES == 8
    TILES(FOUR, four_rows, CASE(four_rows, 1) CASE(four_rows, 2) CASE(four_rows, 3))
#else
    TILES(FOUR, four_rows, CASE(four_rows, 1) CASE(four_rows, 2))
#endif
}

void EDGE_NAME(edge_spmm_f32_1x1)(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x,
                                  float *c, const float *add) {
#if EDGE_LANES == 4 && !defined(__aarch64__)
    TILES(ONE, one_row, CASE(one_row, 1) CASE(one_row, 2) CASE(one_row, 3) CASE(one_row, 4))
#else
    TILES(ONE, one_row, CASE(one_row, 1) CASE(one_row, 2) CASE(one_row, 3) CASE(one_row, 4) CASE(one_row, 5)
          CASE(one_row, 6) CASE(one_row, 7) CASE(one_row, 8))
#endif
}
