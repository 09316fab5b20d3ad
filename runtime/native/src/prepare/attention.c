/* Finds MatMul, (Mul or Div), (Add), Softmax, (IsNaN, Where), MatMul, and transposes before and after them: what they
 * would bring into order is read and written where it is. */
#include "prepare.h"

static bool is_softmax(const ew_preparer *p, const ew_node *node) {
    if (!ew_is(node, "Softmax") || node->opset < 13) return false;
    const ew_tensor *x = ew_tensor_of(p, node->inputs[0]);
    int64_t axis = ew_attr_int(node, "axis", -1);
    return x->dtype == EDGE_F32 && x->rank >= 2 && (axis == -1 || axis == x->rank - 1);
}

/* The nodes that an attention absorbs. */
enum { MOST_FOUND = 32 };
typedef struct found {
    int nodes[MOST_FOUND], count;
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

/* A product of two matrices as they are. */
static bool is_matmul(const ew_preparer *p, int node) {
    return node >= 0 && ew_is(&p->from->nodes[node], "MatMul") && !ew_is_turned(&p->from->nodes[node]);
}

/* The product of queries and keys under a value, or -1. */
static int scores_of(const ew_preparer *p, int value, ew_attention *a, found *f) {
    int node = ew_made_by(p, without_scale(p, value, &a->detail.scale, f), "MatMul");
    return is_matmul(p, node) ? node : -1;
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
    a->detail.nan_to_zero = true;
    return where->outputs[0];
}

/* The order of axes of a Transpose; false: it is another node. */
static bool order_of(const ew_preparer *p, int node, int *order) {
    if (node < 0 || !ew_is(&p->from->nodes[node], "Transpose")) return false;
    int count = 0, rank = ew_tensor_of(p, p->from->nodes[node].inputs[0])->rank;
    const int64_t *given = ew_attr_ints(&p->from->nodes[node], "perm", &count);
    for (int i = 0; i < rank; i++) order[i] = count == rank ? (int)given[i] : rank - 1 - i;
    return true;
}

/* The node of this type that makes a value, whoever else reads it; -1: there is none. */
static int maker_of(const ew_preparer *p, int value, const char *type) {
    int node = value < 0 ? -1 : p->maker[value];
    return node >= 0 && ew_is(&p->from->nodes[node], type) ? node : -1;
}

/* Slice(Shape(of), begin, end): the axes [*begin, *end) of a value; false: it is something else. */
static bool is_part_of_shape(const ew_preparer *p, int value, int of, int *begin, int *end) {
    int slice = maker_of(p, value, "Slice"), bounds[2], rank = ew_tensor_of(p, of)->rank;
    if (slice < 0 || p->from->nodes[slice].input_count > 4) return false; /* no steps */
    const ew_node *node = &p->from->nodes[slice];
    int shape = maker_of(p, node->inputs[0], "Shape");
    if (shape < 0 || p->from->nodes[shape].inputs[0] != of || ew_attr_int(&p->from->nodes[shape], "start", 0) ||
        ew_attr(&p->from->nodes[shape], "end"))
        return false;
    for (int i = 0; i < 2; i++) {
        if (!ew_is_constant(p, node->inputs[1 + i]) || ew_count(ew_tensor_of(p, node->inputs[1 + i])) != 1) return false;
        int64_t at = ew_get_int(ew_tensor_of(p, node->inputs[1 + i]), 0);
        bounds[i] = (int)(at < -rank ? 0 : at < 0 ? at + rank : at > rank ? rank : at);
    }
    *begin = bounds[0];
    *end = bounds[1];
    return true;
}

/* Concat of constants and lengths of a value's axes: the axis of each element, or less than zero what it is; how many,
 * 0: it is something else. */
static int sizes_of(const ew_preparer *p, int value, int of, int64_t *sizes) {
    int concat = maker_of(p, value, "Concat"), count = 0;
    for (int i = 0; concat >= 0 && i < p->from->nodes[concat].input_count; i++) {
        int part = p->from->nodes[concat].inputs[i], begin, end;
        if (is_part_of_shape(p, part, of, &begin, &end)) {
            for (; begin < end && count < EDGE_MAX_RANK; begin++) sizes[count++] = begin;
        } else {
            const ew_tensor *t = ew_tensor_of(p, part);
            if (!ew_is_constant(p, part) || ew_count(t) != 1 || ew_get_int(t, 0) >= 0 || count == EDGE_MAX_RANK) return 0;
            sizes[count++] = ew_get_int(t, 0);
        }
    }
    return count;
}

/* Whether what two Reshapes around a Transpose make of a value whose sizes are open turns its last two axes. */
static bool turns_open(const ew_preparer *p, const ew_node *first, const ew_node *last) {
    int64_t sizes[EDGE_MAX_RANK];
    int from = first->inputs[0], rank = ew_tensor_of(p, from)->rank;
    if (sizes_of(p, first->inputs[1], from, sizes) != 3 || sizes[0] != -1 || sizes[1] != rank - 2 || sizes[2] != rank - 1 ||
        sizes_of(p, last->inputs[1], from, sizes) != rank)
        return false;
    for (int i = 0; i < rank; i++)
        if (sizes[i] != (i < rank - 2 ? i : 2 * rank - 3 - i)) return false;
    return true;
}

/* The same where sizes are fixed. */
static bool turns_fixed(const ew_preparer *p, const ew_node *first, const ew_node *last) {
    const ew_tensor *a = ew_tensor_of(p, first->inputs[0]), *b = ew_tensor_of(p, first->outputs[0]);
    const ew_tensor *c = ew_tensor_of(p, last->outputs[0]);
    int rank = c->rank;
    if (b->rank != 3 || a->rank != rank || a->dynamic || a->dims[rank - 1] != b->dims[2] ||
        a->dims[rank - 2] != b->dims[1] || a->dims[rank - 1] != c->dims[rank - 2] || a->dims[rank - 2] != c->dims[rank - 1])
        return false;
    for (int i = 0; i < rank - 2; i++)
        if (a->dims[i] != c->dims[i]) return false;
    return true;
}

/* A transpose of the last two axes with all others made one for it, as converters write it: reshape, transpose,
 * reshape.  The value that it begins with, -1: it is something else. */
static int turned_as_one(const ew_preparer *p, int value, found *f) {
    int last = ew_made_by(p, value, "Reshape");
    int middle = last < 0 ? -1 : ew_made_by(p, p->from->nodes[last].inputs[0], "Transpose");
    int first = middle < 0 ? -1 : ew_made_by(p, p->from->nodes[middle].inputs[0], "Reshape");
    int order[EDGE_MAX_RANK];
    if (first < 0 || !order_of(p, middle, order) || order[0] != 0 || order[1] != 2) return -1;
    const ew_node *begin = &p->from->nodes[first], *end = &p->from->nodes[last];
    if (!turns_fixed(p, begin, end) && !turns_open(p, begin, end)) return -1;
    take(f, first);
    take(f, middle);
    take(f, last);
    return begin->inputs[0];
}

/* One transpose towards where a matrix comes from; false: there is none. */
static bool step_back(const ew_preparer *p, int *value, int *order, found *f) {
    int before[EDGE_MAX_RANK];
    int node = ew_made_by(p, *value, "Transpose"), rank = ew_tensor_of(p, *value)->rank;
    if (order_of(p, node, before)) {
        take(f, node);
        *value = p->from->nodes[node].inputs[0];
    } else {
        int from = turned_as_one(p, *value, f);
        if (from < 0) return false;
        for (int i = 0; i < rank; i++) before[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
        *value = from;
    }
    for (int i = 0; i < rank; i++) order[i] = before[order[i]];
    return true;
}

/* The order in which a matrix lies; where transposes make it, *value is what the first one reads. */
static void view(const ew_preparer *p, int *value, bool whole_rows, int *order, found *f) {
    int rank = ew_tensor_of(p, *value)->rank;
    for (int i = 0; i < rank; i++) order[i] = i;
    while (f->count + 3 <= MOST_FOUND) {
        int further[EDGE_MAX_RANK], from = *value;
        found more = *f;
        memcpy(further, order, sizeof further);
        if (!step_back(p, &from, further, &more) || (whole_rows && further[rank - 1] != rank - 1)) break;
        *value = from;
        *f = more;
        memcpy(order, further, sizeof further);
    }
}

/* The order in which the result lies; where a transpose of it follows, *value is what that one makes. */
static void view_result(const ew_preparer *p, int *value, ew_attention_detail *d, found *f) {
    int order[EDGE_MAX_RANK], next = ew_sole_reader(p, *value), rank = d->rank;
    bool turned = order_of(p, next, order) && order[rank - 1] == rank - 1;
    if (turned) {
        take(f, next);
        *value = p->from->nodes[next].outputs[0];
    }
    for (int i = 0; i < rank; i++) d->y[turned ? order[i] : i] = i;
}

static bool is_f32(const ew_preparer *p, int value, int rank) {
    const ew_tensor *t = ew_tensor_of(p, value);
    return t->dtype == EDGE_F32 && t->rank == rank;
}

/* Batches of q, k and v must be alike, and there must be something to attend to. */
static bool fits(const ew_preparer *p, const ew_attention *a) {
    const ew_tensor *q = ew_tensor_of(p, a->q), *k = ew_tensor_of(p, a->k), *v = ew_tensor_of(p, a->v);
    if (ew_count(k) == 0 || !is_f32(p, a->q, q->rank) || !is_f32(p, a->k, q->rank) || !is_f32(p, a->v, q->rank)) return false;
    for (int i = 0; i < q->rank - 2; i++)
        if (q->dims[i] != k->dims[i] || q->dims[i] != v->dims[i]) return false;
    return k->dims[k->rank - 1] <= EW_MOST_SCORES;
}

static void read_detail(const ew_preparer *p, ew_attention *a, found *f) {
    ew_attention_detail *d = &a->detail;
    d->gemm = edge_kernel_find(EDGE_GEMM, EDGE_KERNEL_F32, EDGE_DENSE, p->session->isa);
    d->rank = ew_tensor_of(p, a->q)->rank;
    view(p, &a->q, true, d->q, f);
    view(p, &a->k, false, d->k, f);
    view(p, &a->v, false, d->v, f);
    view_result(p, &a->result, d, f);
}

edge_status ew_find_attention(ew_preparer *p, int n) {
    const ew_node *node = &p->from->nodes[n];
    if (!is_softmax(p, node)) return EDGE_OK;
    ew_attention a = {.softmax = n, .mask = -1, .detail = {.scale = 1}};
    found f = {.count = 0};
    int scores = masked_scores(p, node->inputs[0], &a, &f), weights = without_nan(p, node->outputs[0], &a, &f);
    int last = ew_sole_reader(p, weights);
    if (scores < 0 || !is_matmul(p, last) || p->from->nodes[last].inputs[0] != weights)
        return EDGE_OK;
    take(&f, n);
    take(&f, scores);
    a.q = without_factor(p, p->from->nodes[scores].inputs[0], &a.detail.scale, &f);
    a.k = without_factor(p, p->from->nodes[scores].inputs[1], &a.detail.scale, &f);
    a.v = p->from->nodes[last].inputs[1];
    a.result = p->from->nodes[last].outputs[0];
    if (!fits(p, &a)) return EDGE_OK;
    read_detail(p, &a, &f);
    for (int i = 0; i < f.count; i++) p->absorbed[f.nodes[i]] = true;
    p->absorbed[last] = true;
    p->attention[last] = ew_arena_get(&p->session->arena, sizeof a);
    if (!p->attention[last]) return EDGE_NO_MEMORY;
    *p->attention[last] = a;
    return EDGE_OK;
}

edge_status ew_emit_attention(ew_preparer *p, const ew_attention *a) {
    int inputs[4] = {a->q, a->k, a->v, a->mask};
    for (int i = 0; i < 4; i++) EW_TRY(ew_plain(p, inputs[i]));
    p->plain[a->result] = true;
    ew_node like = p->from->nodes[a->softmax], *emitted;
    like.op_type = "Attention";
    EW_TRY(ew_emit(p, ew_find_op(EW_FUSED_DOMAIN, "FusedAttention", 1), &like, inputs, 4, &a->result, 1, &emitted));
    emitted->detail = &a->detail;
    return EDGE_OK;
}
