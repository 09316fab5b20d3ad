#include "fused.h"

edge_status ew_infer_fused_linear(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    const ew_fused *f = ew_detail(call);
    int64_t dims[EDGE_MAX_RANK];
    if (x->rank < 1 || x->dims[x->rank - 1] != f->depth)
        return ew_fail(EDGE_SHAPE_MISMATCH, "the last axis of its input must have length %lld", (long long)f->depth);
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank - 1] = f->outputs;
    return ew_shape(ew_out(call, 0), EDGE_F32, x->rank, dims);
}

static void rows_in_order(const ew_product *p, int64_t begin, int64_t count, const float **a, float *scratch) {
    (void)scratch;
    const float *x = (const float *)p->context + begin * p->depth;
    for (int64_t r = 0; r < count; r++) a[r] = x + r * p->depth;
}

edge_status ew_run_fused_linear(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), *add = ew_in(call, 2);
    ew_product p = {.fused = ew_detail(call),
                    .taps = 1,
                    .rows = ew_span(x, 0, x->rank - 1),
                    .depth = ew_detail(call)->depth,
                    .c = ew_out(call, 0)->data,
                    .add = add ? add->data : NULL,
                    .context = x->data,
                    .fill = rows_in_order};
    ew_run_product(call, &p);
    return EDGE_OK;
}
