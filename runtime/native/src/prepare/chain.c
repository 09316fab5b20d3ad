/* Which nodes after a product can be done with it: bias, a second summand, an activation. */
#include <math.h>

#include "prepare.h"

static bool is_vector(const ew_tensor *t, int64_t length) {
    return t->dtype == EDGE_F32 && t->rank >= 1 && t->dims[t->rank - 1] == length && ew_count(t) == length;
}

static bool same_shape(const ew_tensor *a, const ew_tensor *b) {
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

static bool is_near(const ew_preparer *p, int value, float wanted) {
    float found;
    return ew_scalar(p, value, &found) && fabsf(found - wanted) <= 1e-6f * wanted;
}

/* A sum with a vector along the last axis; for a convolution the channels are elsewhere, and its bias is its own. */
static bool take_bias(const ew_preparer *p, const ew_node *node, ew_chain *c) {
    if (!ew_is(node, "Add") || c->bias >= 0 || c->add >= 0) return false;
    int value = ew_other(node, c->result);
    const ew_tensor *sum = ew_tensor_of(p, c->result);
    if (!ew_is_constant(p, value) || !is_vector(ew_tensor_of(p, value), sum->dims[sum->rank - 1])) return false;
    if (ew_tensor_of(p, value)->rank > sum->rank || ew_is_image(&p->from->nodes[c->head])) return false;
    c->bias = value;
    return true;
}

/* The depthwise kernels take none. */
static bool take_add(const ew_preparer *p, const ew_node *node, ew_chain *c) {
    if (!ew_is(node, "Add") || c->add >= 0 || ew_attr_int(&p->from->nodes[c->head], "group", 1) > 1) return false;
    int value = ew_other(node, c->result);
    const ew_tensor *sum = ew_tensor_of(p, c->result), *more = ew_tensor_of(p, value);
    if (value == c->result || more->dtype != EDGE_F32 || sum->dynamic || more->dynamic || !same_shape(sum, more))
        return false;
    c->add = value;
    return true;
}

static bool take_clamp(const ew_preparer *p, const ew_node *node, ew_chain *c) {
    float low = -INFINITY, high = INFINITY;
    if (ew_is(node, "Relu")) {
        low = 0;
    } else if (ew_is(node, "Clip") && node->opset >= 11) {
        if (node->input_count > 1 && node->inputs[1] >= 0 && !ew_scalar(p, node->inputs[1], &low)) return false;
        if (node->input_count > 2 && node->inputs[2] >= 0 && !ew_scalar(p, node->inputs[2], &high)) return false;
        if (node->inputs[0] != c->result || !(low <= high)) return false;
    } else {
        return false;
    }
    c->low = low;
    c->high = high;
    c->clamped = true;
    return true;
}

static edge_map_f32 *map_of(const ew_preparer *p, edge_kernel_op op) {
    return (edge_map_f32 *)edge_kernel_find(op, EDGE_KERNEL_F32, EDGE_DENSE, p->session->isa)->run;
}

static bool take_map(const ew_preparer *p, const ew_node *node, ew_chain *c) {
    static const struct {
        const char *name;
        edge_kernel_op op;
    } MAPS[] = {{"Sigmoid", EDGE_SIGMOID}, {"Tanh", EDGE_TANH}, {"Gelu", EDGE_GELU}};
    for (size_t i = 0; i < sizeof MAPS / sizeof *MAPS; i++) {
        if (!ew_is(node, MAPS[i].name)) continue;
        if (MAPS[i].op == EDGE_GELU && strcmp(ew_attr_string(node, "approximate", "none"), "none") != 0) return false;
        c->map = map_of(p, MAPS[i].op);
        return true;
    }
    return false;
}

void ew_chain_extend(const ew_preparer *p, ew_chain *c, int next, bool *absorbed) {
    absorbed[c->last] = true;
    c->last = next;
    c->result = p->from->nodes[next].outputs[0];
}

/* The inputs of a node of this type that makes a value: the one that is this constant, the other is given back. */
static int beside(const ew_preparer *p, int node, float constant) {
    if (node < 0) return -1;
    const int *inputs = p->from->nodes[node].inputs;
    return is_near(p, inputs[0], constant) ? inputs[1] : is_near(p, inputs[1], constant) ? inputs[0] : -1;
}

/* The product of a value and something made of it, which both are read nowhere else; -1: there is none. */
static int own_product(const ew_preparer *p, int x) {
    int last = p->reader[x];
    return p->uses[x] == 2 && !p->from->values[x].is_output && ew_is(&p->from->nodes[last], "Mul") ? last : -1;
}

/* x * (0.5 * (1 + erf(x / sqrt 2))), as converters write it; found from the last product backwards. */
static bool take_gelu(const ew_preparer *p, ew_chain *c, bool *absorbed) {
    int x = c->result, last = own_product(p, x);
    if (last < 0) return false;
    int half = ew_made_by(p, ew_other(&p->from->nodes[last], x), "Mul");
    int sum = ew_made_by(p, beside(p, half, 0.5f), "Add");
    int erf = ew_made_by(p, beside(p, sum, 1.0f), "Erf");
    int scale = erf < 0 ? -1 : ew_made_by(p, p->from->nodes[erf].inputs[0], "Div");
    if (scale < 0 || p->from->nodes[scale].inputs[0] != x || beside(p, scale, 1.41421356f) != x) return false;
    absorbed[half] = absorbed[sum] = absorbed[erf] = absorbed[scale] = true;
    c->map = map_of(p, EDGE_GELU);
    ew_chain_extend(p, c, last, absorbed);
    return true;
}

/* x * sigmoid(x) */
static bool take_silu(const ew_preparer *p, ew_chain *c, bool *absorbed) {
    int x = c->result, last = own_product(p, x);
    int sigmoid = last < 0 ? -1 : ew_made_by(p, ew_other(&p->from->nodes[last], x), "Sigmoid");
    if (sigmoid < 0 || p->from->nodes[sigmoid].inputs[0] != x) return false;
    absorbed[sigmoid] = true;
    c->map = map_of(p, EDGE_SILU);
    ew_chain_extend(p, c, last, absorbed);
    return true;
}

void ew_chain_find(const ew_preparer *p, int head, ew_eight *eight, ew_chain *c, bool *absorbed) {
    const ew_node *node = &p->from->nodes[head];
    *c = (ew_chain){head, head, node->outputs[0], -1, -1, -INFINITY, INFINITY, false, NULL, eight, NULL};
    if (eight) ew_take_scales(p, eight, c, absorbed);
    for (;;) {
        int next = ew_sole_reader(p, c->result);
        bool ended = c->clamped || c->map;
        if (!ended && (take_gelu(p, c, absorbed) || take_silu(p, c, absorbed))) break;
        if (next < 0 || ended || absorbed[next]) break; /* a sum of two products is done with the first one */
        node = &p->from->nodes[next];
        if (!take_bias(p, node, c) && !take_add(p, node, c) && !take_clamp(p, node, c) && !take_map(p, node, c)) break;
        ew_chain_extend(p, c, next, absorbed);
    }
    if (eight) ew_take_quantize(p, eight, c, absorbed);
    absorbed[c->last] = true;
}
