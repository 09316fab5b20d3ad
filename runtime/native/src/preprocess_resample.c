/* Antialiased resampling as Pillow does it on 8-bit values: the filter is as wide as a result is in the source, weights
 * are sums to one in fixed point, and each direction rounds once. */
#include <math.h>

#include "preprocess.h"

#define PI 3.14159265358979323846

static double triangle(double x) { return x < 1 ? 1 - x : 0; }

/* The cubic of Keys (1981) with a = -0.5, in the order of operations that rounds like Pillow. */
static double cubic(double x) {
    const double a = -0.5;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x) { return x == 0 ? 1 : sin(x * PI) / (x * PI); }

static double lanczos(double x) { return x < 3 ? sinc(x) * sinc(x / 3) : 0; }

/* Filters at a distance of x >= 0 from their middle, and how far they reach; nearest has none. */
static const struct {
    double (*at)(double x);
    double support;
} FILTERS[] = {[EDGE_BILINEAR] = {triangle, 1}, [EDGE_BICUBIC] = {cubic, 2}, [EDGE_LANCZOS] = {lanczos, 3}};

/* Width of a result in the source, at least one value. */
static double filter_scale(int32_t source, int32_t scaled) { return source > scaled ? (double)source / scaled : 1; }

int32_t ew_axis_taps(edge_resize resize, int32_t source, int32_t scaled) {
    if (resize == EDGE_NEAREST) return 1;
    return (int32_t)ceil(FILTERS[resize].support * filter_scale(source, scaled)) * 2 + 1;
}

/* The place is a running sum, which rounds as Pillow's does. */
static void fill_nearest(ew_axis *axis, int32_t source, int32_t scaled, int32_t offset) {
    double step = (double)source / scaled, place = step * 0.5;
    for (int32_t i = 0; i < offset; i++) place += step;
    for (int32_t i = 0; i < axis->size; i++, place += step) {
        axis->first[i] = place < source ? (int32_t)place : source - 1;
        axis->count[i] = 1;
        axis->weights[i] = 1 << EW_WEIGHT_BITS;
    }
}

/* Values of the filter as weights whose sum is one. */
static void to_fixed_point(const double *values, double sum, int32_t count, int32_t *weights) {
    for (int32_t j = 0; j < count; j++) {
        double weight = (sum != 0 ? values[j] / sum : values[j]) * (1 << EW_WEIGHT_BITS);
        weights[j] = (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
}

void ew_axis_fill(ew_axis *axis, edge_resize resize, int32_t source, int32_t scaled, int32_t offset, double *scratch) {
    if (resize == EDGE_NEAREST) {
        fill_nearest(axis, source, scaled, offset);
        return;
    }
    double width = filter_scale(source, scaled), reach = FILTERS[resize].support * width, inverse = 1 / width;
    for (int32_t i = 0; i < axis->size; i++) {
        double middle = (offset + i + 0.5) * ((double)source / scaled), low = middle - reach + 0.5, sum = 0;
        int32_t first = low > 0 ? (int32_t)low : 0;
        int32_t end = middle + reach + 0.5 < source ? (int32_t)(middle + reach + 0.5) : source;
        for (int32_t j = 0; j < end - first; j++) {
            scratch[j] = FILTERS[resize].at(fabs((first + j - middle + 0.5) * inverse));
            sum += scratch[j];
        }
        axis->first[i] = first;
        axis->count[i] = end - first;
        to_fixed_point(scratch, sum, end - first, axis->weights + (size_t)i * (size_t)axis->taps);
    }
}

void ew_scale_row(const ew_axis *axis, const uint8_t *row, uint8_t *to) {
    for (int32_t i = 0; i < axis->size; i++, to += 3) { /* magnitudes of weights add up to less than 2: no overflow */
        const uint8_t *at = row + 3 * (ptrdiff_t)(axis->first[i] - axis->first[0]);
        const int32_t *weights = axis->weights + (size_t)i * (size_t)axis->taps;
        int32_t red = EW_WEIGHT_HALF, green = EW_WEIGHT_HALF, blue = EW_WEIGHT_HALF;
        for (int32_t j = 0; j < axis->count[i]; j++, at += 3) {
            red += weights[j] * at[0];
            green += weights[j] * at[1];
            blue += weights[j] * at[2];
        }
        to[0] = ew_clip(red);
        to[1] = ew_clip(green);
        to[2] = ew_clip(blue);
    }
}

void ew_scale_column(const ew_axis *axis, int32_t i, const uint8_t *ring, size_t row_bytes, int32_t *sums) {
    const int32_t *weights = axis->weights + (size_t)i * (size_t)axis->taps;
    for (size_t b = 0; b < row_bytes; b++) sums[b] = EW_WEIGHT_HALF;
    for (int32_t j = 0; j < axis->count[i]; j++) {
        const uint8_t *row = ring + row_bytes * (size_t)((axis->first[i] + j) % axis->taps);
        for (size_t b = 0; b < row_bytes; b++) sums[b] += weights[j] * row[b];
    }
}
