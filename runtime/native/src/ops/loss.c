#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

typedef struct job {
    const ew_tensor *scores, *labels, *weights; /* weights may be NULL */
    ew_tensor *loss, *log_prob;                 /* log_prob may be NULL */
    int64_t classes, area;
    bool from_scores; /* else the input holds logarithms of probabilities */
    enum { NONE, SUM, MEAN } reduction;
    const ew_attribute *ignored; /* a label, NULL: none */
} job;

static edge_status reduction_of(const ew_call *call, int *reduction) {
    static const char *const names[] = {"none", "sum", "mean"};
    const char *name = ew_attr_string(call->node, "reduction", "mean");
    for (*reduction = NONE; *reduction <= MEAN; ++*reduction)
        if (strcmp(name, names[*reduction]) == 0) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "reduction is '%.40s', it must be none, sum or mean", name);
}

static edge_status check_labels(const ew_tensor *scores, const ew_tensor *labels) {
    if (labels->dtype != EDGE_S32 && labels->dtype != EDGE_S64)
        return ew_fail(EDGE_INVALID_MODEL, "input 1 must be int32 or int64, it is %s", ew_dtype_name(labels->dtype));
    bool fits = scores->rank >= 2 && labels->rank == scores->rank - 1 && labels->dims[0] == scores->dims[0];
    for (int i = 1; fits && i < labels->rank; i++) fits = labels->dims[i] == scores->dims[i + 1];
    if (!fits) return ew_fail(EDGE_INVALID_MODEL, "input 1 must have the shape of input 0 without axis 1");
    return EDGE_OK;
}

static edge_status infer(ew_call *call, int outputs) {
    int reduction;
    EW_TRY(ew_needs(call, 2, outputs));
    const ew_tensor *scores = ew_in(call, 0), *labels = ew_in(call, 1);
    EW_TRY(check_labels(scores, labels));
    if (ew_in(call, 2)) EW_TRY(ew_needs_vector(call, 2, scores->dims[1], scores->dtype));
    EW_TRY(reduction_of(call, &reduction));
    return ew_shape(ew_out(call, 0), scores->dtype, reduction == NONE ? labels->rank : 0, labels->dims);
}

edge_status ew_infer_nll(ew_call *call) { return infer(call, 1); }

edge_status ew_infer_cross_entropy(ew_call *call) {
    EW_TRY(infer(call, 2));
    return ew_out(call, 1) ? ew_same(ew_out(call, 1), ew_in(call, 0)) : EDGE_OK;
}

/* The logarithm of the sum of exponentials along the classes, relative to their maximum: both are subtracted. */
static void log_sum_exp(const job *job, int64_t first, double *max, double *log_sum) {
    const ew_tensor *x = job->scores;
    int64_t end = first + job->classes * job->area;
    double sum = 0;
    *max = -INFINITY;
    for (int64_t i = first; i < end; i += job->area) *max = fmax(*max, ew_load_double(x->data, x->dtype, i));
    for (int64_t i = first; i < end; i += job->area) sum += exp(ew_load_double(x->data, x->dtype, i) - *max);
    *log_sum = log(sum);
}

static void put_log_prob(const job *job, int64_t first, double max, double log_sum) {
    const ew_tensor *x = job->scores;
    int64_t end = first + job->classes * job->area;
    for (int64_t i = first; i < end; i += job->area)
        ew_store_double(job->log_prob->data, x->dtype, i, ew_load_double(x->data, x->dtype, i) - max - log_sum);
}

/* The loss of one label, weighted, and its weight. */
static edge_status loss_of(const job *job, int64_t index, double *loss, double *weight) {
    int64_t label = ew_get_int(job->labels, index);
    int64_t first = index / job->area * job->classes * job->area + index % job->area;
    double max = 0, log_sum = 0;
    if (job->from_scores) log_sum_exp(job, first, &max, &log_sum);
    if (job->log_prob) put_log_prob(job, first, max, log_sum);
    *loss = *weight = 0;
    if (job->ignored && label == job->ignored->i) return EDGE_OK;
    if (label < 0 || label >= job->classes)
        return ew_fail(EDGE_INVALID_ARGUMENT, "label %lld at element %lld is outside [0, %lld)", (long long)label,
                       (long long)index, (long long)job->classes);
    *weight = job->weights ? ew_get(job->weights, label) : 1;
    double x = ew_load_double(job->scores->data, job->scores->dtype, first + label * job->area);
    *loss = -(x - max - log_sum) * *weight;
    return EDGE_OK;
}

static edge_status run(ew_call *call, bool from_scores) {
    const ew_tensor *x = ew_in(call, 0);
    int reduction;
    EW_TRY(reduction_of(call, &reduction));
    job job = {x, ew_in(call, 1), ew_in(call, 2), ew_out(call, 0), from_scores ? ew_out(call, 1) : NULL, x->dims[1],
               ew_span(x, 2, x->rank), from_scores, reduction, ew_attr(call->node, "ignore_index")};
    double total = 0, weights = 0, loss, weight;
    int64_t count = ew_count(job.labels);
    for (int64_t i = 0; i < count; i++) {
        EW_TRY(loss_of(&job, i, &loss, &weight));
        if (reduction == NONE) ew_store_double(job.loss->data, x->dtype, i, loss);
        total += loss;
        weights += weight;
    }
    if (reduction != NONE) ew_store_double(job.loss->data, x->dtype, 0, reduction == MEAN ? total / weights : total);
    return EDGE_OK;
}

edge_status ew_run_cross_entropy(ew_call *call) { return run(call, true); }
edge_status ew_run_nll(ew_call *call) { return run(call, false); }
