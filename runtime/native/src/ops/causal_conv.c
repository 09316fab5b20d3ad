#include "linear.h"

#include <math.h>

typedef struct causal {
    const float *x, *weights, *bias, *past;
    float *y, *present;
    int64_t channels, length, taps;
    bool silu;
} causal;

static edge_status read_activation(const ew_call *call, bool *silu) {
    const char *name = ew_attr_string(call->node, "activation", "none");
    *silu = strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0;
    if (*silu || strcmp(name, "none") == 0) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "attribute activation is \"%s\", it must be silu, swish or none", name);
}

static edge_status check_weights(const ew_tensor *x, const ew_tensor *weights) {
    if (x->rank != 3 || weights->rank != 3)
        return ew_fail(EDGE_SHAPE_MISMATCH, "inputs 0 and 1 have rank %d and %d, both must be 3", x->rank,
                       weights->rank);
    if (weights->dims[0] != x->dims[1] || weights->dims[1] != 1 || weights->dims[2] < 1)
        return ew_fail(EDGE_SHAPE_MISMATCH, "input 1 has shape [%lld, %lld, %lld], it must be [%lld, 1, at least 1]",
                       (long long)weights->dims[0], (long long)weights->dims[1], (long long)weights->dims[2],
                       (long long)x->dims[1]);
    return weights->dynamic ? ew_fail(EDGE_UNSUPPORTED, "the shape of the weights must be fixed") : EDGE_OK;
}

edge_status ew_infer_causal_conv(ew_call *call) {
    bool silu;
    EW_TRY(ew_require(call, 2));
    for (int i = 1; i < 4; i++) EW_TRY(ew_like_first(call, i));
    EW_TRY(read_activation(call, &silu));
    const ew_tensor *x = ew_in(call, 0), *weights = ew_in(call, 1), *past = ew_in(call, 3);
    EW_TRY(check_weights(x, weights));
    EW_TRY(ew_conv_bias(call, 2, x->dtype, x->dims[1]));
    const int64_t state[3] = {x->dims[0], x->dims[1], weights->dims[2] - 1};
    if (past && (past->rank != 3 || memcmp(past->dims, state, sizeof state)))
        return ew_fail(EDGE_SHAPE_MISMATCH, "input 3 must have shape [%lld, %lld, %lld]", (long long)state[0],
                       (long long)state[1], (long long)state[2]);
    if (ew_out(call, 1)) EW_TRY(ew_shape(ew_out(call, 1), x->dtype, 3, state));
    return ew_same(ew_out(call, 0), x);
}

/* The last taps - 1 values of past and x together. */
static void keep_state(const causal *c, int64_t row) {
    int64_t kept = c->taps - 1, fresh = c->length < kept ? c->length : kept, old = kept - fresh;
    float *to = c->present + row * kept;
    for (int64_t i = 0; i < old; i++) to[i] = c->past ? c->past[row * kept + fresh + i] : 0;
    if (fresh) memcpy(to + old, c->x + (row + 1) * c->length - fresh, (size_t)fresh * sizeof *to);
}

static void run_rows(void *context, int64_t begin, int64_t end) {
    const causal *c = context;
    for (int64_t row = begin; row < end; row++) {
        int64_t channel = row % c->channels;
        const float *x = c->x + row * c->length, *past = c->past ? c->past + row * (c->taps - 1) : NULL;
        float *y = c->y + row * c->length;
        for (int64_t t = 0; t < c->length; t++) y[t] = c->bias ? c->bias[channel] : 0;
        for (int64_t k = 0; k < c->taps; k++) {
            float weight = c->weights[channel * c->taps + k];
            int64_t late = c->taps - 1 - k, old = late < c->length ? late : c->length;
            for (int64_t t = 0; past && t < old; t++) y[t] += weight * past[t + k];
            ew_add_scaled_f32(y + old, x, weight, c->length - old);
        }
        for (int64_t t = 0; c->silu && t < c->length; t++) y[t] /= 1 + expf(-y[t]);
        if (c->present) keep_state(c, row);
    }
}

static edge_status run_wide(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), *weights = ew_in(call, 1), *bias = ew_in(call, 2), *past = ew_in(call, 3);
    ew_tensor *present = ew_out(call, 1);
    causal c = {.x = x->data,
                .weights = weights->data,
                .bias = bias ? bias->data : NULL,
                .past = past ? past->data : NULL,
                .y = ew_out(call, 0)->data,
                .present = present ? present->data : NULL,
                .channels = x->dims[1],
                .length = x->dims[2],
                .taps = weights->dims[2]};
    EW_TRY(read_activation(call, &c.silu));
    ew_parallel(call, x->dims[0] * x->dims[1], 1 + 65536 / ((c.length + 1) * c.taps), run_rows, &c);
    return EDGE_OK;
}

size_t ew_workspace_causal_conv(const ew_call *call) { return ew_half_workspace(call, 0); }

edge_status ew_run_causal_conv(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, 0, run_wide) : run_wide(call);
}
