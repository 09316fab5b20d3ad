/* Convolutions on images with their channels first: those whose weights are mostly zeros, and what stands between them. */
#include "prepare.h"

static const edge_kernel *kernel_of(const ew_preparer *p, edge_kernel_op op, edge_kernel_format format) {
    return edge_kernel_find(op, EDGE_KERNEL_F32, format, p->session->isa);
}

/* ---- products with sparse weights ---- */

/* Weights as the packer reads them, and what it writes: start, index and value, one after the other. */
typedef struct sparse {
    const edge_kernel *kernel;
    const float *weights;
    int64_t outputs, depth, blocks;
} sparse;

static int64_t groups_of(const sparse *s) { return (s->outputs + s->kernel->nr - 1) / s->kernel->nr; }
static size_t start_bytes(const sparse *s) { return (size_t)(groups_of(s) + 1) * sizeof(int32_t); }
static size_t index_bytes(const sparse *s) { return (size_t)(s->blocks + s->blocks % 2) * sizeof(uint16_t); }
static size_t bytes_of(const sparse *s) {
    return start_bytes(s) + index_bytes(s) + (size_t)(s->blocks * s->kernel->nr) * sizeof(float);
}

static ew_sparse parts_of(const sparse *s, const void *packed) {
    const uint8_t *at = packed;
    return (ew_sparse){.kernel = s->kernel,
                       .start = packed,
                       .index = (const uint16_t *)(const void *)(at + start_bytes(s)),
                       .value = (const float *)(const void *)(at + start_bytes(s) + index_bytes(s)),
                       .outputs = s->outputs};
}

static edge_status fill(const void *context, void *into) {
    const sparse *s = context;
    ew_sparse to = parts_of(s, into);
    if (s->blocks % 2) memset((uint8_t *)into + start_bytes(s) + index_bytes(s) - sizeof(uint16_t), 0, sizeof(uint16_t));
    edge_spmm_pack_f32(s->kernel, s->outputs, s->depth, s->weights, s->depth, 1, (int32_t *)(uintptr_t)to.start,
                       (uint16_t *)(uintptr_t)to.index, (float *)(uintptr_t)to.value);
    return EDGE_OK;
}

/* What was packed may come from a file: nothing in it may lead a kernel outside. */
static bool is_sound(const sparse *s, const ew_sparse *packed) {
    int64_t groups = groups_of(s);
    if (packed->start[0] != 0 || packed->start[groups] != s->blocks) return false;
    for (int64_t g = 0; g < groups; g++)
        if (packed->start[g] > packed->start[g + 1]) return false;
    for (int64_t i = 0; i < s->blocks; i++)
        if (packed->index[i] >= s->depth) return false;
    return true;
}

static edge_status pack(ew_preparer *p, const sparse *s, int value, ew_sparse *detail) {
    edge_session *session = p->session;
    const ew_graph *model = session->model_graph;
    const void *packed;
    if (value < model->value_count && model->values[value].has_data) {
        uint32_t code = (uint32_t)EW_PACKING_VERSION << 24 | (uint32_t)s->kernel->nr << 4; /* of kind 0 */
        EW_TRY(ew_weights_get(session->weights, model->values[value].tensor.data, code, bytes_of(s), fill, s, &packed));
    } else {
        void *own = ew_arena_get_dirty(&session->arena, bytes_of(s));
        if (!own) return EDGE_NO_MEMORY;
        EW_TRY(fill(s, own));
        packed = own;
    }
    *detail = parts_of(s, packed);
    if (!is_sound(s, detail)) return ew_fail(EDGE_INVALID_MODEL, "packed weights of '%s' are damaged", p->from->values[value].name);
    return EDGE_OK;
}

/* Products in the time of a value that is turned, or copied from below a window. */
enum { TURN = 24, COPY = 4 };

/* What a product costs for each place, in products of the dense kernel: a block of four needs as many loads for a product as
 * that one, a single weight more. */
