#include "recurrent.h"

static void step(const ew_direction *d, float *gates, const bool *active) {
    const ew_recurrent *r = d->r;
    ew_recurrent_product(d->call, d->h, r->batch, d->recurrence, r->hidden, r->hidden, gates, r->hidden);
    for (int64_t i = 0; i < r->batch; i++) {
        float *gate = gates + i * r->hidden;
        if (!active[i]) continue;
        ew_activate(&d->activations[0], gate, r->hidden);
        memcpy(d->h + i * r->hidden, gate, (size_t)r->hidden * sizeof(float));
    }
}

static const ew_cell cell = {.gates = 1, .activations = 1, .defaults = {"Tanh"}, .step = step};

edge_status ew_infer_rnn(ew_call *call) { return ew_recurrent_infer(call, &cell); }
edge_status ew_run_rnn(ew_call *call) { return ew_recurrent_run(call, &cell); }
size_t ew_workspace_rnn(const ew_call *call) { return ew_recurrent_workspace(call, &cell); }
