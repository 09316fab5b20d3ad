/* Sparse products of rows of values: a block of weights reads vectors of the row of its own depth.  Of a block of four each
 * weight adds to another row of the result, so that a vector is loaded once for four products; a single weight adds to the one
 * row that is made, which is as many vectors as there are registers for.
 *
 * Rows are far apart: those of a tile are copied side by side first, while there is room, and the processor is told of those
 * that the next tile reads and writes. */
#include "vector.h"

enum { SIDE = 4, FOUR = EDGE_LANES == 8 ? 3 : 4, ONE = 8 }; /* rows of a block; the most vectors of a tile */

/* What is done for one tile: `count` values are left of a vector that is not whole, 0: all are. */
typedef struct tile {
    const edge_spmm_f32 *s;
    int64_t begin, end, count, x_row;
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
            const float *from = t->x + s->index[i] * t->x_row;
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
        vf acc[ONE];
#pragma GCC unroll 8
        for (int v = 0; v < wide; v++) acc[v] = v_set(s->bias ? s->bias[row] : 0);
        for (int32_t end = s->start[row + 1]; i < end; i++) {
            const float *from = t->x + s->index[i] * t->x_row;
            vf w = v_set(s->value[i]);
#pragma GCC unroll 8
            for (int v = 0; v < wide; v++) acc[v] = v_madd(w, load(t, part, from + v * EDGE_LANES), acc[v]);
        }
        store(t, part, wide, row, acc);
    }
}

/* The values of a tile, and where the rows of the next one are. */
EDGE_INLINE void copy(const edge_spmm_f32 *s, int64_t width, const float *x, float *work) {
    enum { LINE = 16 };
    for (int64_t k = 0; k < s->depth; k++, x += s->x_row, work += width) {
        for (int64_t i = 0; i < width; i += EDGE_LANES) v_store(work + i, v_load(x + i));
        for (int64_t i = LINE - 1; i < width + LINE - 1; i += LINE) __builtin_prefetch(x + width + i, 0, 3);
    }
}

EDGE_INLINE void announce(const tile *t, int64_t width) {
    enum { LINE = 16 };
    for (int64_t row = t->begin; row < t->end; row++)
        for (int64_t i = 0; i < width; i += LINE) __builtin_prefetch(t->c + row * t->s->c_row + width + i, 1, 3);
}

/* The most vectors of a tile of which there are as many, or a power of two. */
EDGE_INLINE int64_t vectors_of(int64_t vectors, int64_t most) {
    return vectors >= most ? most : vectors >= 4 ? 4 : vectors >= 2 ? 2 : 1;
}

/* As many tiles of the most vectors as there are, then smaller ones; the last vector ends with the last value. */
#define TILES(limit, rows)                                                                                             \
    tile t = {s, begin, end, count, s->x_row, x, add, c};                                                              \
    if (count < EDGE_LANES) {                                                                                          \
        rows(&t, 1, 1);                                                                                                \
        return;                                                                                                        \
    }                                                                                                                  \
    int64_t room = s->depth ? EDGE_SPMM_FLOATS / (s->depth * EDGE_LANES) : 0;                                          \
    int64_t most = room ? vectors_of(room, limit) : limit;                                                             \
    for (int64_t at = 0, wide; at < count; at += wide * EDGE_LANES) {                                                  \
        wide = vectors_of((count - at) / EDGE_LANES, most);                                                            \
        int64_t place = at + EDGE_LANES > count ? count - EDGE_LANES : at;                                             \
        t.x = x + place;                                                                                               \
        t.c = c + place;                                                                                               \
        t.add = add ? add + place : NULL;                                                                              \
        if (room) {                                                                                                    \
            copy(s, wide * EDGE_LANES, t.x, work);                                                                     \
            announce(&t, wide * EDGE_LANES);                                                                           \
            t.x = work;                                                                                                \
            t.x_row = wide * EDGE_LANES;                                                                               \
        }                                                                                                              \
        if (wide == limit) rows(&t, 0, limit);                                                                         \
        else if (wide == 4 && limit > 4) rows(&t, 0, 4);                                                               \
        else if (wide == 2) rows(&t, 0, 2);                                                                            \
        else rows(&t, 0, 1);                                                                                           \
    }

void EDGE_NAME(edge_spmm_f32_4x1)(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x,
                                  float *c, const float *add, float *work) {
    TILES(FOUR, four_rows)
}

void EDGE_NAME(edge_spmm_f32_1x1)(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x,
                                  float *c, const float *add, float *work) {
    TILES(ONE, one_row)
}
