#include "sequence.h"

#include <math.h>

#include "dot.h"
#include "real.h"

/* One state of key_size rows of value_size elements for each head of keys, in float32. */
typedef struct linear {
    int64_t batch, steps, q_heads, kv_heads, key_size, value_size;
    const ew_tensor *q, *k, *v, *past, *decay, *beta;
    bool gated, delta;
    float scale;
    ew_tensor *y, *present;
    float *scratch;
    int64_t scratch_floats; /* for each head of keys */
} linear;

static bool is_float(edge_dtype dtype) { return dtype == EDGE_F32 || dtype == EDGE_F16; }

static edge_status read_sizes(const ew_call *call, linear *l) {
    l->q = ew_in(call, 0);
    l->k = ew_in(call, 1);
    l->v = ew_in(call, 2);
    if (l->q->rank != 3 || l->v->rank != 3) {
        return ew_fail(EDGE_INVALID_MODEL, "query and value have ranks %d and %d, expected 3", (int)l->q->rank,
                       (int)l->v->rank);
    }
    l->batch = l->q->dims[0];
    l->steps = l->q->dims[1];
    l->q_heads = ew_attr_int(call->node, "q_num_heads", 0);
    l->kv_heads = ew_attr_int(call->node, "kv_num_heads", 0);
    if (l->kv_heads < 1 || l->q_heads < 1 || l->q_heads % l->kv_heads || l->q->dims[2] % l->q_heads ||
        l->v->dims[2] % l->kv_heads) {
        return ew_fail(EDGE_INVALID_MODEL,
                       "q_num_heads %lld and kv_num_heads %lld do not divide query of %lld and "
                       "value of %lld, or each other",
                       (long long)l->q_heads, (long long)l->kv_heads, (long long)l->q->dims[2],
                       (long long)l->v->dims[2]);
    }
    l->key_size = l->q->dims[2] / l->q_heads;
    l->value_size = l->v->dims[2] / l->kv_heads;
    edge_dtype dtype = l->q->dtype;
    EW_TRY(ew_seq_expect(l->k, "key", dtype, 3, (int64_t[]){l->batch, l->steps, l->kv_heads * l->key_size}));
    return ew_seq_expect(l->v, "value", dtype, 3, (int64_t[]){l->batch, l->steps, l->v->dims[2]});
}

static edge_status read_rule(const ew_call *call, linear *l) {
    static const char *const rules[] = {"linear", "gated", "delta", "gated_delta", NULL};
    int rule;
    EW_TRY(ew_seq_choice(call, "update_rule", "gated_delta", rules, &rule));
    l->gated = rule & 1;
    l->delta = rule & 2;
    l->decay = ew_in(call, 4);
    l->beta = ew_in(call, 5);
    if (l->gated != (l->decay != NULL) || l->delta != (l->beta != NULL)) {
        return ew_fail(EDGE_INVALID_MODEL,
                       "update_rule %s with%s decay and with%s beta, expected decay for gated "
                       "rules only and beta for delta rules only",
                       rules[rule], l->decay ? "" : "out", l->beta ? "" : "out");
    }
    edge_dtype dtype = l->q->dtype;
    if (l->decay) {
        bool whole = l->decay->rank == 3 && l->decay->dims[2] == l->kv_heads;
        int64_t size = whole ? l->kv_heads : l->kv_heads * l->key_size;
        EW_TRY(ew_seq_expect(l->decay, "decay", dtype, 3, (int64_t[]){l->batch, l->steps, size}));
    }
    if (l->beta) {
        int64_t size = l->beta->rank == 3 && l->beta->dims[2] == 1 ? 1 : l->kv_heads;
        EW_TRY(ew_seq_expect(l->beta, "beta", dtype, 3, (int64_t[]){l->batch, l->steps, size}));
    }
    l->scale = ew_attr_float(call->node, "scale", 0);
    if (l->scale == 0) l->scale = 1.0f / sqrtf((float)l->key_size);
    return EDGE_OK;
}

static edge_status read_linear(const ew_call *call, linear *l) {
    *l = (linear){0};
    EW_TRY(ew_seq_need(call, 3));
    EW_TRY(read_sizes(call, l));
    EW_TRY(read_rule(call, l));
    l->past = ew_in(call, 3);
    if (l->past && !is_float(l->past->dtype)) {
        return ew_fail(EDGE_INVALID_MODEL, "past_state has dtype %s, expected float32 or float16",
                       ew_dtype_name(l->past->dtype));
    }
    l->y = ew_out(call, 0);
    l->present = ew_out(call, 1);
    if (!l->past) return EDGE_OK;
    int64_t dims[4] = {l->batch, l->kv_heads, l->key_size, l->value_size};
    return ew_seq_expect(l->past, "past_state", l->past->dtype, 4, dims);
}

edge_status ew_infer_linear_attention(ew_call *call) {
    linear l;
    int64_t hidden;
    EW_TRY(read_linear(call, &l));
    if (__builtin_mul_overflow(l.q_heads, l.value_size, &hidden)) {
        return ew_fail(EDGE_INVALID_MODEL, "%lld heads of size %lld are too many", (long long)l.q_heads,
                       (long long)l.value_size);
    }
    if (l.y) EW_TRY(ew_shape(l.y, l.q->dtype, 3, (int64_t[]){l.batch, l.steps, hidden}));
    if (!l.present) return EDGE_OK;
    int64_t dims[4] = {l.batch, l.kv_heads, l.key_size, l.value_size};
    return ew_shape(l.present, l.past ? l.past->dtype : l.q->dtype, 4, dims);
}

