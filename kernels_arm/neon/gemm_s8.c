/* Four bytes of a row against four of each column, exact.  Compiled once with dot products, which do both in one
 * instruction, and once without: then products have 16 bits and go in pairs into sums of 32, two of each column, since
 * 16 bits have no room for a second pair. */
#include "edge_blocks.h"
#include "rescale.h"

#ifdef __ARM_FEATURE_DOTPROD
enum { ROWS = 8, PARTS = 1 };
#else
enum { ROWS = 4, PARTS = 2 };
#endif
enum { WIDE = 2 };

typedef struct sums {
    int32x4_t part[PARTS];
} sums;

EDGE_INLINE void plus(sums *s, int32x4_t row, int8x16_t columns) {
    int8x16_t four = vreinterpretq_s8_s32(row);
#ifdef __ARM_FEATURE_DOTPROD
    s->part[0] = vdotq_s32(s->part[0], columns, four);
#else
    s->part[0] = vpadalq_s16(s->part[0], vmull_s8(vget_low_s8(columns), vget_low_s8(four)));
    s->part[1] = vpadalq_s16(s->part[1], vmull_high_s8(columns, four));
#endif
}

EDGE_INLINE int32x4_t total(const sums *s) {
#ifdef __ARM_FEATURE_DOTPROD
    return s->part[0];
#else
    return vpaddq_s32(s->part[0], s->part[1]);
#endif
}

/* Four times four bytes of every row; rows and vectors are constants where this is called. */
EDGE_INLINE void four_steps(const int rows, const int vectors, uint8x16_t turn, const uint8_t *const *row, int64_t k,
                            const int8_t *b, sums (*acc)[WIDE]) {
    int32x4_t x[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) x[r] = vreinterpretq_s32_s8(e_turned(vld1q_u8(row[r] + k), turn));
#pragma GCC unroll 4
    for (int step = 0; step < 4; step++) {
        int8x16_t w[WIDE];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) w[v] = vld1q_s8(b + (step * vectors + v) * 16);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) plus(&acc[r][v], vdupq_n_s32(x[r][step]), w[v]);
    }
}

/* count: up to 4 bytes of every row; behind them are zeros in the columns. */
EDGE_INLINE void one_step(const int rows, const int vectors, uint8x16_t turn, const uint8_t *const *row, int64_t k,
                          int64_t count, const int8_t *b, sums (*acc)[WIDE]) {
    int8x16_t w[WIDE];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) w[v] = vld1q_s8(b + v * 16);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        const uint8_t *p = row[r] + k;
        uint32_t bytes;
        if (count == 4) memcpy(&bytes, p, 4);
        else bytes = p[0] | (count > 1 ? (uint32_t)p[1] << 8 : 0) | (count > 2 ? (uint32_t)p[2] << 16 : 0);
        int32x4_t x = vreinterpretq_s32_s8(e_turned(vreinterpretq_u8_u32(vdupq_n_u32(bytes)), turn));
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) plus(&acc[r][v], x, w[v]);
    }
}

EDGE_INLINE void store(const edge_gemm_s8 *g, int32x4_t sum, int64_t left, int64_t r, int64_t column, void *c,
                       const float *add) {
    int64_t at = r * g->c_row + column;
    if (!g->to_f32) {
        e_store(&g->out, sum, left, column, (uint8_t *)c + at);
        return;
    }
    float32x4_t y = e_scaled(&g->out, sum, left, column);
    if (g->offset) y = vaddq_f32(y, vreinterpretq_f32_s32(e_some(g->offset + column, left)));
    if (add) y = vaddq_f32(y, vreinterpretq_f32_s32(e_some(add + r * g->add_row + column, left)));
    y = e_clamp(y, g->out.low, g->out.high);
    memcpy((float *)c + at, &y, (size_t)left * 4);
}

/* From the sums of a tile to what they give; one function for every size of tile, since it is long. */
static __attribute__((noinline)) void finish(int rows, int vectors, const edge_gemm_s8 *g, const int32x4_t *sum,
                                             const int8_t *column_sums, int64_t column, void *c, const float *add) {
    for (int v = 0; v < vectors; v++, column += 4) {
        int64_t left = g->n - column < 4 ? g->n - column : 4;
        if (left <= 0) break;
        int32x4_t start = e_start(&g->out, left, column, e_some(column_sums + v * 16, 4));
        for (int r = 0; r < rows; r++)
            store(g, vaddq_s32(start, sum[r * vectors + v]), left, r, column, c, add);
    }
}

/* rows and vectors are constants where this is called: the loops below unroll and acc lives in registers. */
EDGE_INLINE int64_t tile(const int rows, const int vectors, const edge_gemm_s8 *g, const uint8_t *const *a,
                         const int8_t *b, int64_t column, void *c, const float *add) {
    const int64_t line = vectors * 16;
    const int8_t *column_sums = b;
    uint8x16_t turn = e_turn(&g->out);
    sums acc[ROWS][WIDE];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) acc[r][v] = (sums){0};
    b += line;
    for (int64_t t = 0; t < g->taps; t++) {
        const uint8_t *row[ROWS];
        int64_t k = 0;
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) row[r] = a[r * g->taps + t];
        for (; k + 16 <= g->depth; k += 16, b += 4 * line) four_steps(rows, vectors, turn, row, k, b, acc);
        for (; k + 4 <= g->depth; k += 4, b += line) one_step(rows, vectors, turn, row, k, 4, b, acc);
        if (k == g->depth) continue;
        one_step(rows, vectors, turn, row, k, g->depth - k, b, acc);
        b += line;
    }
    int32x4_t sum[ROWS * WIDE];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) sum[r * vectors + v] = total(&acc[r][v]);
    finish(rows, vectors, g, sum, column_sums, column, c, add);
    return rows;
}

