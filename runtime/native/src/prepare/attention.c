/* Finds MatMul, (Mul or Div), (Add), Softmax, (IsNaN, Where), MatMul. */
#include "prepare.h"

static bool is_softmax(const ew_preparer *p, const ew_node *node) {
    if (!ew_is(node, "Softmax") || node->opset < 13) return false;
    const ew_tensor *x = ew_tensor_of(p, node->inputs[0]);
    int64_t axis = ew_attr_int(node, "axis", -1);
    return x->dtype == EDGE_F32 && x->rank >= 2 && (axis == -1 || axis == x->rank - 1);
}

/* The nodes that an attention absorbs. */
typedef struct found {
    int nodes[12], count;
} found;

static void take(found *f, int node) { f->nodes[f->count++] = node; }

/* A product with one number before the matrices meet: q * c; the value without it. */
static int without_factor(const ew_preparer *p, int value, float *scale, found *f) {
    int node = ew_made_by(p, value, "Mul");
    float factor;
    if (node < 0) return value;
    const int *inputs = p->from->nodes[node].inputs;
    int number = ew_scalar(p, inputs[0], &factor) ? 0 : ew_scalar(p, inputs[1], &factor) ? 1 : -1;
    if (number < 0 || ew_tensor_of(p, inputs[1 - number])->rank != ew_tensor_of(p, value)->rank) return value;
    *scale *= factor;
    take(f, node);
    return inputs[1 - number];
}

/* scores * c or scores / c; the value without it. */
static int without_scale(const ew_preparer *p, int value, float *scale, found *f) {
    int node = ew_made_by(p, value, "Div");
    float divisor;
    if (node < 0) return without_factor(p, value, scale, f);
    if (!ew_scalar(p, p->from->nodes[node].inputs[1], &divisor)) return value;
    *scale /= divisor;
    take(f, node);
    return p->from->nodes[node].inputs[0];
}

/* The product of queries and keys under a value, or -1. */
static int scores_of(const ew_preparer *p, int value, ew_attention *a, found *f) {
    return ew_made_by(p, without_scale(p, value, &a->scale, f), "MatMul");
}

static bool broadcasts(const ew_tensor *mask, const ew_tensor *scores) {
    if (mask->dtype != EDGE_F32 || mask->rank > scores->rank) return false;
    for (int i = 0; i < mask->rank; i++)
        if (mask->dims[i] != 1 && mask->dims[i] != scores->dims[scores->rank - mask->rank + i]) return false;
    return true;
}

/* Scores plus a mask, or scores alone. */
static int masked_scores(const ew_preparer *p, int value, ew_attention *a, found *f) {
    int sum = ew_made_by(p, value, "Add");
    if (sum < 0) return scores_of(p, value, a, f);
    for (int side = 0; side < 2; side++) {
        found tried = *f;
        ew_attention with = *a;
        take(&tried, sum);
        with.mask = p->from->nodes[sum].inputs[1 - side];
        int node = scores_of(p, p->from->nodes[sum].inputs[side], &with, &tried);
        if (node < 0 || !broadcasts(ew_tensor_of(p, with.mask), ew_tensor_of(p, value))) continue;
        *f = tried;
        *a = with;
        return node;
    }
    return -1;
}

/* where(isnan(y), 0, y), whose result is given back; the same value when nothing of the kind follows. */
static int without_nan(const ew_preparer *p, int value, ew_attention *a, found *f) {
    int last = p->reader[value];
    float zero;
    if (p->uses[value] != 2 || p->from->values[value].is_output || !ew_is(&p->from->nodes[last], "Where")) return value;
    const ew_node *where = &p->from->nodes[last];
    int test = ew_made_by(p, where->inputs[0], "IsNaN");
    if (test < 0 || p->from->nodes[test].inputs[0] != value || where->inputs[2] != value) return value;
    if (!ew_scalar(p, where->inputs[1], &zero) || zero != 0.0f) return value;
    take(f, test);
    take(f, last);
    a->nan_to_zero = true;
    return where->outputs[0];
}

static bool is_f32(const ew_preparer *p, int value, int rank) {
    const ew_tensor *t = ew_tensor_of(p, value);
    return t->dtype == EDGE_F32 && t->rank == rank;
}

/* Batches of q, k and v must be alike, at every size, and there must be something to attend to. */
static bool fits(const ew_preparer *p, const ew_attention *a) {
    const ew_tensor *q = ew_tensor_of(p, a->q), *k = ew_tensor_of(p, a->k), *v = ew_tensor_of(p, a->v);
    if (ew_count(k) == 0 || !is_f32(p, a->q, q->rank) || !is_f32(p, a->k, q->rank) || !is_f32(p, a->v, q->rank)) return false;
    for (int i = 0; i < q->rank - 2; i++)
        if (q->dims[i] != k->dims[i] || q->dims[i] != v->dims[i]) return false;
    return !q->dynamic && !k->dynamic && !v->dynamic && (a->mask < 0 || !ew_tensor_of(p, a->mask)->dynamic);
}

edge_status ew_find_attention(ew_preparer *p, int n) {
    const ew_node *node = &p->from->nodes[n];
    if (!is_softmax(p, node)) return EDGE_OK;
    ew_attention a = {.softmax = n, .mask = -1, .scale = 1};
    found f = {.count = 0};
    int scores = masked_scores(p, node->inputs[0], &a, &f), weights = without_nan(p, node->outputs[0], &a, &f);
    int last = ew_sole_reader(p, weights);
    if (scores < 0 || last < 0 || !ew_is(&p->from->nodes[last], "MatMul") ||
        p->from->nodes[last].inputs[0] != weights)
        return EDGE_OK;
    take(&f, n);
    take(&f, scores);
    a.q = without_factor(p, p->from->nodes[scores].inputs[0], &a.scale, &f);
    a.k = without_factor(p, p->from->nodes[scores].inputs[1], &a.scale, &f);
    a.v = p->from->nodes[last].inputs[1];
    a.result = p->from->nodes[last].outputs[0];
    if (!fits(p, &a)) return EDGE_OK;
    for (int i = 0; i < f.count; i++) p->absorbed[f.nodes[i]] = true;
    p->absorbed[last] = true;
    p->attention[last] = ew_arena_get(&p->session->arena, sizeof a);
    if (!p->attention[last]) return EDGE_NO_MEMORY;
    *p->attention[last] = a;
    return EDGE_OK;
}

edge_status ew_emit_attention(ew_preparer *p, const ew_attention *a) {
    int inputs[4] = {a->q, a->k, a->v, a->mask};
    ew_attention_detail *detail = ew_arena_get(&p->session->arena, sizeof *detail);
    if (!detail) return EDGE_NO_MEMORY;
    detail->fused.kernel = edge_kernel_find(EDGE_GEMM, EDGE_KERNEL_F32, EDGE_DENSE, p->session->isa);
    detail->scale = a->scale;
    detail->nan_to_zero = a->nan_to_zero;
    for (int i = 0; i < 4; i++) EW_TRY(ew_plain(p, inputs[i]));
    p->plain[a->result] = true;
    ew_node like = p->from->nodes[a->softmax], *emitted;
    like.op_type = "Attention";
    EW_TRY(ew_emit(p, ew_find_op(EW_FUSED_DOMAIN, "FusedAttention", 1), &like, inputs, 4, &a->result, 1, &emitted));
    emitted->detail = detail;
    return EDGE_OK;
}
