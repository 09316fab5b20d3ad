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
    int64_t extent, inner;
    bool squares;
} job;

edge_status ew_infer_lp_norm(ew_call *call) {
    EW_TRY(ew_needs(call, 1, 1));
    int64_t p = ew_attr_int(call->node, "p", 2);
    int axis;
    EW_TRY(ew_reduction_axis(call, -1, &axis));
    if (p != 1 && p != 2) return ew_fail(EDGE_INVALID_MODEL, "p is %lld, it must be 1 or 2", (long long)p);
    return ew_same(ew_out(call, 0), ew_in(call, 0));
}

/* Zeros stay zeros. */
static void normalize_columns(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    edge_dtype dtype = job->x->dtype;
    for (int64_t item = begin; item < end; item++) {
        int64_t first = item / job->inner * job->extent * job->inner + item % job->inner;
        int64_t last = first + (job->extent - 1) * job->inner;
        double norm = 0;
        for (int64_t i = first; i <= last; i += job->inner) {
            double x = ew_load_double(job->x->data, dtype, i);
            norm += job->squares ? x * x : fabs(x);
        }
        if (job->squares) norm = sqrt(norm);
        for (int64_t i = first; i <= last; i += job->inner) {
            double x = ew_load_double(job->x->data, dtype, i);
            ew_store_double(job->y->data, dtype, i, norm == 0 ? 0 : x / norm);
        }
    }
}

edge_status ew_run_lp_norm(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    int axis;
    EW_TRY(ew_reduction_axis(call, -1, &axis));
    job job = {x, ew_out(call, 0), ew_extent(x, axis), ew_after(x, axis), ew_attr_int(call->node, "p", 2) == 2};
    int64_t count = ew_count(x);
    if (count == 0) return EDGE_OK;
    ew_parallel(call, count / job.extent, ew_grain(4 * job.extent), normalize_columns, &job);
    return EDGE_OK;
}
