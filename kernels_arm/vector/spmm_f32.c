/* Sparse products of rows of values: a block of weights reads vectors of the row of its own depth.  Of a block of four each
 * weight adds to another row of the result, so that a vector is loaded once for four products; a single weight adds to the one
 * row that is made, which is as many vectors as there are registers for.
 *
 * Rows are far apart: those of a tile are copied side by side first, while there is room, and the processor is told of those
 * that the next tile reads and writes.  Where tiles for single weights would be short for want of room, they are as many
 * vectors at some depths after the other.  Where a part of a vector is loaded as fast as a whole one, fewer values than a tile's
 * are one all the same. */
#include "vector.h"

#ifdef __wasm__ /* sixteen registers, and no operand of a product comes from memory */
enum { FOUR = 2 };
#else
enum { FOUR = EDGE_LANES == 8 ? 3 : 4 };
#endif
enum { SIDE = 4, ONE = 8 };      /* rows of a block; the most vectors of a tile, as FOUR is for blocks of four */
enum { LINE = 16, ROWS = 2048 }; /* floats of a line of a cache; rows whose places are kept */
enum { WIDTH = 4 * EDGE_LANES }; /* values from which on a tile is not short */
enum { IN_PARTS = EDGE_LANES == 16 }; /* a part of a vector is loaded as fast as a whole one */

/* What is done for one tile, of whose last vector only `count` values are there where it is of parts. */
typedef struct tile {
    const edge_spmm_f32 *s;
    int64_t begin, end, count, x_row;
    const float *x, *add;
    float *c;
    float low, high;
} tile;

EDGE_INLINE vf load(const tile *t, const int part, const int last, const float *p) {
    return part && last ? v_load_some(p, t->count) : v_load(p);
}

EDGE_INLINE void store(const tile *t, const int part, const int wide, float *c, const float *add, const vf *acc) {
    vf low = v_set(t->low), high = v_set(t->high);
#pragma GCC unroll 8
    for (int v = 0; v < wide; v++) {
        vf sum = add ? acc[v] + load(t, part, v == wide - 1, add + v * EDGE_LANES) : acc[v];
        sum = v_clamp(sum, low, high);
        if (part && v == wide - 1) v_store_some(c + v * EDGE_LANES, sum, t->count);
        else v_store(c + v * EDGE_LANES, sum);
    }
    for (int i = 0; i < wide * EDGE_LANES && !part; i += LINE) __builtin_prefetch(c + wide * EDGE_LANES + i, 1, 3);
}

#ifdef __aarch64__
/* All is loaded before what follows: a core that runs in order stands still at every load among products. */
#define LOADED(a, b, c, d, e, f, g, h, i, j)                                                                           \
    __asm__ volatile("" : "+w"(a), "+w"(b), "+w"(c), "+w"(d), "+w"(e), "+w"(f), "+w"(g), "+w"(h), "+w"(i), "+w"(j))

/* Two blocks at once, in vectors that are whole; weights are lanes of a vector, by which a product can be taken directly. */
EDGE_INLINE void two_blocks(const tile *t, const uint16_t *index, const float *value, vf acc[SIDE][FOUR]) {
    vf x[2][FOUR], w[2];
#pragma GCC unroll 2
    for (int b = 0; b < 2; b++) {
#pragma GCC unroll 4
        for (int v = 0; v < FOUR; v++) x[b][v] = v_load(t->x + index[b] * t->x_row + v * EDGE_LANES);
        w[b] = v_load(value + b * SIDE);
    }
    LOADED(x[0][0], x[0][1], x[0][2], x[0][3], x[1][0], x[1][1], x[1][2], x[1][3], w[0], w[1]);
#pragma GCC unroll 2
    for (int b = 0; b < 2; b++)
#pragma GCC unroll 4
        for (int j = 0; j < SIDE; j++)
#pragma GCC unroll 4
            for (int v = 0; v < FOUR; v++) acc[j][v] += w[b][j] * x[b][v];
}

EDGE_INLINE vf weight(const float *value, int row) { return v_set(v_load(value)[row]); }
#else
EDGE_INLINE vf weight(const float *value, int row) { return v_set(value[row]); }
#endif

