#include "recurrent.h"

#include <math.h>

static void add_peephole(const float *weights, const float *c, int64_t size, float *gate) {
    for (int64_t i = 0; weights && i < size; i++) gate[i] += weights[i] * c[i];
}

/* One sequence; gates are in the order input, output, forget, cell. */
static void update(const ew_direction *d, float *gates, float *h, float *c) {
    int64_t size = d->r->hidden;
    float *in = gates, *out = in + size, *forget = out + size, *fresh = forget + size;
    const float *p = d->peephole;
    add_peephole(p, c, size, in);
    add_peephole(p ? p + 2 * size : NULL, c, size, forget);
    ew_activate(&d->activations[0], in, size);
    ew_activate(&d->activations[1], fresh, size);
    if (d->r->coupled) {
        for (int64_t i = 0; i < size; i++) forget[i] = 1 - in[i];
    } else {
        ew_activate(&d->activations[0], forget, size);
    }
    for (int64_t i = 0; i < size; i++) c[i] = forget[i] * c[i] + in[i] * fresh[i];
    add_peephole(p ? p + size : NULL, c, size, out);
    ew_activate(&d->activations[0], out, size);
    /* The cell itself is not clipped: other engines read "input of activations" as that of the gates. */
    ew_activation output = d->activations[2];
    output.clip = INFINITY;
    memcpy(h, c, (size_t)size * sizeof(float));
    ew_activate(&output, h, size);
    for (int64_t i = 0; i < size; i++) h[i] *= out[i];
}

static void step(const ew_direction *d, float *gates, const bool *active) {
    const ew_recurrent *r = d->r;
    int64_t row = 4 * r->hidden;
    ew_recurrent_product(d->call, d->h, r->batch, d->recurrence, row, r->hidden, gates, row);
    for (int64_t i = 0; i < r->batch; i++) {
        if (active[i]) update(d, gates + i * row, d->h + i * r->hidden, d->c + i * r->hidden);
    }
}

static const ew_cell cell = {.gates = 4, .activations = 3, .defaults = {"Sigmoid", "Tanh", "Tanh"}, .has_c = true,
                             .has_peephole = true, .step = step};

edge_status ew_infer_lstm(ew_call *call) { return ew_recurrent_infer(call, &cell); }
edge_status ew_run_lstm(ew_call *call) { return ew_recurrent_run(call, &cell); }
size_t ew_workspace_lstm(const ew_call *call) { return ew_recurrent_workspace(call, &cell); }
