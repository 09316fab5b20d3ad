#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

typedef struct job {
    const ew_tensor *x;
    ew_tensor *y;
    int64_t channels, area, size;
    double alpha, beta, bias;
} job;

edge_status ew_infer_lrn(ew_call *call) {
    EW_TRY(ew_needs(call, 1, 1));
    const ew_tensor *x = ew_in(call, 0);
    int64_t size = ew_attr_int(call->node, "size", 0);
    if (x->rank < 2) return ew_fail(EDGE_INVALID_MODEL, "input 0 has %d axes, at least 2 are needed", x->rank);
    if (size < 1) return ew_fail(EDGE_INVALID_MODEL, "size is %lld, at least 1 is needed", (long long)size);
    return ew_same(ew_out(call, 0), x);
}

static double power(double base, double exponent) {
    return exponent == 0.75 ? sqrt(base) * sqrt(sqrt(base)) : pow(base, exponent);
}

/* Neighbouring elements of one channel. */
static void normalize(const job *job, int64_t image, int64_t channel, int64_t column, int64_t lanes) {
    double x[EW_TILE], sum[EW_TILE] = {0};
    int64_t first = image * job->channels, low = channel - (job->size - 1) / 2, high = channel + job->size / 2;
    for (int64_t c = low < 0 ? 0 : low; c <= high && c < job->channels; c++) {
        ew_load_doubles(x, job->x->data, job->x->dtype, (first + c) * job->area + column, lanes);
        for (int64_t j = 0; j < lanes; j++) sum[j] += x[j] * x[j];
    }
    int64_t at = (first + channel) * job->area + column;
    ew_load_doubles(x, job->x->data, job->x->dtype, at, lanes);
    for (int64_t j = 0; j < lanes; j++)
        x[j] /= power(job->bias + job->alpha / (double)job->size * sum[j], job->beta);
    ew_store_doubles(job->y->data, job->y->dtype, at, x, lanes);
}

static void normalize_channels(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    for (int64_t item = begin; item < end; item++)
        for (int64_t column = 0; column < job->area; column += EW_TILE) {
            int64_t lanes = job->area - column < EW_TILE ? job->area - column : EW_TILE;
            normalize(job, item / job->channels, item % job->channels, column, lanes);
        }
}

edge_status ew_run_lrn(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    const ew_node *node = call->node;
    job job = {x, ew_out(call, 0), x->dims[1], ew_span(x, 2, x->rank), ew_attr_int(node, "size", 1),
               ew_attr_float(node, "alpha", 1e-4f), ew_attr_float(node, "beta", 0.75f), ew_attr_float(node, "bias", 1)};
    if (ew_count(x) == 0) return EDGE_OK;
    ew_parallel(call, x->dims[0] * job.channels, ew_grain(16 * job.area), normalize_channels, &job);
    return EDGE_OK;
}