EDGE_INLINE void four_rows(const tile *t, const int part, const int wide) {
    const edge_spmm_f32 *s = t->s;
    const int32_t *start = s->start + t->begin / SIDE;
    const uint16_t *index = s->index + *start;
    const float *value = s->value + (int64_t)*start * SIDE, *add = t->add ? t->add + t->begin * s->add_row : NULL;
    const float none[SIDE] = {0}, *bias = s->bias ? s->bias + t->begin : none;
    float *c = t->c + t->begin * s->c_row;
    int64_t c_row = s->c_row, add_row = add ? s->add_row : 0, left = t->end - t->begin;
    ptrdiff_t x_row = (ptrdiff_t)t->x_row;
    for (; left > 0; left -= SIDE, start++) {
        vf acc[SIDE][FOUR];
        int rows = left < SIDE ? (int)left : SIDE;
#pragma GCC unroll 4
        for (int j = 0; j < SIDE; j++) {
            vf first = v_set(bias[j < rows ? j : 0]);
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++) acc[j][v] = first;
        }
        if (s->bias) bias += SIDE;
        const uint16_t *end = index + (start[1] - start[0]);
#ifdef __aarch64__
        for (; wide == FOUR && end - index >= 2; index += 2, value += 2 * SIDE) two_blocks(t, index, value, acc);
#endif
        for (; index < end; index++, value += SIDE) {
            const float *from = t->x + *index * x_row;
            vf x[FOUR];
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++) x[v] = load(t, part, v == wide - 1, from + v * EDGE_LANES);
#pragma GCC unroll 4
            for (int j = 0; j < SIDE; j++) {
                vf w = weight(value, j);
#pragma GCC unroll 4
                for (int v = 0; v < wide; v++) acc[j][v] = v_madd(w, x[v], acc[j][v]);
            }
        }
#pragma GCC unroll 4
        for (int j = 0; j < SIDE && j < rows; j++, c += c_row, add += add_row) store(t, part, wide, c, add, acc[j]);
    }
}

/* Depths [first, last) where not all fit: what rows have reached is kept, and sums wait in the result. */
typedef struct depths {
    int64_t first, last;
    int32_t reached[ROWS]; /* of each row: its next weight */
} depths;

/* A row has few weights at some depths, far from those of the next one: the processor is told of those so many rows later. */
enum { SOON = 4 };

EDGE_INLINE void one_row(const tile *t, const int part, const int wide, depths *some) {
    const edge_spmm_f32 *s = t->s;
    const uint16_t *index = s->index;
    const float *value = s->value, *x = t->x;
    ptrdiff_t x_row = (ptrdiff_t)t->x_row;
    for (int64_t row = t->begin; row < t->end; row++) {
        int goes_on = some && some->first > 0;
        float *c = t->c + row * s->c_row;
        vf acc[ONE], first = v_set(s->bias ? s->bias[row] : 0);
#pragma GCC unroll 8
        for (int v = 0; v < wide; v++) acc[v] = goes_on ? load(t, part, v == wide - 1, c + v * EDGE_LANES) : first;
        if (some && row + SOON < t->end) {
            int32_t soon = goes_on ? some->reached[row + SOON - t->begin] : s->start[row + SOON];
            __builtin_prefetch(index + soon, 0, 3);
            __builtin_prefetch(value + soon, 0, 3);
            __builtin_prefetch(value + soon + LINE, 0, 3);
        }
        int32_t i = goes_on ? some->reached[row - t->begin] : s->start[row];
        for (int32_t end = s->start[row + 1]; i < end; i++) {
            if (some && index[i] >= some->last) break;
            const float *from = x + index[i] * x_row;
            vf w = v_set(value[i]);
#pragma GCC unroll 8
            for (int v = 0; v < wide; v++) acc[v] = v_madd(w, load(t, part, v == wide - 1, from + v * EDGE_LANES), acc[v]);
        }
        if (some) some->reached[row - t->begin] = i;
        store(t, part, wide, c, t->add ? t->add + row * s->add_row : NULL, acc);
    }
}

/* The `count` values of a tile, `width` apart, and where the rows of the next one are. */
EDGE_INLINE void copy(const edge_spmm_f32 *s, int64_t depth, int64_t width, int64_t count, const float *x, float *work) {
    for (int64_t k = 0; k < depth; k++, x += s->x_row, work += width) {
        for (int64_t i = 0; i < count; i += EDGE_LANES)
            v_store(work + i, !IN_PARTS || count - i >= EDGE_LANES ? v_load(x + i) : v_load_some(x + i, count - i));
        for (int64_t i = LINE - 1; i < width + LINE - 1; i += LINE) __builtin_prefetch(x + width + i, 0, 3);
    }
}

/* The most vectors of a tile of which there are as many, or a power of two. */
EDGE_INLINE int64_t vectors_of(int64_t vectors, int64_t most) {
    return vectors >= most ? most : vectors >= 4 ? 4 : vectors >= 2 ? 2 : 1;
}

/* Whether the values of all rows are one tile, side by side already. */
static int is_tile(const edge_spmm_f32 *s, int64_t count) {
    return s->x_row == count && count % EDGE_LANES == 0 && count <= 4 * EDGE_LANES;
}

/* Whether single weights take values at some depths after the other: there is no room for all of them, or they are no tile. */
static int is_deep(const edge_spmm_f32 *s, int64_t count) {
    if (!s->depth || is_tile(s, count)) return 0;
    return count < WIDTH ? IN_PARTS && count > EDGE_LANES : s->depth * WIDTH > EDGE_SPMM_FLOATS;
}

