#include "fused.h"

edge_status ew_linear_shape(ew_call *call, int64_t depth, int64_t outputs, edge_dtype dtype) {
    const ew_tensor *x = ew_in(call, 0);
    int64_t dims[EDGE_MAX_RANK];
    if (x->rank < 1 || x->dims[x->rank - 1] != depth)
        return ew_fail(EDGE_SHAPE_MISMATCH, "the last axis of its input must have length %lld", (long long)depth);
    memcpy(dims, x->dims, sizeof dims);
    dims[x->rank - 1] = outputs;
    return ew_shape(ew_out(call, 0), dtype, x->rank, dims);
}

edge_status ew_infer_fused_linear(ew_call *call) {
    const ew_fused *f = ew_detail(call);
    return ew_linear_shape(call, f->depth, f->outputs, ew_y_dtype(f));
}

void ew_rows_in_order(const ew_product *p, int64_t begin, int64_t count, const void **a, uint8_t *scratch) {
    (void)scratch;
    int64_t row = p->depth * ew_x_bytes(p->fused);
    const uint8_t *x = (const uint8_t *)p->context + begin * row;
    for (int64_t r = 0; r < count; r++) a[r] = x + r * row;
}

edge_status ew_run_fused_linear(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), *add = ew_in(call, 2);
    const ew_fused *f = ew_detail(call);
    ew_product p = {.fused = f,
                    .taps = 1,
                    .rows = ew_span(x, 0, x->rank - 1),
                    .depth = f->depth,
                    .c = ew_out(call, 0)->data,
                    .add = add ? add->data : NULL,
                    .context = x->data,
                    .fill = ew_rows_in_order};
    const void *zeros;
    if (f->quantized) p.rescale = ew_rescale_of(call, &zeros);
    ew_run_product(call, &p);
    return EDGE_OK;
}
