#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

/* Scale or bias, broadcast to the shape of the input. */
typedef struct parameter {
    const ew_tensor *t; /* NULL: absent */
    bool is_row;        /* element i belongs to element i of every row */
    int64_t strides[EDGE_MAX_RANK];
} parameter;

typedef struct job {
    const ew_tensor *x;
    ew_tensor *y, *mean, *inverse; /* mean and inverse may be NULL */
    parameter scale, bias;
    int64_t length;
    double epsilon;
    bool centered;
} job;

static edge_status check_parameter(const ew_call *call, int i) {
    const ew_tensor *x = ew_in(call, 0), *t = ew_in(call, i);
    if (!t) return EDGE_OK;
    int shift = x->rank - t->rank;
    bool fits = shift >= 0;
    for (int k = 0; fits && k < t->rank; k++) fits = t->dims[k] == 1 || t->dims[k] == x->dims[k + shift];
    if (!fits) return ew_fail(EDGE_INVALID_MODEL, "input %d does not broadcast to the shape of input 0", i);
    if (!(EW_T(t->dtype) & EW_FLOATS))
        return ew_fail(EDGE_INVALID_MODEL, "input %d must be a float, it is %s", i, ew_dtype_name(t->dtype));
    return EDGE_OK;
}

edge_status ew_infer_rms_norm(ew_call *call) {
    edge_dtype stash;
    int axis;
    EW_TRY(ew_needs(call, 2, 1));
    EW_TRY(ew_stash_type(call, &stash));
    EW_TRY(ew_reduction_axis(call, -1, &axis));
    EW_TRY(check_parameter(call, 1));
    const ew_tensor *x = ew_in(call, 0);
    return ew_shape(ew_out(call, 0), ew_in(call, 1)->dtype, x->rank, x->dims);
}

edge_status ew_infer_layer_norm(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    edge_dtype stash;
    int axis;
    EW_TRY(ew_needs(call, 2, 3));
    EW_TRY(ew_stash_type(call, &stash));
    EW_TRY(ew_reduction_axis(call, -1, &axis));
    for (int i = 1; i <= 2; i++) {
        EW_TRY(check_parameter(call, i));
        if (ew_in(call, i) && ew_in(call, i)->dtype != x->dtype)
            return ew_fail(EDGE_INVALID_MODEL, "input %d must be %s, as input 0 is", i, ew_dtype_name(x->dtype));
    }
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < x->rank; i++) dims[i] = i < axis ? x->dims[i] : 1;
    for (int i = 1; i <= 2; i++)
        if (ew_out(call, i)) EW_TRY(ew_shape(ew_out(call, i), stash, x->rank, dims));
    return ew_same(ew_out(call, 0), x);
}

static void set_parameter(parameter *p, const ew_tensor *t, const ew_tensor *x, int axis) {
    *p = (parameter){.t = t, .is_row = true};
    if (!t) return;
    int64_t stride = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        int own = i - (x->rank - t->rank);
        int64_t dim = own >= 0 ? t->dims[own] : 1;
        p->strides[i] = dim == 1 ? 0 : stride;
        p->is_row &= i >= axis ? dim == x->dims[i] : dim == 1;
        stride *= dim;
    }
}

static double parameter_at(const parameter *p, const ew_tensor *x, int64_t row, int64_t i) {
    if (p->is_row) return ew_load_double(p->t->data, p->t->dtype, i);
    int64_t index = row + i, offset = 0;
    for (int k = x->rank - 1; k >= 0; k--) {
        offset += index % x->dims[k] * p->strides[k];
        index /= x->dims[k];
    }
    return ew_load_double(p->t->data, p->t->dtype, offset);
}

static void apply_any(const job *job, int64_t row, double mean, double inverse) {
    for (int64_t i = 0; i < job->length; i++) {
        double value = (ew_load_double(job->x->data, job->x->dtype, row + i) - mean) * inverse;
        value *= parameter_at(&job->scale, job->x, row, i);
        if (job->bias.t) value += parameter_at(&job->bias, job->x, row, i);
        ew_store_double(job->y->data, job->y->dtype, row + i, value);
    }
}

static void apply_f32(const job *job, int64_t row, float mean, float inverse) {
    const float *x = (const float *)job->x->data + row, *scale = job->scale.t->data;
    const float *bias = job->bias.t ? job->bias.t->data : NULL;
    float *y = (float *)job->y->data + row, lane[EW_LANES], factor[EW_LANES], shift[EW_LANES] = {0};
    for (int64_t i = 0; i < job->length; i += EW_LANES) {
        int64_t left = job->length - i;
        ew_take_lanes(lane, x + i, left);
        ew_take_lanes(factor, scale + i, left);
        if (bias) ew_take_lanes(shift, bias + i, left);
        for (int j = 0; j < EW_LANES; j++) lane[j] = (lane[j] - mean) * inverse * factor[j] + shift[j];
        ew_give_lanes(y + i, lane, left);
    }
}

static bool is_fast(const job *job) {
    return job->x->dtype == EDGE_F32 && job->y->dtype == EDGE_F32 && job->scale.is_row && job->bias.is_row;
}

static void normalize_rows(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    double n = (double)job->length;
    for (int64_t row = begin; row < end; row++) {
        int64_t first = row * job->length;
        double mean = job->centered ? ew_stretch_sum(job->x, first, job->length) / n : 0;
        double variance = ew_stretch_deviation(job->x, first, job->length, mean) / n;
        double inverse = 1 / sqrt(variance + job->epsilon);
        if (job->mean) ew_store_double(job->mean->data, job->mean->dtype, row, mean);
        if (job->inverse) ew_store_double(job->inverse->data, job->inverse->dtype, row, inverse);
        if (is_fast(job))
            apply_f32(job, first, (float)mean, (float)inverse);
        else
            apply_any(job, first, mean, inverse);
    }
}

static edge_status run(ew_call *call, job *job) {
    const ew_tensor *x = ew_in(call, 0);
    int axis;
    EW_TRY(ew_reduction_axis(call, -1, &axis));
    job->x = x;
    job->y = ew_out(call, 0);
    job->length = ew_span(x, axis, x->rank);
    job->epsilon = ew_attr_float(call->node, "epsilon", 1e-5f);
    set_parameter(&job->scale, ew_in(call, 1), x, axis);
    set_parameter(&job->bias, job->centered ? ew_in(call, 2) : NULL, x, axis);
    ew_parallel(call, ew_span(x, 0, axis), ew_grain(3 * job->length), normalize_rows, job);
    return EDGE_OK;
}

edge_status ew_run_layer_norm(ew_call *call) {
    job job = {.centered = true, .mean = ew_out(call, 1), .inverse = ew_out(call, 2)};
    return run(call, &job);
}

edge_status ew_run_rms_norm(ew_call *call) {
    job job = {.centered = false};
    return run(call, &job);
}