/* Of all values of a tile, of which the last vector has as many as are left. */
EDGE_INLINE int vectors_in(tile *t) {
    int64_t vectors = (t->count + EDGE_LANES - 1) / EDGE_LANES;
    t->count -= (vectors - 1) * EDGE_LANES;
    return (int)vectors;
}

static tile tile_of(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x, float *c, const float *add) {
    return (tile){s, begin, end, count, s->x_row, x, add, c, s->low, s->high};
}

/* The vectors of a tile; the last one ends with the last value. */
EDGE_INLINE tile tile_at(const tile *all, int64_t place) {
    tile t = *all;
    t.x += place;
    t.c += place;
    if (t.add) t.add += place;
    return t;
}

/* As many tiles of the most vectors as there are, then smaller ones. */
#define TILES(most, rows, ...)                                                                                         \
    if (count < EDGE_LANES) {                                                                                          \
        rows(&all, 1, 1 __VA_ARGS__);                                                                                  \
        return;                                                                                                        \
    }                                                                                                                  \
    int64_t room = s->depth && !is_tile(s, count) ? EDGE_SPMM_FLOATS / (s->depth * EDGE_LANES) : 0;                    \
    int64_t limit = room ? vectors_of(room, most) : most;                                                              \
    for (int64_t at = 0, wide; at < count; at += wide * EDGE_LANES) {                                                  \
        wide = vectors_of((count - at) / EDGE_LANES, limit);                                                           \
        tile t = tile_at(&all, at + EDGE_LANES > count ? count - EDGE_LANES : at);                                     \
        if (room) {                                                                                                    \
            copy(s, s->depth, wide * EDGE_LANES, wide * EDGE_LANES, t.x, work);                                        \
            t.x = work;                                                                                                \
            t.x_row = wide * EDGE_LANES;                                                                               \
        }                                                                                                              \
        if (wide == most) rows(&t, 0, most __VA_ARGS__);                                                               \
        else if (wide == 4 && most > 4) rows(&t, 0, 4 __VA_ARGS__);                                                    \
        else if (wide == 2) rows(&t, 0, 2 __VA_ARGS__);                                                                \
        else rows(&t, 0, 1 __VA_ARGS__);                                                                               \
    }

void EDGE_NAME(edge_spmm_f32_4x1)(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x,
                                  float *c, const float *add, float *work) {
    tile all = tile_of(s, begin, end, count, x, c, add);
    if (IN_PARTS && count > EDGE_LANES && count < WIDTH) {
        int vectors = vectors_in(&all);
        if (vectors == 2) four_rows(&all, 1, 2);
        else if (vectors == 3) four_rows(&all, 1, 3);
        else four_rows(&all, 1, 4);
        return;
    }
    TILES(FOUR, four_rows, )
}

/* Tiles of four vectors, at so many depths as the first cache holds of them; between depths sums are kept as they are. */
static void in_depths(const tile *all, float *work) {
    enum { NEAR = EDGE_SPMM_FLOATS / 2 / WIDTH };
    const edge_spmm_f32 *s = all->s;
    int64_t count = IN_PARTS && all->count < WIDTH ? all->count : WIDTH;
    depths some;
    for (int64_t at = 0; at < all->count; at += WIDTH) {
        tile last = tile_at(all, at + count > all->count ? all->count - count : at), before = last;
        const float *x = last.x;
        before.low = -INFINITY;
        before.high = INFINITY;
        before.add = NULL;
        for (some.first = 0; some.first < s->depth; some.first = some.last) {
            some.last = some.first + NEAR < s->depth ? some.first + NEAR : s->depth;
            tile *t = some.last < s->depth ? &before : &last;
            copy(s, some.last - some.first, WIDTH, count, x + some.first * s->x_row, work);
            t->x = work - some.first * WIDTH;
            t->x_row = WIDTH;
            t->count = count;
            int vectors = IN_PARTS && count < WIDTH ? vectors_in(t) : 0;
            if (!vectors) one_row(t, 0, 4, &some);
            else if (IN_PARTS && vectors == 2) one_row(t, 1, 2, &some);
            else if (IN_PARTS && vectors == 3) one_row(t, 1, 3, &some);
            else if (IN_PARTS) one_row(t, 1, 4, &some);
        }
    }
}

void EDGE_NAME(edge_spmm_f32_1x1)(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t count, const float *x,
                                  float *c, const float *add, float *work) {
    tile all = tile_of(s, begin, end, count, x, c, add);
    if (is_deep(s, count)) {
        for (; all.begin < end; all.begin = all.end) {
            all.end = all.begin + ROWS < end ? all.begin + ROWS : end;
            in_depths(&all, work);
        }
        return;
    }
    TILES(ONE, one_row, , NULL)
}
