#include "dot.h"

/* Lanes of constant count: compilers turn the loops over them into vector instructions at -O2. */
enum { LANES = 8 };

static float total(const float lanes[LANES]) {
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

static float dot_one(const float *x, const float *row, int64_t size) {
    float lanes[LANES] = {0}, sum;
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        for (int l = 0; l < LANES; l++) lanes[l] += x[i + l] * row[i + l];
    }
    sum = total(lanes);
    for (; i < size; i++) sum += x[i] * row[i];
    return sum;
}

static void dot_four(const float *x, const float *rows, int64_t stride, int64_t size, float *sums) {
    const float *r0 = rows, *r1 = r0 + stride, *r2 = r1 + stride, *r3 = r2 + stride;
    float l0[LANES] = {0}, l1[LANES] = {0}, l2[LANES] = {0}, l3[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        for (int l = 0; l < LANES; l++) l0[l] += x[i + l] * r0[i + l];
        for (int l = 0; l < LANES; l++) l1[l] += x[i + l] * r1[i + l];
        for (int l = 0; l < LANES; l++) l2[l] += x[i + l] * r2[i + l];
        for (int l = 0; l < LANES; l++) l3[l] += x[i + l] * r3[i + l];
    }
    float s0 = total(l0), s1 = total(l1), s2 = total(l2), s3 = total(l3);
    for (; i < size; i++) {
        s0 += x[i] * r0[i];
        s1 += x[i] * r1[i];
        s2 += x[i] * r2[i];
        s3 += x[i] * r3[i];
    }
    sums[0] += s0;
    sums[1] += s1;
    sums[2] += s2;
    sums[3] += s3;
}

void ew_dot_rows(const float *x, const float *rows, int64_t stride, int64_t count, int64_t size, float *sums) {
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) dot_four(x, rows + j * stride, stride, size, sums + j);
    for (; j < count; j++) sums[j] += dot_one(x, rows + j * stride, size);
}

void ew_add_row(const float *row, float weight, int64_t size, float *restrict sum) {
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        for (int l = 0; l < LANES; l++) sum[i + l] += weight * row[i + l];
    }
    for (; i < size; i++) sum[i] += weight * row[i];
}

static void add_four(const float *r0, const float *r1, const float *r2, const float *r3, const float *w, int64_t size,
                     float *restrict sum) {
    float w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            sum[i + l] += (w0 * r0[i + l] + w1 * r1[i + l]) + (w2 * r2[i + l] + w3 * r3[i + l]);
        }
    }
    for (; i < size; i++) sum[i] += (w0 * r0[i] + w1 * r1[i]) + (w2 * r2[i] + w3 * r3[i]);
}

void ew_add_rows(const float *rows, int64_t stride, const int32_t *picks, const float *weights, int count, int64_t size,
                 float *sum) {
    int i = 0;
    for (; i + 4 <= count; i += 4) {
        add_four(rows + picks[i] * stride, rows + picks[i + 1] * stride, rows + picks[i + 2] * stride,
                 rows + picks[i + 3] * stride, weights + i, size, sum);
    }
    for (; i < count; i++) ew_add_row(rows + picks[i] * stride, weights[i], size, sum);
}
