#include "attention.h"

#include <math.h>

ew_heads ew_heads_of(const ew_tensor *t, int64_t heads) {
    ew_heads h = {.data = t->data, .dtype = t->dtype};
    if (t->rank == 4) {
        h.size = t->dims[3];
        h.row = h.size;
        h.head = t->dims[2] * h.row;
        h.batch = t->dims[1] * h.head;
    } else {
        h.size = t->dims[2] / heads;
        h.head = h.size;
        h.row = t->dims[2];
        h.batch = t->dims[1] * h.row;
    }
    return h;
}

static edge_status read_heads(const ew_call *call, const ew_tensor *t, const char *name, const char *attribute,
                              int64_t *heads) {
    int64_t given = ew_attr_int(call->node, attribute, 0);
    if (t->rank == 4) {
        *heads = t->dims[1];
        if (!given || given == *heads) return EDGE_OK;
        return ew_fail(EDGE_INVALID_MODEL, "%s has %lld heads, but %s is %lld", name, (long long)*heads, attribute,
                       (long long)given);
    }
    if (t->rank != 3) return ew_fail(EDGE_INVALID_MODEL, "%s has rank %d, expected 3 or 4", name, (int)t->rank);
    if (given < 1 || t->dims[2] % given) {
        return ew_fail(EDGE_INVALID_MODEL, "%s is %lld, expected a divisor of the last dimension of %s, which is %lld",
                       attribute, (long long)given, name, (long long)t->dims[2]);
    }
    *heads = given;
    return EDGE_OK;
}

static edge_status limit_length(const char *name, int64_t length) {
    int64_t limit = (int64_t)1 << 40;
    if (length <= limit) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "%s has length %lld, expected at most %lld", name, (long long)length,
                   (long long)limit);
}

static edge_status read_inputs(const ew_call *call, ew_attention *a) {
    const ew_tensor *q = ew_in(call, 0), *k = ew_in(call, 1), *v = ew_in(call, 2);
    int64_t v_heads;
    if (k->rank != q->rank || v->rank != q->rank) {
        return ew_fail(EDGE_INVALID_MODEL, "ranks of Q, K and V are %d, %d and %d, expected the same", (int)q->rank,
                       (int)k->rank, (int)v->rank);
    }
    EW_TRY(read_heads(call, q, "Q", "q_num_heads", &a->q_heads));
    EW_TRY(read_heads(call, k, "K", "kv_num_heads", &a->kv_heads));
    EW_TRY(read_heads(call, v, "V", "kv_num_heads", &v_heads));
    if (v_heads != a->kv_heads || (a->kv_heads ? a->q_heads % a->kv_heads != 0 : a->q_heads != 0)) {
        return ew_fail(EDGE_INVALID_MODEL, "Q, K and V have %lld, %lld and %lld heads, expected the same number for K "
                       "and V and a multiple of it for Q", (long long)a->q_heads, (long long)a->kv_heads,
                       (long long)v_heads);
    }
    a->q = ew_heads_of(q, a->q_heads);
    a->k = ew_heads_of(k, a->kv_heads);
    a->v = ew_heads_of(v, a->kv_heads);
    int length = q->rank == 4 ? 2 : 1;
    a->batch = q->dims[0];
    a->queries = q->dims[length];
    a->keys = k->dims[length];
    a->group = a->kv_heads ? a->q_heads / a->kv_heads : 0;
    if (k->dims[0] != a->batch || v->dims[0] != a->batch || v->dims[length] != a->keys || a->k.size != a->q.size) {
        return ew_fail(EDGE_INVALID_MODEL, "K and V do not fit: Q has batch %lld and head size %lld, K batch %lld, "
                       "length %lld and head size %lld, V batch %lld and length %lld", (long long)a->batch,
                       (long long)a->q.size, (long long)k->dims[0], (long long)a->keys, (long long)a->k.size,
                       (long long)v->dims[0], (long long)v->dims[length]);
    }
    EW_TRY(limit_length("Q", a->queries));
    EW_TRY(limit_length("K", a->keys));
    bool known = v->dtype == EDGE_F32 || v->dtype == EDGE_F16;
    if (k->dtype != q->dtype || !known) {
        return ew_fail(EDGE_INVALID_MODEL, "Q, K and V are %s, %s and %s, expected the same for Q and K and float32 or "
                       "float16 for V", ew_dtype_name(q->dtype), ew_dtype_name(k->dtype), ew_dtype_name(v->dtype));
    }
    return EDGE_OK;
}

static edge_status read_past(const ew_call *call, ew_attention *a) {
    const ew_tensor *k = ew_in(call, 4), *v = ew_in(call, 5);
    if (!k != !v) return ew_fail(EDGE_INVALID_MODEL, "only one of past_key and past_value is there, expected both");
    if (!k) return EDGE_OK;
    a->past = k->rank == 4 ? k->dims[2] : 0;
    EW_TRY(limit_length("past_key", a->past));
    int64_t k_dims[4] = {a->batch, a->kv_heads, a->past, a->k.size};
    int64_t v_dims[4] = {a->batch, a->kv_heads, a->past, a->v.size};
    EW_TRY(ew_seq_expect(k, "past_key", a->k.dtype, 4, k_dims));
    EW_TRY(ew_seq_expect(v, "past_value", a->v.dtype, 4, v_dims));
    a->past_k = ew_heads_of(k, a->kv_heads);
    a->past_v = ew_heads_of(v, a->kv_heads);
    a->keys += a->past;
    return EDGE_OK;
}