/* Does as many rows as a tile has, of those that there are; gives how many. */
EDGE_INLINE int64_t some_rows(const int vectors, int64_t rows, const edge_gemm_s8 *g, const uint8_t *const *a,
                              const int8_t *b, int64_t column, void *c, const float *add) {
#ifdef __ARM_FEATURE_DOTPROD
    if (rows >= 8) return tile(8, vectors, g, a, b, column, c, add);
#endif
    if (rows >= 4) return tile(4, vectors, g, a, b, column, c, add);
    if (rows >= 2) return tile(2, vectors, g, a, b, column, c, add);
    return tile(1, vectors, g, a, b, column, c, add);
}

void EDGE_NAME(edge_gemm_s8)(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    const int8_t *b = g->b;
    int64_t lines = 1 + g->taps * ((g->depth + 3) / 4), bytes = g->to_f32 ? 4 : 1;
    for (int64_t column = 0; column < g->n; column += WIDE * 4) {
        int wide = g->n - column > 4 ? WIDE : 1;
        for (int64_t r = 0; r < rows;) {
            const uint8_t *const *from = a + r * g->taps;
            void *to = (uint8_t *)c + r * g->c_row * bytes;
            const float *more = add ? add + r * g->add_row : NULL;
            if (wide == WIDE) r += some_rows(WIDE, rows - r, g, from, b, column, to, more);
            else r += some_rows(1, rows - r, g, from, b, column, to, more);
        }
        b += wide * 16 * lines;
    }
}

/* ---- blocks ---- */

/* Fours of four rows side by side, of which `there` are there; taps one after the other, each filled up. */
static void hold(const edge_gemm_s8 *g, int64_t there, const uint8_t *const *a, int32_t *to) {
    uint8x16_t turn = e_turn(&g->out);
    for (int64_t t = 0; t < g->taps; t++) {
        const uint8_t *row[4];
        int64_t k = 0;
        for (int r = 0; r < 4; r++) row[r] = a[(r < there ? r : 0) * g->taps + t];
        for (; k + 16 <= g->depth; k += 16, to += 16) {
            int32x4x4_t x;
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++) x.val[r] = vreinterpretq_s32_s8(e_turned(vld1q_u8(row[r] + k), turn));
            vst4q_s32(to, x);
        }
        for (; k < g->depth; k += 4)
            for (int r = 0; r < 4; r++) {
                uint32_t bytes = 0;
                memcpy(&bytes, row[r] + k, g->depth - k < 4 ? (size_t)(g->depth - k) : 4);
                *to++ = (int32_t)(bytes ^ vgetq_lane_u32(vreinterpretq_u32_u8(turn), 0));
            }
    }
}

/* Group after group; rows that are not there are computed and not written. */
static void groups(const edge_gemm_s8 *g, int64_t there, const edge_blocks *b, const int32_t *held, int64_t fours, void *c,
                   const float *add) {
    for (int64_t column = 0; column < g->n; column += 4) {
        const int32_t *start = b->start + (g->first + column) / 4;
        const uint16_t *index = b->index + start[0], *end = b->index + start[1];
        const int8_t *value = b->value + (int64_t)start[0] * 16;
        sums acc[ROWS] = {{{{0}}}};
        for (; index < end; index++, value += 16) {
            int8x16_t w = vld1q_s8(value);
            int32x4_t x[ROWS / 4];
#pragma GCC unroll 2
            for (int i = 0; i < ROWS / 4; i++) x[i] = vld1q_s32(held + (i * fours + *index) * 4);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) plus(&acc[r], vdupq_n_s32(x[r / 4][r % 4]), w);
        }
        int32x4_t sum[ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) sum[r] = total(&acc[r]);
        finish((int)there, 1, g, sum, (const int8_t *)(b->sums + g->first + column), column, c, add);
    }
}

void EDGE_NAME(edge_gemm_s8_4x4)(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    int32_t held[EDGE_BLOCKS_MOST_FOURS * ROWS];
    const edge_blocks b = edge_blocks_of(g->b);
    int64_t bytes = g->to_f32 ? 4 : 1, fours = g->taps * ((g->depth + 3) / 4);
    for (int64_t r = 0, count; r < rows; r += count) {
        count = rows - r < ROWS ? rows - r : ROWS;
        for (int i = 0; i < ROWS; i += 4) {
            int64_t there = count > i ? count - i : 1;
            hold(g, there, a + (count > i ? r + i : r) * g->taps, held + i * fours);
        }
        groups(g, count, &b, held, fours, (uint8_t *)c + r * g->c_row * bytes, add ? add + r * g->add_row : NULL);
    }
}
