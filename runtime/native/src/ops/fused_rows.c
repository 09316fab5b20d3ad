/* Softmax and layer norm along the last axis. */
#include "../session.h"
#include "fused.h"

typedef struct job {
    const ew_fused *fused;
    const float *x, *scale, *bias;
    float *y;
    int64_t length;
    float epsilon;
} job;

static void softmax_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++)
        ((edge_softmax_f32 *)j->fused->kernel->run)(j->x + i * j->length, j->y + i * j->length, j->length);
}

static void layer_norm_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++)
        ((edge_layer_norm_f32 *)j->fused->kernel->run)(j->x + i * j->length, j->scale, j->bias, j->epsilon,
                                                       j->y + i * j->length, j->length);
}

edge_status ew_infer_fused_rows(ew_call *call) { return ew_same(ew_out(call, 0), ew_in(call, 0)); }

edge_status ew_run_fused_rows(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), *scale = ew_in(call, 1), *bias = ew_in(call, 2);
    bool softmax = ew_detail(call)->kernel->op == EDGE_SOFTMAX;
    job j = {.fused = ew_detail(call),
             .x = x->data,
             .scale = scale ? scale->data : NULL,
             .bias = bias ? bias->data : NULL,
             .y = ew_out(call, 0)->data,
             .length = x->dims[x->rank - 1],
             .epsilon = ew_attr_float(call->node, "epsilon", 1e-5f)};
    if (ew_count(x) == 0) return EDGE_OK;
    ew_parallel(call, ew_span(x, 0, x->rank - 1), 1 + 4096 / j.length, softmax ? softmax_rows : layer_norm_rows, &j);
    return EDGE_OK;
}
