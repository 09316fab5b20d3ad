#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

/* Neighbouring columns that are handled together: rows of that width use whole cache lines and few pages. */
enum { COLUMNS = 256 };

typedef struct job {
    const ew_tensor *x;
    ew_tensor *y;
    int64_t extent, inner;
    enum { SOFTMAX, LOG_SOFTMAX, HARDMAX } kind;
} job;

/* Before version 13 all axes from the given one on were one. */
static edge_status extents(const ew_call *call, int64_t *extent, int64_t *inner) {
    const ew_tensor *x = ew_in(call, 0);
    bool flat = call->node->opset < 13;
    int axis;
    EW_TRY(ew_reduction_axis(call, flat && x->rank != 0 ? 1 : -1, &axis));
    *extent = flat ? ew_span(x, axis, x->rank) : ew_extent(x, axis);
    *inner = flat ? 1 : ew_after(x, axis);
    return EDGE_OK;
}

edge_status ew_infer_softmax(ew_call *call) {
    EW_TRY(ew_needs(call, 1, 1));
    int64_t extent, inner;
    EW_TRY(extents(call, &extent, &inner));
    return ew_same(ew_out(call, 0), ew_in(call, 0));
}

static void softmax_row(float *y, const float *x, int64_t n) {
    float lane[EW_LANES], max = ew_row_max(x, n);
    for (int64_t i = 0; i < n; i += EW_LANES) {
        ew_take_lanes(lane, x + i, n - i);
        for (int j = 0; j < EW_LANES; j++) lane[j] = ew_exp_negative(lane[j] - max);
        ew_give_lanes(y + i, lane, n - i);
    }
    float scale = (float)(1 / ew_row_sum(y, n));
    for (int64_t i = 0; i < n; i += EW_LANES) {
        ew_take_lanes(lane, y + i, n - i);
        for (int j = 0; j < EW_LANES; j++) lane[j] *= scale;
        ew_give_lanes(y + i, lane, n - i);
    }
}

static void log_softmax_row(float *y, const float *x, int64_t n) {
    float lane[EW_LANES], max = ew_row_max(x, n), shift = (float)log(ew_row_sum_exp(x, n, max));
    for (int64_t i = 0; i < n; i += EW_LANES) {
        ew_take_lanes(lane, x + i, n - i);
        for (int j = 0; j < EW_LANES; j++) lane[j] = (lane[j] - max) - shift;
        ew_give_lanes(y + i, lane, n - i);
    }
}

/* Steps on neighbouring columns, at most COLUMNS; max, sum and factor have room for whole groups of EW_LANES. */
static void take_max(float *max, const float *x, int64_t n) {
    float lane[EW_LANES];
    for (int64_t i = 0; i < n; i += EW_LANES) {
        ew_take_lanes(lane, x + i, n - i);
        for (int j = 0; j < EW_LANES; j++)
            max[i + j] = ((lane[j] > max[i + j]) | (lane[j] != lane[j])) ? lane[j] : max[i + j];
    }
}

static void add_exp(float *y, double *sum, const float *x, const float *max, int64_t n) {
    float lane[EW_LANES];
    for (int64_t i = 0; i < n; i += EW_LANES) {
        ew_take_lanes(lane, x + i, n - i);
        for (int j = 0; j < EW_LANES; j++) lane[j] = ew_exp_negative(lane[j] - max[i + j]);
        for (int j = 0; j < EW_LANES; j++) sum[i + j] += lane[j];
        ew_give_lanes(y + i, lane, n - i);
    }
}

static void multiply(float *y, const float *factor, int64_t n) {
    float lane[EW_LANES];
    for (int64_t i = 0; i < n; i += EW_LANES) {
        ew_take_lanes(lane, y + i, n - i);
        for (int j = 0; j < EW_LANES; j++) lane[j] *= factor[i + j];
        ew_give_lanes(y + i, lane, n - i);
    }
}

static void subtract_both(float *y, const float *x, const float *max, const float *shift, int64_t n) {
    float lane[EW_LANES];
    for (int64_t i = 0; i < n; i += EW_LANES) {
        ew_take_lanes(lane, x + i, n - i);
        for (int j = 0; j < EW_LANES; j++) lane[j] = (lane[j] - max[i + j]) - shift[i + j];
        ew_give_lanes(y + i, lane, n - i);
    }
}

static int64_t whole_lanes(int64_t n) { return (n + EW_LANES - 1) / EW_LANES * EW_LANES; }

/* The maxima of columns, and sums to begin with. */
static void start_columns(float *max, double *sum, const float *x, const job *job, int64_t n) {
    for (int64_t j = 0; j < whole_lanes(n); j++) {
        max[j] = -INFINITY;
        sum[j] = 0;
    }
    for (int64_t i = 0; i < job->extent; i++) take_max(max, x + i * job->inner, n);
}

