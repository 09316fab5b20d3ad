#include "recurrent.h"

/* Gates are in the order update, reset, hidden.  spare holds what the recurrence of the hidden gate takes or gives. */
static void reset_before(const ew_direction *d, float *gates) {
    const ew_recurrent *r = d->r;
    int64_t size = r->hidden, row = 3 * size;
    for (int64_t i = 0; i < r->batch; i++) {
        const float *reset = gates + i * row + size;
        for (int64_t k = 0; k < size; k++) d->spare[i * size + k] = reset[k] * d->h[i * size + k];
    }
    ew_recurrent_product(d->call, d->spare, r->batch, d->recurrence + 2 * size * size, size, size, gates + 2 * size,
                         row);
}

static void reset_after(const ew_direction *d, float *gates) {
    const ew_recurrent *r = d->r;
    int64_t size = r->hidden, row = 3 * size;
    for (int64_t i = 0; i < r->batch; i++) memcpy(d->spare + i * size, d->bias, (size_t)size * sizeof(float));
    ew_recurrent_product(d->call, d->h, r->batch, d->recurrence + 2 * size * size, size, size, d->spare, size);
    for (int64_t i = 0; i < r->batch; i++) {
        const float *reset = gates + i * row + size;
        float *hidden = gates + i * row + 2 * size;
        for (int64_t k = 0; k < size; k++) hidden[k] += reset[k] * d->spare[i * size + k];
    }
}

static void step(const ew_direction *d, float *gates, const bool *active) {
    const ew_recurrent *r = d->r;
    int64_t size = r->hidden, row = 3 * size;
    ew_recurrent_product(d->call, d->h, r->batch, d->recurrence, 2 * size, size, gates, row);
    for (int64_t i = 0; i < r->batch; i++) ew_activate(&d->activations[0], gates + i * row, 2 * size);
    if (r->apart) reset_after(d, gates);
    else reset_before(d, gates);
    for (int64_t i = 0; i < r->batch; i++) {
        float *update = gates + i * row, *hidden = update + 2 * size, *h = d->h + i * size;
        if (!active[i]) continue;
        ew_activate(&d->activations[1], hidden, size);
        for (int64_t k = 0; k < size; k++) h[k] = (1 - update[k]) * hidden[k] + update[k] * h[k];
    }
}

static const ew_cell cell = {.gates = 3, .activations = 2, .defaults = {"Sigmoid", "Tanh"}, .has_spare = true,
                             .step = step};

edge_status ew_infer_gru(ew_call *call) { return ew_recurrent_infer(call, &cell); }
edge_status ew_run_gru(ew_call *call) { return ew_recurrent_run(call, &cell); }
size_t ew_workspace_gru(const ew_call *call) { return ew_recurrent_workspace(call, &cell); }
