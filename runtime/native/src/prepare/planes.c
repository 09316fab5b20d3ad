/* Convolutions on images with their channels first: those whose weights are mostly zeros, and what stands between them. */
#include <math.h>

#include "prepare.h"

static const edge_kernel *kernel_of(const ew_preparer *p, edge_kernel_op op, edge_kernel_format format) {
    return edge_kernel_find(op, EDGE_KERNEL_F32, format, p->session->isa);
}

/* ---- products with sparse weights ---- */

/* Products in the time of a value that is turned, or copied from below a window. */
enum { TURN = 24, COPY = 4 };

/* What a product costs for each place, in products of the dense kernel: a block of four needs as many loads for a product as
 * that one, a single weight more. */
static double cost_of(const ew_blocks *s) {
    double blocks = (double)s->blocks, rows = (double)s->outputs;
    return s->kernel->nr == 1 ? 2.7 * blocks + 2 * rows : 4.6 * blocks + 3 * rows;
}

static bool are_all(const ew_node *node, const char *name, int64_t wanted) {
    int count = 0;
    const int64_t *values = ew_attr_ints(node, name, &count);
    for (int i = 0; i < count; i++)
        if (values[i] != wanted) return false;
    return true;
}

/* A convolution whose outputs see all channels. */
static bool is_whole(const ew_preparer *p, const ew_node *node) {
    return ew_is(node, "Conv") && ew_attr_int(node, "group", 1) == 1 && ew_is_head(p, node);
}

/* One tap, which moves over the image pixel by pixel. */
static bool is_pointwise(const ew_node *node, const ew_tensor *weights) {
    return ew_span(weights, 2, weights->rank) == 1 && are_all(node, "strides", 1) && are_all(node, "pads", 0);
}

/* The cost of the better of both formats; infinite where there is none. */
static double find_sparse(const ew_preparer *p, const ew_node *node, ew_blocks *best) {
    const ew_tensor *weights = ew_tensor_of(p, node->inputs[1]);
    int64_t outputs = weights->dims[0], depth = ew_span(weights, 1, weights->rank);
    double least = INFINITY;
    for (edge_kernel_format format = EDGE_BLOCKS_1X1; format <= EDGE_BLOCKS_4X1; format++) {
        ew_blocks s = {.weights = weights->data, .outputs = outputs, .depth = depth, .row = depth, .column = 1};
        if (!ew_count_blocks(p, format, &s)) continue;
        double cost = cost_of(&s);
        if (cost >= least) continue;
        least = cost;
        *best = s;
    }
    return is_pointwise(node, weights) ? least : least + (double)(COPY * depth);
}

/* What the dense kernel costs. */
static double dense_cost(const ew_tensor *weights) { return (double)ew_count(weights); }

/* Whether a value is read by a product with sparse weights alone, maybe behind depthwise convolutions and activations. */
static bool goes_to_sparse(const ew_preparer *p, int value) {
    enum { FAR = 8 };
    for (int i = 0; i < FAR; i++) {
        ew_blocks s;
        int reader = ew_sole_reader(p, value);
        if (reader < 0) return false;
        const ew_node *node = &p->from->nodes[reader];
        if (node->inputs[0] != value || node->output_count != 1) return false;
        if (is_whole(p, node)) {
            const ew_tensor *weights = ew_tensor_of(p, node->inputs[1]);
            return !ew_seems_dense(weights) && find_sparse(p, node, &s) < dense_cost(weights);
        }
        if (!(ew_is(node, "Conv") && ew_is_head(p, node)) && !(node->op->flags & EW_POINTWISE)) return false;
        value = node->outputs[0];
    }
    return false;
}

/* Whether the planes of an image are the better order for a product: its own cost, and that of turning what comes in and goes
 * out in either order. */
