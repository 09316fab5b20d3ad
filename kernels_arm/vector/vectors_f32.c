/* Few rows by many, bound by memory: each value of the rows is read once. */
#include "vector.h"

enum { TOGETHER = 4 }; /* rows of a dot product, vectors of a mixture */

EDGE_INLINE vf load(const float *p, int64_t count) { return count >= EDGE_LANES ? v_load(p) : v_load_some(p, count); }

void EDGE_NAME(edge_dots_f32)(const float *x, const float *rows, int64_t row, int64_t count, int64_t depth, float *y) {
    for (int64_t i = 0; i < count; i += TOGETHER) {
        const float *at[TOGETHER];
        vf sum[TOGETHER];
        for (int r = 0; r < TOGETHER; r++) {
            at[r] = rows + (i + r < count ? i + r : count - 1) * row;
            sum[r] = (vf){0};
        }
        for (int64_t j = 0; j < depth; j += EDGE_LANES) {
            vf v = load(x + j, depth - j);
            for (int r = 0; r < TOGETHER; r++) sum[r] = v_madd(v, load(at[r] + j, depth - j), sum[r]);
        }
        for (int r = 0; r < TOGETHER && i + r < count; r++) y[i + r] = v_sum(sum[r]);
    }
}

/* Columns [0, width) of the mixture, width at most TOGETHER vectors. */
EDGE_INLINE void mix(const float *weights, const float *rows, int64_t row, int64_t count, int64_t width, float *y) {
    vf sum[TOGETHER] = {{0}};
    for (int64_t i = 0; i < count; i++) {
        vf weight = v_set(weights[i]);
        for (int c = 0; c * EDGE_LANES < width; c++)
            sum[c] = v_madd(weight, load(rows + i * row + c * EDGE_LANES, width - c * EDGE_LANES), sum[c]);
    }
    for (int c = 0; c * EDGE_LANES < width; c++) {
        if (width - c * EDGE_LANES >= EDGE_LANES) v_store(y + c * EDGE_LANES, sum[c]);
        else v_store_some(y + c * EDGE_LANES, sum[c], width - c * EDGE_LANES);
    }
}

void EDGE_NAME(edge_mix_f32)(const float *weights, const float *rows, int64_t row, int64_t count, int64_t depth, float *y) {
    int64_t j = 0, wide = TOGETHER * EDGE_LANES;
    for (; j + wide <= depth; j += wide) mix(weights, rows + j, row, count, wide, y + j);
    for (; j < depth; j += EDGE_LANES)
        mix(weights, rows + j, row, count, depth - j < EDGE_LANES ? depth - j : EDGE_LANES, y + j);
}
