#include <math.h>

#include "reduce.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

typedef enum kind { SUM, MEAN, L1, L2, SQUARES, LOG_SUM, LOG_SUM_EXP, PRODUCT, MAX, MIN } kind;

static const ew_step steps[] = {EW_ADD, EW_ADD,     EW_ADD_ABS,  EW_ADD_SQUARE, EW_ADD_SQUARE,
                                EW_ADD, EW_ADD_EXP, EW_MULTIPLY, EW_TAKE_MAX,   EW_TAKE_MIN};

/* Lanes among which a row that is not f32 is divided. */
enum { ROW_LANES = 64 };

typedef struct job {
    const ew_tensor *x;
    ew_tensor *y;
    kind kind;
    ew_split split;
} job;

static bool is_unsigned(edge_dtype dtype) { return (EW_T(dtype) & (EW_UNSIGNED | EW_T(EDGE_BOOL))) != 0; }

static edge_status reduced_dims(const ew_call *call, bool reduced[EDGE_MAX_RANK]) {
    int axes[EDGE_MAX_RANK], count, rank = ew_in(call, 0)->rank;
    EW_TRY(ew_axes(call, 1, rank, axes, &count));
    bool all = count <= 0 && !ew_attr_int(call->node, "noop_with_empty_axes", 0);
    for (int i = 0; i < rank; i++) reduced[i] = all;
    for (int i = 0; i < count; i++) reduced[axes[i]] = true;
    return EDGE_OK;
}

edge_status ew_infer_reduce(ew_call *call) {
    EW_TRY(ew_needs(call, 1, 1));
    const ew_tensor *x = ew_in(call, 0);
    bool reduced[EDGE_MAX_RANK], keep = ew_attr_int(call->node, "keepdims", 1) != 0;
    EW_TRY(reduced_dims(call, reduced));
    int64_t dims[EDGE_MAX_RANK];
    int rank = 0;
    for (int i = 0; i < x->rank; i++) {
        if (!reduced[i])
            dims[rank++] = x->dims[i];
        else if (keep)
            dims[rank++] = 1;
    }
    return ew_shape(ew_out(call, 0), x->dtype, rank, dims);
}

/* The least or greatest value of a dtype. */
static int64_t limit(edge_dtype dtype, bool max) {
    int bits = 8 * (int)ew_dtype_bytes(dtype);
    if (dtype == EDGE_BOOL) return max;
    if (is_unsigned(dtype)) return max ? (int64_t)(((uint64_t)1 << bits) - 1) : 0;
    int64_t top = (int64_t)(((uint64_t)1 << (bits - 1)) - 1);
    return max ? top : -top - 1;
}

/* Of no elements it is the limit of the dtype. */
static int64_t finish_extreme(int64_t value, edge_dtype dtype) {
    if (dtype == EDGE_U64) return (int64_t)((uint64_t)value ^ (uint64_t)1 << 63);
    int64_t low = limit(dtype, false), high = limit(dtype, true);
    return value < low ? low : value > high ? high : value;
}

static int64_t finish_integer(kind kind, int64_t value, edge_dtype dtype, int64_t count) {
    switch (kind) {
        case MAX:
        case MIN: return finish_extreme(value, dtype);
        case MEAN:
            if (count == 0) return 0;
            return is_unsigned(dtype) ? (int64_t)((uint64_t)value / (uint64_t)count) : value / count;
        case L2: return (int64_t)sqrt((double)(uint64_t)value);
        default: return value;
    }
}

/* With a maximum that is not finite the sum of exponentials has no meaning, and the maximum is the result. */
static double finish_real(kind kind, double value, double shift, int64_t count) {
    switch (kind) {
        case MEAN: return value / (double)count;
        case L2: return sqrt(value);
        case LOG_SUM: return log(value);
        case LOG_SUM_EXP: return isfinite(shift) ? log(value) + shift : shift;
        default: return value;
    }
}

static void put_integer(ew_tensor *y, int64_t index, int64_t value) {
    switch (ew_dtype_bytes(y->dtype)) {
        case 1: ((uint8_t *)y->data)[index] = (uint8_t)value; break;
        case 2: ((uint16_t *)y->data)[index] = (uint16_t)value; break;
        case 4: ((uint32_t *)y->data)[index] = (uint32_t)value; break;
        default: ((uint64_t *)y->data)[index] = (uint64_t)value; break;
    }
}

static void finish(const job *job, ew_partial *p, int64_t first, int64_t n) {
    int64_t count = job->split.reduced_count;
    edge_dtype dtype = job->y->dtype;
    if (ew_is_float(dtype)) {
        for (int64_t j = 0; j < n; j++) p->real[j] = finish_real(job->kind, p->real[j], p->shift[j], count);
        ew_store_doubles(job->y->data, dtype, first, p->real, n);
    } else {
        for (int64_t j = 0; j < n; j++)
            put_integer(job->y, first + j, finish_integer(job->kind, p->integer[j], dtype, count));
    }
}

/* One output from contiguous rows; it is left in the first lane. */
static void sweep_rows(const job *job, ew_partial *p, ew_step step, int64_t first) {
    int64_t n = job->split.inner;
    ew_position at = {0};
    ew_partial_start(p, step, job->x->dtype, n < ROW_LANES ? n : ROW_LANES);
    do {
        for (int64_t i = 0; i < n; i += ROW_LANES)
            ew_partial_add(p, step, job->x, first + at.offset + i, n - i < ROW_LANES ? n - i : ROW_LANES);
    } while (ew_next_position(&job->split.reduced, &at));
    ew_partial_flush(p, step);
    ew_partial_fold(p, step);
}