static bool is_better(ew_preparer *p, const ew_chain *chain, ew_blocks *best) {
    const ew_node *node = &p->from->nodes[chain->head];
    if (chain->grouped || !is_whole(p, node)) return false;
    const ew_tensor *weights = ew_tensor_of(p, node->inputs[1]);
    bool onward = goes_to_sparse(p, chain->result);
    if (!onward && ew_seems_dense(weights)) return false;
    double turned = (double)(TURN * weights->dims[1]) * (p->plain[node->inputs[0]] ? 1 : -1);
    if (onward) turned += (double)(TURN * weights->dims[0]);
    double dense = dense_cost(weights), sparse = find_sparse(p, node, best);
    if (sparse == INFINITY || (!onward && best->blocks * best->kernel->nr >= best->outputs * best->depth)) return false;
    if (turned > 0) dense += turned;
    else sparse -= turned;
    ew_tell_cost(p, sparse / dense);
    return sparse < dense;
}

static edge_status emit(ew_preparer *p, const ew_chain *chain, const char *name, const void *detail) {
    const ew_node *head = &p->from->nodes[chain->head];
    int inputs[3] = {head->inputs[0], head->inputs[1], chain->add};
    ew_node *node;
    for (int i = 0; i < 3; i++) EW_TRY(ew_plain(p, inputs[i]));
    p->plain[chain->result] = p->planes[chain->result] = true;
    EW_TRY(ew_emit(p, ew_find_op(EW_FUSED_DOMAIN, name, 1), head, inputs, 3, &chain->result, 1, &node));
    node->detail = detail;
    return EDGE_OK;
}

static edge_status emit_sparse(ew_preparer *p, const ew_chain *chain, const ew_blocks *s) {
    ew_sparse *detail = ew_arena_get(&p->session->arena, sizeof *detail);
    if (!detail) return EDGE_NO_MEMORY;
    EW_TRY(ew_pack_blocks(p, s, p->from->nodes[chain->head].inputs[1], detail));
    detail->low = chain->low;
    detail->high = chain->high;
    detail->map = chain->map;
    EW_TRY(ew_join_bias(p, chain, s->outputs, false, &detail->bias));
    return emit(p, chain, "SparseConv", detail);
}

/* ---- depthwise convolutions ---- */

/* Whether the input is there with its channels first alone, and its windows are some that the kernel has room for. */
static bool is_plane(const ew_preparer *p, const ew_chain *chain) {
    const ew_node *head = &p->from->nodes[chain->head];
    if (chain->grouped || !ew_is(head, "Conv") || ew_attr_int(head, "group", 1) == 1) return false;
    int x = head->inputs[0];
    const ew_tensor *weights = ew_tensor_of(p, head->inputs[1]);
    if (!p->planes[x] || p->channels_last[x] >= 0 || weights->rank != 4 || !kernel_of(p, EDGE_DEPTHWISE_PLANE, EDGE_DENSE))
        return false;
    ew_tensor *in[] = {(ew_tensor *)(uintptr_t)ew_tensor_of(p, x), (ew_tensor *)(uintptr_t)weights};
    ew_call call = {.node = head, .in = in, .in_count = 2, .planning = true, .session = p->session};
    return weights->dims[2] <= EDGE_PLANE_MOST_SIDE && weights->dims[3] <= EDGE_PLANE_MOST_SIDE && ew_plane_fits(&call);
}

static edge_status emit_plane(ew_preparer *p, const ew_chain *chain) {
    const ew_tensor *weights = ew_tensor_of(p, p->from->nodes[chain->head].inputs[1]);
    ew_fused *f = ew_arena_get(&p->session->arena, sizeof *f);
    if (!f) return EDGE_NO_MEMORY;
    *f = (ew_fused){.kernel = kernel_of(p, EDGE_DEPTHWISE_PLANE, EDGE_DENSE),
                    .outputs = weights->dims[0],
                    .low = chain->low,
                    .high = chain->high,
                    .map = chain->map};
    EW_TRY(ew_join_bias(p, chain, f->outputs, true, &f->bias));
    return emit(p, chain, "PlaneDepthwise", f);
}

edge_status ew_emit_planes(ew_preparer *p, const ew_chain *chain, bool *done) {
    ew_blocks s;
    *done = is_better(p, chain, &s);
    if (*done) return emit_sparse(p, chain, &s);
    *done = is_plane(p, chain);
    return *done ? emit_plane(p, chain) : EDGE_OK;
}
