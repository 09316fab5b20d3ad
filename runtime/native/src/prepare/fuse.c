/* Products with constant weights: packed once, emitted with the chain that follows them. */
#include "prepare.h"

static const edge_kernel *kernel_of(const ew_preparer *p, edge_kernel_op op) {
    return edge_kernel_find(op, EDGE_KERNEL_F32, EDGE_DENSE, p->session->isa);
}

static bool is_f32(const ew_preparer *p, int value) { return ew_tensor_of(p, value)->dtype == EDGE_F32; }

static bool has_input(const ew_node *node, int i) { return i < node->input_count && node->inputs[i] >= 0; }

bool ew_is_fitting_bias(const ew_preparer *p, const ew_node *node, int i, int64_t outputs) {
    if (!has_input(node, i)) return true;
    const ew_tensor *t = ew_tensor_of(p, node->inputs[i]);
    return ew_is_constant(p, node->inputs[i]) && t->dtype == EDGE_F32 && t->rank >= 1 &&
           t->dims[t->rank - 1] == outputs && ew_count(t) == outputs;
}

bool ew_is_window(const ew_node *node, const ew_tensor *weights, bool *depthwise) {
    int64_t groups = ew_attr_int(node, "group", 1);
    *depthwise = groups > 1 && groups == weights->dims[0] && weights->dims[1] == 1;
    if (!ew_is_conv(node) || weights->rank < 3 || weights->rank > 4 || ew_count(weights) == 0) return false;
    if (groups != 1 && (!*depthwise || (weights->rank == 4 && weights->dims[2] > 32))) return false;
    return ew_span(weights, 2, weights->rank) <= 1024;
}

bool ew_is_plain_product(const ew_preparer *p, const ew_node *node, const ew_tensor *weights) {
    bool gemm = ew_is(node, "Gemm");
    if (weights->rank != 2 || ew_count(weights) == 0 || ew_tensor_of(p, node->inputs[0])->rank < (gemm ? 2 : 1))
        return false;
    if (!gemm) return true;
    if (ew_attr_int(node, "transA", 0) || ew_attr_float(node, "alpha", 1) != 1.0f ||
        (has_input(node, 2) && ew_attr_float(node, "beta", 1) != 1.0f))
        return false;
    return ew_is_fitting_bias(p, node, 2, weights->dims[ew_is_turned(node) ? 0 : 1]);
}

bool ew_is_head(const ew_preparer *p, const ew_node *node) {
    bool conv = ew_is(node, "Conv"), transposed = ew_is_transposed(node), depthwise;
    if ((!conv && !transposed && !ew_is(node, "Gemm") && !ew_is(node, "MatMul")) || !is_f32(p, node->inputs[0]) ||
        !ew_is_constant(p, node->inputs[1]))
        return false;
    const ew_tensor *weights = ew_tensor_of(p, node->inputs[1]);
    if (transposed) return ew_is_fitting_transposed(node, weights) && ew_is_fitting_bias(p, node, 2, weights->dims[1]);
    if (!conv) return ew_is_plain_product(p, node, weights);
    return ew_is_window(node, weights, &depthwise) && ew_is_fitting_bias(p, node, 2, weights->dims[0]);
}

ew_packing ew_packing_of(const ew_node *node, const ew_tensor *weights, bool conv, bool depthwise) {
    const int64_t *d = weights->dims;
    if (depthwise)
        return (ew_packing){EW_PACK_DEPTHWISE, d[0], weights->rank == 4 ? d[2] : 1, d[weights->rank - 1]};
    if (conv) return (ew_packing){EW_PACK_CONV, d[0], ew_span(weights, 2, weights->rank), d[1]};
    bool turned = ew_is_turned(node);
    return (ew_packing){turned ? EW_PACK_TURNED : EW_PACK_LINEAR, d[!turned], 1, d[turned]};
}

edge_status ew_join_bias(ew_preparer *p, const ew_chain *chain, int64_t outputs, bool wanted, const float **bias) {
    const ew_node *head = &p->from->nodes[chain->head];
    bool has_own = (ew_is(head, "Conv") || ew_is_transposed(head) || ew_is(head, "Gemm")) && has_input(head, 2);
    const float *first = has_own ? ew_tensor_of(p, head->inputs[2])->data : NULL;
    const float *second = chain->bias >= 0 ? ew_tensor_of(p, chain->bias)->data : NULL;
    if (!first && !second && !wanted) return EDGE_OK;
    float *sum = ew_arena_get(&p->session->arena, (size_t)outputs * sizeof *sum);
    if (!sum) return EDGE_NO_MEMORY;
    for (int64_t i = 0; i < outputs; i++) sum[i] = (first ? first[i] : 0) + (second ? second[i] : 0);
    *bias = sum;
    return EDGE_OK;
}