static double cost_of(const sparse *s) {
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

/* Whether few zeros are among some of the weights: those of large models are not read for this, which may have been packed
 * before. */
static bool seems_dense(const ew_tensor *weights) {
    enum { RUNS = 8, RUN = 256, FEW = 8 };
    int64_t count = ew_count(weights), run = count < RUN ? count : RUN, zeros = 0;
    for (int64_t i = 0; i < RUNS; i++) {
        const uint8_t *at = (const uint8_t *)weights->data + (size_t)((count - run) / RUNS * i) * sizeof(float);
        for (int64_t j = 0; j < run; j++, at += sizeof(float)) {
            float value;
            memcpy(&value, at, sizeof value);
            zeros += value == 0;
        }
    }
    return zeros * FEW < RUNS * run;
}

/* The better of both formats, where its cost is below this. */
static bool find_sparse(const ew_preparer *p, const ew_node *node, double least, sparse *best) {
    const ew_tensor *weights = ew_tensor_of(p, node->inputs[1]);
    int64_t outputs = weights->dims[0], depth = ew_span(weights, 1, weights->rank);
    bool found = false;
    if (!is_pointwise(node, weights)) least -= (double)(COPY * depth);
    for (edge_kernel_format format = EDGE_BLOCKS_1X1; format <= EDGE_BLOCKS_4X1; format++) {
        sparse s = {kernel_of(p, EDGE_SPMM, format), weights->data, outputs, depth, 0};
        if (!s.kernel || depth > EDGE_SPMM_MOST_DEPTH) return false;
        s.blocks = edge_spmm_blocks(s.kernel, outputs, depth, s.weights, depth, 1);
        double cost = cost_of(&s);
        if (cost >= least || s.blocks > INT32_MAX) continue;
        least = cost;
        *best = s;
        found = true;
    }
    return found;
}

/* What the dense kernel costs. */
static double dense_cost(const ew_tensor *weights) { return (double)ew_count(weights); }

/* Whether a value is read by a product with sparse weights alone, maybe behind depthwise convolutions and activations. */
static bool goes_to_sparse(const ew_preparer *p, int value) {
    enum { FAR = 8 };
    for (int i = 0; i < FAR; i++) {
        sparse s;
        int reader = ew_sole_reader(p, value);
        if (reader < 0) return false;
        const ew_node *node = &p->from->nodes[reader];
        if (node->inputs[0] != value || node->output_count != 1) return false;
        if (is_whole(p, node)) {
            const ew_tensor *weights = ew_tensor_of(p, node->inputs[1]);
            return !seems_dense(weights) && find_sparse(p, node, dense_cost(weights), &s);
        }
        if (!(ew_is(node, "Conv") && ew_is_head(p, node)) && !(node->op->flags & EW_POINTWISE)) return false;
        value = node->outputs[0];
    }
    return false;
}

/* Whether the planes of an image are the better order for a product: its own cost, and that of turning what comes in and goes
 * out in either order. */
static bool is_better(const ew_preparer *p, const ew_chain *chain, sparse *best) {
    const ew_node *node = &p->from->nodes[chain->head];
    if (chain->grouped || !is_whole(p, node)) return false;
    const ew_tensor *weights = ew_tensor_of(p, node->inputs[1]);
    bool onward = goes_to_sparse(p, chain->result);
    if (!onward && seems_dense(weights)) return false;
    double turned = (double)(TURN * weights->dims[1]) * (p->plain[node->inputs[0]] ? 1 : -1);
    if (onward) turned += (double)(TURN * weights->dims[0]);
    if (!find_sparse(p, node, dense_cost(weights) + turned, best)) return false;
    return onward || best->blocks * best->kernel->nr < best->outputs * best->depth;
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

static edge_status emit_sparse(ew_preparer *p, const ew_chain *chain, const sparse *s) {
    ew_sparse *detail = ew_arena_get(&p->session->arena, sizeof *detail);
    if (!detail) return EDGE_NO_MEMORY;
    EW_TRY(pack(p, s, p->from->nodes[chain->head].inputs[1], detail));
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
    sparse s;
    *done = is_better(p, chain, &s);
    if (*done) return emit_sparse(p, chain, &s);
    *done = is_plane(p, chain);
    return *done ? emit_plane(p, chain) : EDGE_OK;
}