static bool keeps_state(const linear *l) { return l->present && l->present->dtype == EDGE_F32; }

static double scratch_floats(const linear *l) {
    double keys = (double)l->key_size, values = (double)l->value_size;
    return 3 * keys + 3 * values + (keeps_state(l) ? 0 : keys * values);
}

/* Everything that one head of keys needs in a step. */
typedef struct head {
    float *q, *k, *decay, *v, *write, *read, *state;
} head;

static head head_of(const linear *l, int64_t number) {
    head h = {.q = l->scratch + number * l->scratch_floats};
    h.k = h.q + l->key_size;
    h.decay = h.k + l->key_size;
    h.v = h.decay + l->key_size;
    h.write = h.v + l->value_size;
    h.read = h.write + l->value_size;
    int64_t size = l->key_size * l->value_size;
    h.state = keeps_state(l) ? (float *)l->present->data + number * size : h.read + l->value_size;
    if (!l->past) memset(h.state, 0, (size_t)size * sizeof(float));
    for (int64_t i = 0; l->past && i < size; i++) {
        h.state[i] = (float)ew_real_get(l->past->data, l->past->dtype, number * size + i);
    }
    return h;
}

static void decay_state(const linear *l, const head *h, int64_t token, int64_t kv) {
    bool whole = l->decay->dims[2] == l->kv_heads;
    int64_t from = whole ? token * l->kv_heads + kv : (token * l->kv_heads + kv) * l->key_size;
    const float *decay = ew_real_read(l->decay->data, l->decay->dtype, from, whole ? 1 : l->key_size, h->decay);
    for (int64_t i = 0; i < l->key_size; i++) {
        float keep = expf(decay[whole ? 0 : i]), *row = h->state + i * l->value_size;
        for (int64_t m = 0; m < l->value_size; m++) row[m] *= keep;
    }
}

static void update_state(const linear *l, const head *h, int64_t token, int64_t kv) {
    int64_t keys = l->key_size, values = l->value_size, row = token * l->kv_heads + kv;
    const float *k = ew_real_read(l->k->data, l->k->dtype, row * keys, keys, h->k);
    const float *v = ew_real_read(l->v->data, l->v->dtype, row * values, values, h->v);
    if (l->gated) decay_state(l, h, token, kv);
    if (l->delta) {
        memset(h->read, 0, (size_t)values * sizeof(float));
        for (int64_t i = 0; i < keys; i++) ew_add_row(h->state + i * values, k[i], values, h->read);
        int64_t at = l->beta->dims[2] == 1 ? token : row;
        float beta = (float)ew_real_get(l->beta->data, l->beta->dtype, at);
        for (int64_t m = 0; m < values; m++) h->write[m] = beta * (v[m] - h->read[m]);
        v = h->write;
    }
    for (int64_t i = 0; i < keys; i++) ew_add_row(v, k[i], values, h->state + i * values);
}

static void read_state(const linear *l, const head *h, int64_t token, int64_t q_head) {
    int64_t keys = l->key_size, values = l->value_size, row = token * l->q_heads + q_head;
    const float *q = ew_real_read(l->q->data, l->q->dtype, row * keys, keys, h->q);
    memset(h->read, 0, (size_t)values * sizeof(float));
    for (int64_t i = 0; i < keys; i++) ew_add_row(h->state + i * values, q[i], values, h->read);
    for (int64_t m = 0; m < values; m++) h->read[m] *= l->scale;
    ew_real_write(l->y->data, l->y->dtype, row * values, values, h->read);
}

static void run_heads(void *context, int64_t begin, int64_t end) {
    const linear *l = context;
    int64_t group = l->q_heads / l->kv_heads, size = l->key_size * l->value_size;
    for (int64_t number = begin; number < end; number++) {
        int64_t batch = number / l->kv_heads, kv = number % l->kv_heads;
        head h = head_of(l, number);
        for (int64_t step = 0; step < l->steps; step++) {
            int64_t token = batch * l->steps + step;
            update_state(l, &h, token, kv);
            for (int64_t g = 0; l->y && g < group; g++) read_state(l, &h, token, kv * group + g);
        }
        if (l->present) ew_real_write(l->present->data, l->present->dtype, number * size, size, h.state);
    }
}

edge_status ew_run_linear_attention(ew_call *call) {
    linear l;
    EW_TRY(read_linear(call, &l));
    if (!l.key_size || !l.value_size) {
        if (l.y && ew_bytes(l.y)) memset(l.y->data, 0, ew_bytes(l.y));
        return EDGE_OK;
    }
    l.scratch = call->workspace;
    l.scratch_floats = (int64_t)scratch_floats(&l);
    double work = (double)l.steps * (double)l.key_size * (double)l.value_size;
    ew_parallel(call, l.batch * l.kv_heads, work > 2e4 ? 1 : (int64_t)(2e4 / (work + 1)) + 1, run_heads, &l);
    return EDGE_OK;
}

size_t ew_workspace_linear_attention(const ew_call *call) {
    linear l;
    if (read_linear(call, &l) != EDGE_OK) return 0;
    return ew_real_bytes(scratch_floats(&l) * (double)l.batch * (double)l.kv_heads, sizeof(float));
}