static edge_status pack(ew_preparer *p, const ew_chain *chain, bool conv, bool depthwise, ew_fused *f) {
    const ew_node *head = &p->from->nodes[chain->head];
    const ew_tensor *weights = ew_tensor_of(p, head->inputs[1]);
    *f = (ew_fused){.kernel = kernel_of(p, depthwise ? EDGE_DEPTHWISE : EDGE_GEMM),
                    .low = chain->low,
                    .high = chain->high,
                    .map = chain->map};
    if (chain->grouped) {
        EW_TRY(ew_pack_grouped(p, head, chain->grouped, f));
    } else if (ew_is_transposed(head)) {
        EW_TRY(ew_pack_transposed(p, head, weights, f));
    } else {
        ew_packing packing = ew_packing_of(head, weights, conv, depthwise);
        EW_TRY(ew_pack(p, f->kernel, head->inputs[1], &packing, &f->weights));
        f->outputs = packing.outputs;
        f->depth = depthwise ? packing.outputs : packing.depth;
    }
    int64_t line = f->depth * (conv ? weights->dims[weights->rank - 1] : 1);
    f->zeros = ew_arena_get(&p->session->arena, (size_t)line * sizeof(float));
    if (!f->zeros) return EDGE_NO_MEMORY;
    return ew_join_bias(p, chain, f->outputs, depthwise, &f->bias);
}

static edge_status emit_dense(ew_preparer *p, const ew_chain *chain) {
    const ew_node *head = &p->from->nodes[chain->head];
    bool transposed = ew_is_transposed(head), conv = ew_is(head, "Conv") || transposed;
    bool depthwise = conv && ew_attr_int(head, "group", 1) > 1;
    ew_fused *f = ew_arena_get(&p->session->arena, sizeof *f);
    int inputs[3] = {head->inputs[0], chain->grouped ? chain->grouped->weights : head->inputs[1], chain->add};
    int output = chain->result;
    if (!f) return EDGE_NO_MEMORY;
    EW_TRY(pack(p, chain, conv, depthwise, f));
    if (conv) {
        EW_TRY(ew_channels_last(p, inputs[0], &inputs[0]));
        if (chain->add >= 0) EW_TRY(ew_channels_last(p, chain->add, &inputs[2]));
        EW_TRY(ew_new_value(p, &p->from->values[chain->result], &output));
        p->channels_last[chain->result] = output;
    } else {
        EW_TRY(ew_plain(p, inputs[0]));
        EW_TRY(ew_plain(p, chain->add));
        p->plain[chain->result] = true;
    }
    const char *name = transposed  ? "FusedTransposed"
                       : depthwise ? "FusedDepthwise"
                       : conv      ? "FusedConv"
                                   : "FusedLinear";
    const ew_op *op = ew_find_op(EW_FUSED_DOMAIN, name, 1);
    ew_node *node;
    EW_TRY(ew_emit(p, op, head, inputs, 3, &output, 1, &node));
    node->detail = f;
    return EDGE_OK;
}

edge_status ew_emit_chain(ew_preparer *p, const ew_chain *chain) {
    bool done = chain->eight;
    if (done) EW_TRY(ew_emit_eight(p, chain));
    else EW_TRY(ew_emit_planes(p, chain, &done));
#ifndef __wasm__ /* which would need more room for it */
    if (!done) EW_TRY(ew_emit_sparse_linear(p, chain, &done));
#endif
    if (!done) EW_TRY(emit_dense(p, chain));
    ew_keep_cost(p);
    return EDGE_OK;
}

edge_status ew_emit_matmul(ew_preparer *p, const ew_node *node, bool *done) {
    if (!ew_is(node, "MatMul")) return EDGE_OK;
    const ew_tensor *a = ew_tensor_of(p, node->inputs[0]), *b = ew_tensor_of(p, node->inputs[1]);
    if (a->dtype != EDGE_F32 || b->dtype != EDGE_F32 || a->rank < 2 || b->rank < 2) return EDGE_OK;
    ew_fused *f = ew_arena_get(&p->session->arena, sizeof *f);
    if (!f) return EDGE_NO_MEMORY;
    *f = (ew_fused){.kernel = kernel_of(p, EDGE_GEMM)};
    for (int i = 0; i < 2; i++) EW_TRY(ew_plain(p, node->inputs[i]));
    p->plain[node->outputs[0]] = true;
    ew_node *emitted;
    EW_TRY(ew_emit(p, ew_find_op(EW_FUSED_DOMAIN, "FusedMatMul", 1), node, node->inputs, 2, node->outputs, 1, &emitted));
    emitted->detail = f;
    *done = true;
    return EDGE_OK;
}
