#include <math.h>

#include "reduce.h"

/* This many additions in float keep the rounding error below 2^-20 of the sum of magnitudes. */
enum { MOST_PENDING = 16 };

/* How partial results are put together. */
static ew_step between(ew_step step) {
    return step == EW_MULTIPLY || step == EW_TAKE_MAX || step == EW_TAKE_MIN ? step : EW_ADD;
}

static double real_identity(ew_step step) {
    return step == EW_MULTIPLY ? 1 : step == EW_TAKE_MAX ? -INFINITY : step == EW_TAKE_MIN ? INFINITY : 0;
}

static int64_t integer_identity(ew_step step) {
    return step == EW_MULTIPLY ? 1 : step == EW_TAKE_MAX ? INT64_MIN : step == EW_TAKE_MIN ? INT64_MAX : 0;
}

/* Lanes are set and flushed by whole groups of EW_LANES, of which EW_TILE is a multiple. */
void ew_partial_start(ew_partial *p, ew_step step, edge_dtype dtype, int64_t lanes) {
    double real = real_identity(step);
    int64_t integer = integer_identity(step);
    p->lanes = lanes;
    p->is_float = ew_is_float(dtype);
    p->pending = 0;
    for (int64_t i = 0; i < lanes; i += EW_LANES) {
        if (!p->is_float) {
            for (int j = 0; j < EW_LANES; j++) p->integer[i + j] = integer;
            continue;
        }
        for (int j = 0; j < EW_LANES; j++) p->part[i + j] = (float)real;
        for (int j = 0; j < EW_LANES; j++) p->real[i + j] = real;
    }
}

static void add_doubles(double *restrict all, const double *restrict x, int64_t n) {
    int64_t j = 0;
    for (; n - j >= EW_LANES; j += EW_LANES)
        for (int k = 0; k < EW_LANES; k++) all[j + k] += x[j + k];
    for (; j < n; j++) all[j] += x[j];
}

/* An extreme that is NaN stays, because it compares false. */
static void add_reals(double *all, const double *x, const double *shift, int64_t n, ew_step step) {
    switch (step) {
        case EW_ADD:
            add_doubles(all, x, n);
            break;
        case EW_ADD_ABS:
            for (int64_t j = 0; j < n; j++) all[j] += fabs(x[j]);
            break;
        case EW_ADD_SQUARE:
            for (int64_t j = 0; j < n; j++) all[j] += x[j] * x[j];
            break;
        case EW_ADD_EXP:
            for (int64_t j = 0; j < n; j++) all[j] += exp(x[j] - shift[j]);
            break;
        case EW_MULTIPLY:
            for (int64_t j = 0; j < n; j++) all[j] *= x[j];
            break;
        case EW_TAKE_MAX:
            for (int64_t j = 0; j < n; j++) all[j] = x[j] > all[j] || x[j] != x[j] ? x[j] : all[j];
            break;
        case EW_TAKE_MIN:
            for (int64_t j = 0; j < n; j++) all[j] = x[j] < all[j] || x[j] != x[j] ? x[j] : all[j];
            break;
    }
}

static inline __attribute__((always_inline)) void add_lanes(float *restrict part, const float *restrict x, int n,
                                                            ew_step step) {
    for (int j = 0; j < n; j++) {
        if (step == EW_ADD)
            part[j] += x[j];
        else if (step == EW_ADD_ABS)
            part[j] += fabsf(x[j]);
        else if (step == EW_ADD_SQUARE)
            part[j] += x[j] * x[j];
        else if (step == EW_TAKE_MAX)
            part[j] = ((x[j] > part[j]) | (x[j] != x[j])) ? x[j] : part[j];
        else
            part[j] = ((x[j] < part[j]) | (x[j] != x[j])) ? x[j] : part[j];
    }
}

static inline __attribute__((always_inline)) void add_floats(float *part, const float *x, int64_t n, ew_step step) {
    int64_t j = 0;
    for (; n - j >= EW_LANES; j += EW_LANES) add_lanes(part + j, x + j, EW_LANES, step);
    add_lanes(part + j, x + j, (int)(n - j), step);
}

static void add_exponentials(float *part, const float *x, const double *shift, int64_t n) {
    for (int64_t j = 0; j < n; j += EW_LANES) {
        float lane[EW_LANES], below[EW_LANES] = {0};
        ew_take_lanes(lane, x + j, n - j);
        for (int64_t k = 0; k < EW_LANES && j + k < n; k++) below[k] = (float)shift[j + k];
        for (int k = 0; k < EW_LANES; k++) lane[k] = ew_exp_negative(lane[k] - below[k]);
        add_floats(part + j, lane, n - j < EW_LANES ? n - j : EW_LANES, EW_ADD);
    }
}

