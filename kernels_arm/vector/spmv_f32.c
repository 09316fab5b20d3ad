/* Sparse products of few rows as they lie.  What is read of memory is weights, each once for all rows; their vectors are the
 * four of a block, whatever is the longest here.  Sums wait for each other: successive blocks add to several of them. */
#include "vector.h"

enum { SIDE = 4, ROWS = 4, STEP = 4 }; /* rows of a block; the most of x at once; blocks whose places are read together */

enum { AHEAD = 1024 }; /* weights after which come those that the processor is told of: memory is slower than it expects */

typedef float four __attribute__((vector_size(4 * SIDE)));

/* The sums of a group of weights for each row of x, which begin with its biases. */
#define SUMS(name, type)                                                                                               \
    EDGE_INLINE void name(const int rows, const uint16_t *index, const uint16_t *end, const float *value,              \
                          const float *x, int64_t x_row, type bias, type *sum) {                                       \
        const int width = sizeof(type) / sizeof(float), chains = rows > 2 ? 2 : 4;                                     \
        type acc[ROWS][STEP], w;                                                                                       \
        _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++) {                                                       \
            acc[r][0] = bias;                                                                                          \
            _Pragma("GCC unroll 4") for (int i = 1; i < chains; i++) acc[r][i] = (type){0};                            \
        }                                                                                                              \
        for (; end - index >= STEP; index += STEP) {                                                                   \
            uint64_t places;                                                                                           \
            __builtin_prefetch(value + AHEAD, 0, 3);                                                                   \
            memcpy(&places, index, sizeof places);                                                                     \
            _Pragma("GCC unroll 4") for (int i = 0; i < STEP; i++, places >>= 16, value += width) {                    \
                memcpy(&w, value, sizeof w);                                                                           \
                _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++)                                                 \
                    acc[r][i % chains] += w * x[r * x_row + (int64_t)(places & 0xffff)];                               \
            }                                                                                                          \
        }                                                                                                              \
        for (; index < end; index++, value += width) {                                                                 \
            memcpy(&w, value, sizeof w);                                                                               \
            _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++) acc[r][0] += w * x[r * x_row + *index];             \
        }                                                                                                              \
        _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++) {                                                       \
            sum[r] = acc[r][0];                                                                                        \
            _Pragma("GCC unroll 4") for (int i = 1; i < chains; i++) sum[r] += acc[r][i];                              \
        }                                                                                                              \
    }

SUMS(sums_of_four, four)
SUMS(sums_of_one, float)

/* Sums of at most so many rows as there is room for, of those that are left; gives how many. */
EDGE_INLINE int sums(const int side, int64_t left, const edge_spmm_f32 *s, const int32_t *start, const float *x, four bias,
                     four sum[ROWS]) {
    const uint16_t *index = s->index + start[0], *end = s->index + start[1];
    const float *value = s->value + (int64_t)start[0] * side;
    if (side == 1) {
        float one;
        sums_of_one(1, index, end, value, x, s->x_row, bias[0], &one);
        sum[0][0] = one;
        return 1;
    }
    int rows = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    if (rows == 4) sums_of_four(4, index, end, value, x, s->x_row, bias, sum);
    else if (rows == 2) sums_of_four(2, index, end, value, x, s->x_row, bias, sum);
    else sums_of_four(1, index, end, value, x, s->x_row, bias, sum);
    return rows;
}

/* Group after group of weights with all rows, so that they are read once: columns [begin, end) of c. */
EDGE_INLINE void spmv(const int side, const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t rows, const float *x,
                      float *c, const float *add) {
    for (int64_t column = begin; column < end; column += side) {
        four sum[ROWS] = {{0}}, bias = {0};
        int count = end - column < side ? (int)(end - column) : side;
        for (int i = 0; s->bias && i < count; i++) bias[i] = s->bias[column + i];
        for (int64_t row = 0, some; row < rows; row += some) {
            some = sums(side, rows - row, s, s->start + column / side, x + row * s->x_row, bias, sum);
            for (int64_t r = row; r < row + some; r++)
#pragma GCC unroll 1
                for (int i = 0; i < count; i++) {
                    float y = sum[r - row][i];
                    if (add) y += add[r * s->add_row + column + i];
                    c[r * s->c_row + column + i] = y < s->low ? s->low : y > s->high ? s->high : y; /* NaN stays NaN */
                }
        }
    }
}

void EDGE_NAME(edge_spmv_f32_4x1)(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t rows, const float *x,
                                  float *c, const float *add) {
    spmv(SIDE, s, begin, end, rows, x, c, add);
}

void EDGE_NAME(edge_spmv_f32_1x1)(const edge_spmm_f32 *s, int64_t begin, int64_t end, int64_t rows, const float *x,
                                  float *c, const float *add) {
    spmv(1, s, begin, end, rows, x, c, add);
}
