/* Tiles of rows that lie side by side in vectors: work holds a value of every row for each depth, and a block of weights reads
 * those of its own depth.  Four columns are made at once: of a block of four, each weight has one; of single weights, which
 * are taken four at a time, each has a sum of its own. */
#include "vector.h"

#if EDGE_LANES == 16
#define WIDE 4
#elif EDGE_LANES == 8
#define WIDE 3
#elif defined(__aarch64__)
#define WIDE 4
#else
#define WIDE 2
#endif
#define SIDE 4 /* columns of a block and of a store */

typedef float four __attribute__((vector_size(16)));
typedef int32_t mask __attribute__((vector_size(16)));

EDGE_INLINE four load4(const float *p) {
    four v;
    memcpy(&v, p, sizeof v);
    return v;
}

EDGE_INLINE four clamp4(four v, float low, float high) {
    four least = low - (four){0}, most = high - (four){0};
    mask below = v < least;
    v = (four)((below & (mask)least) | (~below & (mask)v));
    mask above = v > most;
    return (four)((above & (mask)most) | (~above & (mask)v));
}

EDGE_INLINE void turn4(four v[SIDE]) {
    four low[2] = {__builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5)};
    four high[2] = {__builtin_shufflevector(v[0], v[1], 2, 6, 3, 7), __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7)};
    v[0] = __builtin_shufflevector(low[0], low[1], 0, 1, 4, 5);
    v[1] = __builtin_shufflevector(low[0], low[1], 2, 3, 6, 7);
    v[2] = __builtin_shufflevector(high[0], high[1], 0, 1, 4, 5);
    v[3] = __builtin_shufflevector(high[0], high[1], 2, 3, 6, 7);
}

/* Values of rows as columns of work, which are `wide` floats; rows that there are not are like the last one. */
static __attribute__((noinline)) void turn_rows(int64_t wide, const edge_gemm_f32 *g, int64_t rows, const float *const *a, float *work) {
    for (int64_t t = 0; t < g->taps; t++, work += g->depth * wide)
        for (int64_t r = 0; r < wide; r += SIDE) {
            const float *row[SIDE];
            for (int64_t i = 0; i < SIDE; i++) row[i] = a[(r + i < rows ? r + i : rows - 1) * g->taps + t];
            int64_t k = 0;
            for (; k + SIDE <= g->depth; k += SIDE) {
                four v[SIDE];
#pragma GCC unroll 4
                for (int i = 0; i < SIDE; i++) v[i] = load4(row[i] + k);
                turn4(v);
#pragma GCC unroll 4
                for (int i = 0; i < SIDE; i++) memcpy(work + (k + i) * wide + r, &v[i], sizeof v[i]);
            }
            for (; k < g->depth; k++)
                for (int i = 0; i < SIDE; i++) work[k * wide + r + i] = row[i][k];
        }
}

/* Sums of four columns for a tile of rows: part[column][row]. */
EDGE_INLINE void four_columns(const int wide, const edge_spmm_f32 *s, int64_t column, const float *work, float *part) {
    vf acc[SIDE][WIDE];
#pragma GCC unroll 4
    for (int j = 0; j < SIDE; j++) {
        vf start = v_set(s->product.bias && column + j < s->product.n ? s->product.bias[column + j] : 0);
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) acc[j][v] = start;
    }
    int32_t i = s->start[column / SIDE], end = s->start[column / SIDE + 1];
    const float *value = s->value + (int64_t)i * SIDE;
    for (; i < end; i++, value += SIDE) {
        const float *from = work + (int64_t)s->index[i] * wide * EDGE_LANES;
        vf x[WIDE];
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) x[v] = v_load(from + v * EDGE_LANES);
#pragma GCC unroll 4
        for (int j = 0; j < SIDE; j++) {
            vf w = v_set(value[j]);
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++) acc[j][v] = v_madd(w, x[v], acc[j][v]);
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < SIDE; j++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) v_store(part + (j * wide + v) * EDGE_LANES, acc[j][v]);
}

/* Sums of one column: weights i, i + 4, ... have one, which keeps four products in flight. */
EDGE_INLINE void one_column(const int wide, const edge_spmm_f32 *s, int64_t column, const float *work, float *part) {
    vf acc[SIDE][WIDE];
#pragma GCC unroll 4
    for (int j = 0; j < SIDE; j++)
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) acc[j][v] = v_set(j == 0 && s->product.bias ? s->product.bias[column] : 0);
    int32_t i = s->start[column], end = s->start[column + 1];
    for (; i + SIDE <= end; i += SIDE)
