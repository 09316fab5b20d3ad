/* Nodes between products of 8 bits: sums, means of pixels, and what only moves values. */
#include "prepare.h"

/* The node that makes 8 bits of the result of a node, -1: there is none, or something else reads it. */
static int quantizer(const ew_preparer *p, const ew_node *node, edge_grid *y) {
    int next = ew_sole_reader(p, node->outputs[0]);
    return ew_is_quantize(p, next, y) && !p->absorbed[next] ? next : -1;
}

static edge_dtype dtype_of(const edge_grid *grid) { return grid->is_signed ? EDGE_S8 : EDGE_U8; }

static bool comes_last(const ew_preparer *p, int value) { return !p->plain[value] && p->channels_last[value] >= 0; }

static bool same_shape(const ew_tensor *a, const ew_tensor *b) {
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

/* Emits the node that takes the place of one and of the quantizer after it, in the form of its inputs. */
static edge_status emit(ew_preparer *p, const ew_op *op, const ew_node *like, int *inputs, int count, bool last,
                        int quantize, ew_node **node) {
    int result = p->from->nodes[quantize].outputs[0], output = result;
    for (int i = 0; i < count; i++) {
        if (last) EW_TRY(ew_channels_last(p, inputs[i], &inputs[i]));
        else EW_TRY(ew_plain(p, inputs[i]));
    }
    if (last) {
        EW_TRY(ew_new_value(p, &p->from->values[result], &output));
        p->channels_last[result] = output;
    } else {
        p->plain[result] = true;
    }
    p->absorbed[quantize] = true;
    return ew_emit(p, op, like, inputs, count, &output, 1, node);
}

static edge_status emit_add(ew_preparer *p, const ew_node *node, bool *done) {
    if (!ew_is(node, "Add")) return EDGE_OK;
    edge_add_s8_job job = {0};
    int inputs[2] = {ew_made_of(p, node->inputs[0], &job.a), ew_made_of(p, node->inputs[1], &job.b)};
    int next = quantizer(p, node, &job.y);
    if (inputs[0] < 0 || inputs[1] < 0 || next < 0) return EDGE_OK;
    const ew_tensor *a = ew_tensor_of(p, inputs[0]), *b = ew_tensor_of(p, inputs[1]);
    if (a->dynamic || b->dynamic || !same_shape(a, b)) return EDGE_OK;
    job.low = job.y.is_signed ? -128 : 0;
    job.high = job.low + 255;
    ew_add_detail *detail = ew_arena_get(&p->session->arena, sizeof *detail);
    if (!detail) return EDGE_NO_MEMORY;
    *detail = (ew_add_detail){edge_kernel_find(EDGE_ADD, EDGE_KERNEL_S8, EDGE_DENSE, p->session->isa), job,
                              dtype_of(&job.y)};
    bool last = comes_last(p, inputs[0]) || comes_last(p, inputs[1]);
    ew_node *emitted;
    *done = true;
    EW_TRY(emit(p, ew_find_op(EW_FUSED_DOMAIN, "FusedAdd", 1), node, inputs, 2, last, next, &emitted));
    emitted->detail = detail;
    return EDGE_OK;
}

static edge_status emit_mean(ew_preparer *p, const ew_node *node, bool *done) {
    ew_mean_detail found = {0};
    if (!ew_is_mean_of_pixels(p, node)) return EDGE_OK;
    int input = ew_made_of(p, node->inputs[0], &found.x), next = quantizer(p, node, &found.y);
    if (input < 0 || next < 0 || ew_count(ew_tensor_of(p, input)) == 0) return EDGE_OK;
    ew_mean_detail *detail = ew_arena_get(&p->session->arena, sizeof *detail);
    if (!detail) return EDGE_NO_MEMORY;
    found.dtype = dtype_of(&found.y);
    found.keep = ew_is(node, "GlobalAveragePool") || ew_attr_int(node, "keepdims", 1);
    *detail = found;
    int result = p->from->nodes[next].outputs[0], output = result;
    EW_TRY(ew_channels_last(p, input, &input));
    if (found.keep) {
        EW_TRY(ew_new_value(p, &p->from->values[result], &output));
        p->channels_last[result] = output;
    } else {
        p->plain[result] = true;
    }
    p->absorbed[next] = true;
    *done = true;
    ew_node *emitted;
    EW_TRY(ew_emit(p, ew_find_op(EW_FUSED_DOMAIN, "FusedMean", 1), node, &input, 1, &output, 1, &emitted));
    emitted->detail = detail;
    return EDGE_OK;
}

/* The same grid on both sides: the bytes are moved. */
static edge_status emit_move(ew_preparer *p, const ew_node *node, bool *done) {
    static const char *const MOVES[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather"};
    enum { MOST = 8 };
    bool moves = false;
    for (size_t i = 0; i < sizeof MOVES / sizeof *MOVES; i++) moves |= ew_is(node, MOVES[i]);
    if (!moves || node->input_count > MOST) return EDGE_OK;
    edge_grid x, y;
    int input = ew_made_of(p, node->inputs[0], &x), next = quantizer(p, node, &y), inputs[MOST];
    if (input < 0 || next < 0 || x.scale != y.scale || x.zero != y.zero || x.is_signed != y.is_signed) return EDGE_OK;
    memcpy(inputs, node->inputs, (size_t)node->input_count * sizeof *inputs);
    inputs[0] = input;
    ew_node *emitted;
    *done = true;
    return emit(p, node->op, node, inputs, node->input_count, false, next, &emitted);
}

edge_status ew_emit_bytes(ew_preparer *p, const ew_node *node, bool *done) {
    if (node->output_count != 1 || node->outputs[0] < 0 || node->input_count < 1 || node->inputs[0] < 0)
        return EDGE_OK;
    EW_TRY(emit_add(p, node, done));
    if (!*done) EW_TRY(emit_mean(p, node, done));
    if (!*done) EW_TRY(emit_move(p, node, done));
    return EDGE_OK;
}