static edge_status read_mask(const ew_call *call, ew_attention *a) {
    const ew_tensor *m = a->mask = ew_in(call, 3);
    if (!m) return EDGE_OK;
    int64_t dims[4] = {a->batch, a->q_heads, a->queries, a->keys}, step = 1;
    bool fits = m->rank >= 1 && m->rank <= 4 && m->dims[m->rank - 1] <= a->keys;
    for (int i = 0; fits && i < m->rank - 1; i++) fits = m->dims[i] == 1 || m->dims[i] == dims[4 - m->rank + i];
    if (!fits) {
        return ew_fail(EDGE_INVALID_MODEL, "attn_mask of rank %d cannot be broadcast to (%lld, %lld, %lld, %lld)",
                       (int)m->rank, (long long)dims[0], (long long)dims[1], (long long)dims[2], (long long)dims[3]);
    }
    a->mask_keys = m->dims[m->rank - 1];
    step = a->mask_keys;
    for (int i = m->rank - 2; i >= 0; i--) {
        a->mask_steps[4 - m->rank + i] = m->dims[i] == 1 ? 0 : step;
        step *= m->dims[i];
    }
    return EDGE_OK;
}

static edge_status read_attributes(const ew_call *call, ew_attention *a) {
    const ew_node *node = call->node;
    int64_t value;
    a->scale = ew_attr_float(node, "scale", 1.0f / sqrtf((float)a->q.size));
    a->softcap = ew_attr_float(node, "softcap", 0);
    EW_TRY(ew_seq_integer(call, "is_causal", 0, 0, 1, &value));
    a->causal = value != 0;
    EW_TRY(ew_seq_integer(call, "qk_matmul_output_mode", 0, 0, 3, &value));
    a->qk_mode = (int)value;
    EW_TRY(ew_seq_integer(call, "left_window_size", -1, -1, INT64_MAX, &a->left));
    EW_TRY(ew_seq_integer(call, "right_window_size", -1, -1, INT64_MAX, &a->right));
    if (a->left >= a->keys + a->queries) a->left = -1;
    if (a->right >= a->keys + a->queries) a->right = -1;
    value = ew_attr_int(node, "softmax_precision", 1);
    if (value != EDGE_F32 && value != EDGE_F16 && value != EDGE_F64 && value != 16) {
        return ew_fail(EDGE_INVALID_MODEL, "softmax_precision is %lld, expected 1, 10, 11 or 16", (long long)value);
    }
    return EDGE_OK;
}

edge_status ew_read_attention(const ew_call *call, ew_attention *a) {
    *a = (ew_attention){0};
    EW_TRY(ew_seq_need(call, 3));
    EW_TRY(read_inputs(call, a));
    EW_TRY(read_past(call, a));
    EW_TRY(read_mask(call, a));
    EW_TRY(read_attributes(call, a));
    a->lengths = ew_in(call, 6);
    if (a->lengths && ew_in(call, 4)) {
        return ew_fail(EDGE_INVALID_MODEL, "nonpad_kv_seqlen and past_key are both there, expected one of them");
    }
    EW_TRY(ew_seq_expect(a->lengths, "nonpad_kv_seqlen", EDGE_S64, 1, &a->batch));
    return EDGE_OK;
}

edge_status ew_infer_attention(ew_call *call) {
    ew_attention a;
    EW_TRY(ew_read_attention(call, &a));
    ew_tensor *y = ew_out(call, 0), *k = ew_out(call, 1), *v = ew_out(call, 2), *qk = ew_out(call, 3);
    if (y && call->in[0]->rank == 4) {
        EW_TRY(ew_shape(y, a.q.dtype, 4, (int64_t[]){a.batch, a.q_heads, a.queries, a.v.size}));
    } else if (y) {
        int64_t hidden;
        if (__builtin_mul_overflow(a.q_heads, a.v.size, &hidden)) {
            return ew_fail(EDGE_INVALID_MODEL, "%lld heads of size %lld are too many", (long long)a.q_heads,
                           (long long)a.v.size);
        }
        EW_TRY(ew_shape(y, a.q.dtype, 3, (int64_t[]){a.batch, a.queries, hidden}));
    }
    if (k) EW_TRY(ew_shape(k, a.k.dtype, 4, (int64_t[]){a.batch, a.kv_heads, a.keys, a.k.size}));
    if (v) EW_TRY(ew_shape(v, a.v.dtype, 4, (int64_t[]){a.batch, a.kv_heads, a.keys, a.v.size}));
    if (qk) EW_TRY(ew_shape(qk, a.q.dtype, 4, (int64_t[]){a.batch, a.q_heads, a.queries, a.keys}));
    return EDGE_OK;
}
