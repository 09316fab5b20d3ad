#include "prepare.h"

static bool is_row_parameter(const ew_preparer *p, const ew_node *node, int i, int64_t length) {
    if (i >= node->input_count || node->inputs[i] < 0) return i == 2;
    const ew_tensor *t = ew_tensor_of(p, node->inputs[i]);
    return t->dtype == EDGE_F32 && t->rank == 1 && t->dims[0] == length;
}

static bool is_last_axis(const ew_node *node, int rank) {
    int64_t axis = ew_attr_int(node, "axis", -1);
    return axis == -1 || axis == rank - 1;
}

static bool is_softmax(const ew_node *node, int rank) {
    return ew_is(node, "Softmax") && node->opset >= 13 && is_last_axis(node, rank);
}

static bool is_layer_norm(const ew_preparer *p, const ew_node *node, const ew_tensor *x) {
    if (!ew_is(node, "LayerNormalization") || !is_last_axis(node, x->rank) || node->output_count != 1) return false;
    int64_t length = x->dims[x->rank - 1];
    return is_row_parameter(p, node, 1, length) && is_row_parameter(p, node, 2, length);
}

edge_status ew_emit_rows(ew_preparer *p, const ew_node *node, bool *done) {
    if (node->input_count < 1 || node->inputs[0] < 0) return EDGE_OK;
    const ew_tensor *x = ew_tensor_of(p, node->inputs[0]);
    if (x->dtype != EDGE_F32 || x->rank < 1 || x->dims[x->rank - 1] < 1) return EDGE_OK;
    bool softmax = is_softmax(node, x->rank);
    if (!softmax && !is_layer_norm(p, node, x)) return EDGE_OK;
    ew_fused *f = ew_arena_get(&p->session->arena, sizeof *f);
    if (!f) return EDGE_NO_MEMORY;
    f->kernel = edge_kernel_find(softmax ? EDGE_SOFTMAX : EDGE_LAYER_NORM, EDGE_KERNEL_F32, EDGE_DENSE,
                                 p->session->isa);
    for (int i = 0; i < node->input_count; i++) EW_TRY(ew_plain(p, node->inputs[i]));
    p->plain[node->outputs[0]] = true;
    ew_node *emitted;
    EW_TRY(ew_emit(p, ew_find_op(EW_FUSED_DOMAIN, "FusedRows", 1), node, node->inputs, node->input_count, node->outputs,
                   1, &emitted));
    emitted->detail = f;
    *done = true;
    return EDGE_OK;
}