static void softmax_columns(float *y, const float *x, const job *job, int64_t n) {
    float max[COLUMNS], scale[COLUMNS];
    double sum[COLUMNS];
    int64_t end = job->extent * job->inner, step = job->inner;
    start_columns(max, sum, x, job, n);
    for (int64_t i = 0; i < end; i += step) add_exp(y + i, sum, x + i, max, n);
    for (int64_t j = 0; j < whole_lanes(n); j++) scale[j] = (float)(1 / sum[j]);
    for (int64_t i = 0; i < end; i += step) multiply(y + i, scale, n);
}

static void log_softmax_columns(float *y, const float *x, const job *job, int64_t n) {
    float max[COLUMNS], shift[COLUMNS], power[COLUMNS];
    double sum[COLUMNS];
    int64_t end = job->extent * job->inner, step = job->inner;
    start_columns(max, sum, x, job, n);
    for (int64_t i = 0; i < end; i += step) add_exp(power, sum, x + i, max, n);
    for (int64_t j = 0; j < whole_lanes(n); j++) shift[j] = (float)log(sum[j]);
    for (int64_t i = 0; i < end; i += step) subtract_both(y + i, x + i, max, shift, n);
}

/* The first of the largest elements; a NaN is larger than all. */
static int64_t largest(const job *job, int64_t first) {
    double best = -INFINITY;
    int64_t at = 0;
    for (int64_t i = 0; i < job->extent && !isnan(best); i++) {
        double x = ew_load_double(job->x->data, job->x->dtype, first + i * job->inner);
        if (!(x > best) && !isnan(x)) continue;
        best = x;
        at = i;
    }
    return at;
}

static void hardmax_column(const job *job, int64_t first) {
    int64_t at = largest(job, first);
    for (int64_t i = 0; i < job->extent; i++)
        ew_store_double(job->y->data, job->y->dtype, first + i * job->inner, i == at);
}

static void real_column(const job *job, int64_t first) {
    edge_dtype dtype = job->x->dtype;
    const void *x = job->x->data;
    void *y = job->y->data;
    int64_t end = first + job->extent * job->inner;
    double max = ew_load_double(x, dtype, first + largest(job, first) * job->inner), sum = 0;
    for (int64_t i = first; i < end; i += job->inner) sum += exp(ew_load_double(x, dtype, i) - max);
    double shift = log(sum);
    for (int64_t i = first; i < end; i += job->inner) {
        double d = ew_load_double(x, dtype, i) - max;
        ew_store_double(y, dtype, i, job->kind == SOFTMAX ? exp(d) / sum : d - shift);
    }
}

static void f32_tile(const job *job, int64_t first, int64_t n) {
    const float *x = (const float *)job->x->data + first;
    float *y = (float *)job->y->data + first;
    bool log = job->kind == LOG_SOFTMAX;
    if (job->inner == 1)
        (log ? log_softmax_row : softmax_row)(y, x, job->extent);
    else
        (log ? log_softmax_columns : softmax_columns)(y, x, job, n);
}

static int64_t tiles_of(const job *job) { return job->inner / COLUMNS + (job->inner % COLUMNS != 0); }

static void softmax_items(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    int64_t tiles = tiles_of(job);
    for (int64_t item = begin; item < end; item++) {
        int64_t column = item % tiles * COLUMNS, first = item / tiles * job->extent * job->inner + column;
        int64_t n = job->inner - column < COLUMNS ? job->inner - column : COLUMNS;
        if (job->kind != HARDMAX && job->x->dtype == EDGE_F32) {
            f32_tile(job, first, n);
            continue;
        }
        for (int64_t j = 0; j < n; j++) (job->kind == HARDMAX ? hardmax_column : real_column)(job, first + j);
    }
}

static edge_status run(ew_call *call, int kind) {
    job job = {.x = ew_in(call, 0), .y = ew_out(call, 0), .kind = kind};
    EW_TRY(extents(call, &job.extent, &job.inner));
    int64_t count = ew_count(job.x);
    if (count == 0) return EDGE_OK;
    int64_t columns = job.inner < COLUMNS ? job.inner : COLUMNS;
    ew_parallel(call, count / (job.extent * job.inner) * tiles_of(&job), ew_grain(job.extent * columns * 8),
                softmax_items, &job);
    return EDGE_OK;
}

edge_status ew_run_softmax(ew_call *call) { return run(call, SOFTMAX); }
edge_status ew_run_log_softmax(ew_call *call) { return run(call, LOG_SOFTMAX); }
edge_status ew_run_hardmax(ew_call *call) { return run(call, HARDMAX); }
