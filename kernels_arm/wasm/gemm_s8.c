/* Four bytes of a row against four of each column, as 16-bit numbers: exact.  Two sums of each column. */
#include "edge_blocks.h"
#include "rescale.h"

enum { ROWS = 2, WIDE = 2, PARTS = 2 };

/* count: up to 4, a constant but for the last bytes of a row. */
EDGE_INLINE v128_t some_bytes(const uint8_t *p, int64_t count) {
    if (count == 4) return wasm_v128_load32_splat(p);
    uint32_t bytes = p[0] | (count > 1 ? (uint32_t)p[1] << 8 : 0) | (count > 2 ? (uint32_t)p[2] << 16 : 0);
    return wasm_u32x4_splat(bytes);
}

/* Four bytes of every row; rows and vectors are constants where this is called. */
EDGE_INLINE void step(const int rows, const int vectors, v128_t turn, const uint8_t *const *row, int64_t k,
                      int64_t count, const int8_t *b, v128_t (*acc)[WIDE][PARTS]) {
    v128_t w[WIDE][PARTS];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
        w[v][0] = wasm_i16x8_load8x8(b + v * 16);
        w[v][1] = wasm_i16x8_load8x8(b + v * 16 + 8);
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++) {
        v128_t x = e_widened(some_bytes(row[r] + k, count), turn);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
#pragma GCC unroll 2
            for (int i = 0; i < PARTS; i++)
                acc[r][v][i] = wasm_i32x4_add(acc[r][v][i], wasm_i32x4_dot_i16x8(x, w[v][i]));
    }
}

EDGE_INLINE v128_t total(const v128_t *part) {
    return wasm_i32x4_add(wasm_i32x4_shuffle(part[0], part[1], 0, 2, 4, 6),
                          wasm_i32x4_shuffle(part[0], part[1], 1, 3, 5, 7));
}

EDGE_INLINE void store(const edge_gemm_s8 *g, v128_t sum, int64_t left, int64_t r, int64_t column, void *c,
                       const float *add) {
    int64_t at = r * g->c_row + column;
    if (!g->to_f32) {
        e_store(&g->out, sum, left, column, (uint8_t *)c + at);
        return;
    }
    v128_t y = e_scaled(&g->out, sum, left, column);
    if (g->offset) y = wasm_f32x4_add(y, e_some(g->offset + column, left));
    if (add) y = wasm_f32x4_add(y, e_some(add + r * g->add_row + column, left));
    y = e_clamp(y, g->out.low, g->out.high);
    memcpy((float *)c + at, &y, (size_t)left * 4);
}

/* From the sums of a tile to what they give; one function for every size of tile, since it is long. */
static __attribute__((noinline)) void finish(int rows, int vectors, const edge_gemm_s8 *g, const v128_t *sum,
                                             const int8_t *column_sums, int64_t column, void *c, const float *add) {
    for (int v = 0; v < vectors; v++, column += 4) {
        int64_t left = g->n - column < 4 ? g->n - column : 4;
        if (left <= 0) break;
        v128_t start = e_start(&g->out, left, column, e_some(column_sums + v * 16, 4));
        for (int r = 0; r < rows; r++)
            store(g, wasm_i32x4_add(start, sum[r * vectors + v]), left, r, column, c, add);
    }
}

EDGE_INLINE void tile(const int rows, const int vectors, const edge_gemm_s8 *g, const uint8_t *const *a,
                      const int8_t *b, int64_t column, void *c, const float *add) {
    const int64_t line = vectors * 16;
    const int8_t *column_sums = b;
    v128_t turn = e_turn(&g->out), acc[ROWS][WIDE][PARTS], sum[ROWS * WIDE];
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) acc[r][v][0] = acc[r][v][1] = wasm_i32x4_splat(0);
    b += line;
    for (int64_t t = 0; t < g->taps; t++) {
        const uint8_t *row[ROWS];
        int64_t k = 0;
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) row[r] = a[r * g->taps + t];
        for (; k + 4 <= g->depth; k += 4, b += line) step(rows, vectors, turn, row, k, 4, b, acc);
        if (k == g->depth) continue;
        step(rows, vectors, turn, row, k, g->depth - k, b, acc);
        b += line;
    }