static double sweep_f32_rows(const job *job, ew_step step, int64_t first, double shift) {
    const float *x = (const float *)job->x->data + first;
    ew_position at = {0};
    double all = ew_row_reduce(step, x, job->split.inner, shift);
    while (ew_next_position(&job->split.reduced, &at))
        all = ew_combine(step, all, ew_row_reduce(step, x + at.offset, job->split.inner, shift));
    return all;
}

/* Neighbouring outputs, one in each lane. */
static void sweep_lanes(const job *job, ew_partial *p, ew_step step, int64_t first, int64_t lanes) {
    ew_position at = {0};
    ew_partial_start(p, step, job->x->dtype, lanes);
    do ew_partial_add(p, step, job->x, first + at.offset, lanes);
    while (ew_next_position(&job->split.reduced, &at));
    ew_partial_flush(p, step);
}

static void reduce_f32_rows(const job *job, ew_partial *results, int64_t output, int64_t n) {
    ew_position at = ew_position_at(&job->split.kept, output);
    for (int64_t j = 0; j < n; j++) {
        double shift = 0;
        if (job->kind == LOG_SUM_EXP) shift = sweep_f32_rows(job, EW_TAKE_MAX, at.offset, 0);
        results->shift[j] = shift;
        results->real[j] = sweep_f32_rows(job, steps[job->kind], at.offset, shift);
        ew_next_position(&job->split.kept, &at);
    }
}

static void reduce_any_rows(const job *job, ew_partial *results, int64_t output, int64_t n) {
    ew_partial row;
    ew_position at = ew_position_at(&job->split.kept, output);
    row.shift[0] = 0;
    for (int64_t j = 0; j < n; j++) {
        if (job->kind == LOG_SUM_EXP) {
            sweep_rows(job, &row, EW_TAKE_MAX, at.offset);
            for (int k = 0; k < ROW_LANES; k++) row.shift[k] = row.real[0];
        }
        sweep_rows(job, &row, steps[job->kind], at.offset);
        results->shift[j] = row.shift[0];
        if (row.is_float)
            results->real[j] = row.real[0];
        else
            results->integer[j] = row.integer[0];
        ew_next_position(&job->split.kept, &at);
    }
}

static void reduce_rows(const job *job, int64_t output, int64_t n) {
    ew_partial results;
    bool fast = job->x->dtype == EDGE_F32 && job->kind != PRODUCT;
    (fast ? reduce_f32_rows : reduce_any_rows)(job, &results, output, n);
    finish(job, &results, output, n);
}

static void reduce_lanes(const job *job, int64_t outer, int64_t column, int64_t n) {
    ew_partial p;
    int64_t first = ew_position_at(&job->split.kept, outer).offset + column;
    if (job->kind == LOG_SUM_EXP) {
        sweep_lanes(job, &p, EW_TAKE_MAX, first, n);
        memcpy(p.shift, p.real, (size_t)n * sizeof *p.shift);
    }
    sweep_lanes(job, &p, steps[job->kind], first, n);
    finish(job, &p, outer * job->split.inner + column, n);
}

static int64_t tiles_of(int64_t count) { return count / EW_TILE + (count % EW_TILE != 0); }

static int64_t tile_of(int64_t left) { return left < EW_TILE ? left : EW_TILE; }

static void reduce_row_items(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    for (int64_t output = begin; output < end; output += EW_TILE) reduce_rows(job, output, tile_of(end - output));
}

static void reduce_lane_items(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    int64_t inner = job->split.inner, tiles = tiles_of(inner);
    for (int64_t item = begin; item < end; item++) {
        int64_t column = item % tiles * EW_TILE;
        reduce_lanes(job, item / tiles, column, tile_of(inner - column));
    }
}

static void fill_with_identity(job *job, int64_t outputs) {
    ew_partial p;
    p.shift[0] = -INFINITY;
    for (int64_t i = 0; i < outputs; i++) {
        ew_partial_start(&p, steps[job->kind], job->x->dtype, 1);
        finish(job, &p, i, 1);
    }
}

static edge_status reduce(ew_call *call, kind kind) {
    job job = {.x = ew_in(call, 0), .y = ew_out(call, 0), .kind = kind};
    bool reduced[EDGE_MAX_RANK];
    int64_t outputs = ew_count(job.y);
    EW_TRY(reduced_dims(call, reduced));
    if (outputs == 0) return EDGE_OK;
    if (ew_count(job.x) == 0) {
        fill_with_identity(&job, outputs);
        return EDGE_OK;
    }
    ew_split_dims(job.x, reduced, &job.split);
    int64_t inner = job.split.inner, work = job.split.reduced_count;
    if (job.split.inner_reduced)
        ew_parallel(call, outputs, ew_grain(work), reduce_row_items, &job);
    else
        ew_parallel(call, outputs / inner * tiles_of(inner), ew_grain(work * tile_of(inner)), reduce_lane_items, &job);
    return EDGE_OK;
}

edge_status ew_run_reduce_sum(ew_call *call) { return reduce(call, SUM); }
edge_status ew_run_reduce_mean(ew_call *call) { return reduce(call, MEAN); }
edge_status ew_run_reduce_l1(ew_call *call) { return reduce(call, L1); }
edge_status ew_run_reduce_l2(ew_call *call) { return reduce(call, L2); }
edge_status ew_run_reduce_sum_square(ew_call *call) { return reduce(call, SQUARES); }
edge_status ew_run_reduce_log_sum(ew_call *call) { return reduce(call, LOG_SUM); }
edge_status ew_run_reduce_log_sum_exp(ew_call *call) { return reduce(call, LOG_SUM_EXP); }
edge_status ew_run_reduce_prod(ew_call *call) { return reduce(call, PRODUCT); }
edge_status ew_run_reduce_max(ew_call *call) { return reduce(call, MAX); }
edge_status ew_run_reduce_min(ew_call *call) { return reduce(call, MIN); }