static void add_parts(ew_partial *p, const float *x, int64_t n, ew_step step) {
    switch (step) {
        case EW_ADD: add_floats(p->part, x, n, EW_ADD); break;
        case EW_ADD_ABS: add_floats(p->part, x, n, EW_ADD_ABS); break;
        case EW_ADD_SQUARE: add_floats(p->part, x, n, EW_ADD_SQUARE); break;
        case EW_ADD_EXP: add_exponentials(p->part, x, p->shift, n); break;
        case EW_TAKE_MAX: add_floats(p->part, x, n, EW_TAKE_MAX); break;
        default: add_floats(p->part, x, n, EW_TAKE_MIN); break;
    }
    if (++p->pending == MOST_PENDING) ew_partial_flush(p, step);
}

void ew_partial_flush(ew_partial *p, ew_step step) {
    float identity = (float)real_identity(step);
    if (!p->pending) return;
    for (int64_t i = 0; i < p->lanes; i += EW_LANES) {
        double part[EW_LANES];
        for (int j = 0; j < EW_LANES; j++) part[j] = p->part[i + j];
        for (int j = 0; j < EW_LANES; j++) p->part[i + j] = identity;
        add_reals(p->real + i, part, p->shift, EW_LANES, between(step));
    }
    p->pending = 0;
}

static uint64_t magnitude(int64_t x, edge_dtype dtype) {
    return x < 0 && dtype != EDGE_U64 ? -(uint64_t)x : (uint64_t)x;
}

/* Integers wrap; u64 is compared with its top bit turned, so that signed comparisons order it. */
static void add_integers(int64_t *all, const int64_t *x, edge_dtype dtype, int64_t n, ew_step step) {
    uint64_t turn = dtype == EDGE_U64 ? (uint64_t)1 << 63 : 0;
    for (int64_t j = 0; j < n; j++) {
        uint64_t u = (uint64_t)x[j], sum = (uint64_t)all[j];
        int64_t ordered = (int64_t)(u ^ turn);
        switch (step) {
            case EW_ADD_ABS: all[j] = (int64_t)(sum + magnitude(x[j], dtype)); break;
            case EW_ADD_SQUARE: all[j] = (int64_t)(sum + u * u); break;
            case EW_MULTIPLY: all[j] = (int64_t)(sum * u); break;
            case EW_TAKE_MAX: all[j] = ordered > all[j] ? ordered : all[j]; break;
            case EW_TAKE_MIN: all[j] = ordered < all[j] ? ordered : all[j]; break;
            default: all[j] = (int64_t)(sum + u); break;
        }
    }
}

void ew_partial_add(ew_partial *p, ew_step step, const ew_tensor *x, int64_t first, int64_t n) {
    if (x->dtype == EDGE_F32 && step != EW_MULTIPLY) {
        add_parts(p, (const float *)x->data + first, n, step);
    } else if (ew_is_float(x->dtype)) {
        double loaded[EW_TILE];
        ew_load_doubles(loaded, x->data, x->dtype, first, n);
        add_reals(p->real, loaded, p->shift, n, step);
    } else {
        int64_t loaded[EW_TILE];
        ew_load_integers(loaded, x->data, x->dtype, first, n);
        add_integers(p->integer, loaded, x->dtype, n, step);
    }
}

void ew_partial_fold(ew_partial *p, ew_step step) {
    for (int64_t j = 1; j < p->lanes; j++)
        if (p->is_float)
            add_reals(p->real, p->real + j, p->shift, 1, between(step));
        else
            add_integers(p->integer, p->integer + j, EDGE_S64, 1, between(step));
}

double ew_row_reduce(ew_step step, const float *x, int64_t n, double shift) {
    switch (step) {
        case EW_ADD: return ew_row_sum(x, n);
        case EW_ADD_ABS: return ew_row_sum_abs(x, n);
        case EW_ADD_SQUARE: return ew_row_sum_square(x, n);
        case EW_ADD_EXP: return ew_row_sum_exp(x, n, (float)shift);
        case EW_TAKE_MAX: return ew_row_max(x, n);
        default: return ew_row_min(x, n);
    }
}

double ew_combine(ew_step step, double a, double b) {
    add_reals(&a, &b, NULL, 1, between(step));
    return a;
}