#pragma GCC unroll 4
        for (int j = 0; j < SIDE; j++) {
            const float *from = work + (int64_t)s->index[i + j] * wide * EDGE_LANES;
            vf w = v_set(s->value[i + j]);
#pragma GCC unroll 4
            for (int v = 0; v < wide; v++) acc[j][v] = v_madd(w, v_load(from + v * EDGE_LANES), acc[j][v]);
        }
    for (; i < end; i++) {
        const float *from = work + (int64_t)s->index[i] * wide * EDGE_LANES;
        vf w = v_set(s->value[i]);
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) acc[0][v] = v_madd(w, v_load(from + v * EDGE_LANES), acc[0][v]);
    }
#pragma GCC unroll 4
    for (int v = 0; v < wide; v++)
        v_store(part + v * EDGE_LANES, (acc[0][v] + acc[1][v]) + (acc[2][v] + acc[3][v]));
}

static __attribute__((noinline)) void store_columns(int64_t wide, const edge_gemm_f32 *g, int64_t count, int64_t rows, const float *part, float *c,
                          const float *add) {
    if (count < SIDE) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < count; j++) {
                float sum = part[j * wide + r] + (add ? add[r * g->add_row + j] : 0);
                c[r * g->c_row + j] = sum < g->low ? g->low : sum > g->high ? g->high : sum;
            }
        return;
    }
    for (int64_t r = 0; r < rows; r += SIDE) {
        four v[SIDE];
#pragma GCC unroll 4
        for (int j = 0; j < SIDE; j++) v[j] = load4(part + j * wide + r);
        turn4(v);
#pragma GCC unroll 4
        for (int i = 0; i < SIDE; i++) {
            if (r + i >= rows) return;
            if (add) v[i] += load4(add + (r + i) * g->add_row);
            v[i] = clamp4(v[i], g->low, g->high);
            memcpy(c + (r + i) * g->c_row, &v[i], sizeof v[i]);
        }
    }
}

EDGE_INLINE void tile(const int single, const int wide, const edge_spmm_f32 *s, int64_t rows, const float *const *a,
                      float *c, const float *add, float *work) {
    const edge_gemm_f32 *g = &s->product;
    turn_rows(wide * EDGE_LANES, g, rows, a, work);
    for (int64_t column = s->first; column < s->last; column += SIDE) {
        float part[SIDE * WIDE * EDGE_LANES];
        int64_t count = g->n - column < SIDE ? g->n - column : SIDE;
        if (single)
            for (int64_t j = 0; j < count; j++) one_column(wide, s, column + j, work, part + j * wide * EDGE_LANES);
        else four_columns(wide, s, column, work, part);
        store_columns(wide * EDGE_LANES, g, count, rows, part, c + column, add ? add + column : NULL);
    }
}

/* As many tiles of WIDE vectors as there are, then single vectors. */
EDGE_INLINE void tiles(const int single, const edge_spmm_f32 *s, int64_t rows, const float *const *a, float *c,
                       const float *add, float *work) {
    const edge_gemm_f32 *g = &s->product;
    for (int64_t r = 0, count; r < rows; r += count) {
        int whole = rows - r >= WIDE * EDGE_LANES;
        int64_t most = whole ? WIDE * EDGE_LANES : EDGE_LANES;
        count = rows - r < most ? rows - r : most;
        const float *const *from = a + r * g->taps;
        float *to = c + r * g->c_row;
        const float *more = add ? add + r * g->add_row : NULL;
        if (whole) tile(single, WIDE, s, count, from, to, more, work);
        else tile(single, 1, s, count, from, to, more, work);
    }
}

void EDGE_NAME(edge_spmm_f32_1x1)(const edge_spmm_f32 *s, int64_t rows, const float *const *a, float *c, const float *add,
                                  float *work) {
    tiles(1, s, rows, a, c, add, work);
}

void EDGE_NAME(edge_spmm_f32_4x1)(const edge_spmm_f32 *s, int64_t rows, const float *const *a, float *c, const float *add,
                                  float *work) {
    tiles(0, s, rows, a, c, add, work);
}