#pragma GCC unroll 2
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r * vectors + v] = total(acc[r][v]);
    finish(rows, vectors, g, sum, column_sums, column, c, add);
}

void EDGE_NAME(edge_gemm_s8)(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    const int8_t *b = g->b;
    int64_t lines = 1 + g->taps * ((g->depth + 3) / 4), bytes = g->to_f32 ? 4 : 1;
    for (int64_t column = 0; column < g->n; column += WIDE * 4) {
        int wide = g->n - column > 4 ? WIDE : 1;
        for (int64_t r = 0, step = wide == WIDE ? ROWS : 1; r < rows; r += step) {
            const uint8_t *const *from = a + r * g->taps;
            void *to = (uint8_t *)c + r * g->c_row * bytes;
            const float *more = add ? add + r * g->add_row : NULL;
            if (r + 1 < rows && wide == WIDE) tile(ROWS, WIDE, g, from, b, column, to, more);
            else if (wide == WIDE) tile(1, WIDE, g, from, b, column, to, more);
            else tile(1, 1, g, from, b, column, to, more);
        }
        b += wide * 16 * lines;
    }
}

/* ---- blocks ---- */

enum { TILE = 4 };

/* One row as 16-bit numbers, its fours TILE of them apart; the last one may end with anything. */
static void widen_row(v128_t turn, const uint8_t *from, int64_t depth, int16_t *to) {
    int64_t k = 0;
    for (; k + 8 <= depth; k += 8, to += 2 * TILE * 4) {
        v128_t x = e_widened(wasm_v128_load64_zero(from + k), turn);
        wasm_v128_store64_lane(to, x, 0);
        wasm_v128_store64_lane(to + TILE * 4, x, 1);
    }
    for (; k < depth; k += 4, to += TILE * 4)
        wasm_v128_store64_lane(to, e_widened(some_bytes(from + k, depth - k < 4 ? depth - k : 4), turn), 0);
}

/* Group after group; rows that are not there are computed and not written. */
static void groups(const edge_gemm_s8 *g, int64_t there, const edge_blocks *b, const int16_t *held, void *c, const float *add) {
    for (int64_t column = 0; column < g->n; column += 4) {
        const int32_t *start = b->start + (g->first + column) / 4;
        const uint16_t *index = b->index + start[0], *end = b->index + start[1];
        const int8_t *value = b->value + start[0] * 16;
        v128_t acc[TILE][PARTS], sum[TILE];
#pragma GCC unroll 4
        for (int r = 0; r < TILE; r++) acc[r][0] = acc[r][1] = wasm_i32x4_splat(0);
        for (; index < end; index++, value += 16) {
            const int16_t *x = held + *index * TILE * 4;
            v128_t w[PARTS] = {wasm_i16x8_load8x8(value), wasm_i16x8_load8x8(value + 8)};
#pragma GCC unroll 4
            for (int r = 0; r < TILE; r++) {
                v128_t four = wasm_v128_load64_splat(x + r * 4);
#pragma GCC unroll 2
                for (int i = 0; i < PARTS; i++) acc[r][i] = wasm_i32x4_add(acc[r][i], wasm_i32x4_dot_i16x8(four, w[i]));
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < TILE; r++) sum[r] = total(acc[r]);
        finish((int)there, 1, g, sum, (const int8_t *)(b->sums + g->first + column), column, c, add);
    }
}

void EDGE_NAME(edge_gemm_s8_4x4)(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    int16_t held[EDGE_BLOCKS_MOST_FOURS * TILE * 4];
    const edge_blocks b = edge_blocks_of(g->b);
    int64_t bytes = g->to_f32 ? 4 : 1, fours = (g->depth + 3) / 4;
    for (int64_t r = 0, count; r < rows; r += count) {
        count = rows - r < TILE ? rows - r : TILE;
        for (int64_t i = 0; i < TILE; i++)
            for (int64_t t = 0; t < g->taps; t++)
                widen_row(e_turn(&g->out), a[(r + (i < count ? i : 0)) * g->taps + t], g->depth, held + (t * fours * TILE + i) * 4);
        groups(g, count, &b, held, (uint8_t *)c + r * g->c_row * bytes, add ? add + r * g->add_row : NULL);
    }
}
