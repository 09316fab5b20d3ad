/* Weights that the file changes for a product stay as they are when the product takes them so: small ones that it makes
 * f32 or bytes, and matrices that it transposes, as words are that a model both reads and writes. */
#include "prepare.h"

/* The constant that a node of this type reads first, NULL: there is none. */
static const edge_tensor *constant_of(const ew_graph *graph, const ew_node *node, const char *type) {
    if (!ew_is(node, type) || node->input_count < 1 || node->inputs[0] < 0) return NULL;
    const ew_value *from = &graph->values[node->inputs[0]];
    return from->has_data ? &from->tensor : NULL;
}

static bool is_turned_matrix(const ew_graph *graph, const ew_node *node) {
    int count = 0;
    const edge_tensor *from = constant_of(graph, node, "Transpose");
    const int64_t *order = ew_attr_ints(node, "perm", &count);
    return from && from->dtype == EDGE_F32 && from->rank == 2 && (count != 2 || order[0] == 1);
}

/* Small weights of a product of integers, which ONNX has of bytes alone. */
static bool is_widening(const ew_graph *graph, const ew_node *node) {
    const edge_tensor *from = constant_of(graph, node, "Cast");
    return from && ew_is_small(from->dtype) && ew_attr_int(node, "to", 0) == EDGE_S8;
}

static bool takes(const ew_node *reader, const ew_node *late) {
    if (ew_is(late, "Cast")) return ew_is(reader, "MatMulInteger") || ew_is(reader, "ConvInteger");
    return ew_is_product(reader);
}

void ew_mark_late(edge_session *session) {
    const ew_graph *graph = &session->graph;
    for (int n = 0; n < graph->node_count; n++) {
        const ew_node *node = &graph->nodes[n];
        bool may = ew_is(node, "DequantizeLinear") || is_turned_matrix(graph, node) || is_widening(graph, node);
        session->steps[n].late = may && node->output_count == 1 && node->outputs[0] >= 0 &&
                                 !graph->values[node->outputs[0]].is_output;
    }
    /* Only those whose every reader is a product that has them as its second operand. */
    for (int n = 0; n < graph->node_count; n++)
        for (int i = 0; i < graph->nodes[n].input_count; i++)
            for (int m = 0; m < n; m++)
                if (session->steps[m].late && graph->nodes[m].outputs[0] == graph->nodes[n].inputs[i])
                    session->steps[m].late = i == 1 && takes(&graph->nodes[n], &graph->nodes[m]);
}

/* x Transpose(weights) as a product with weights that are turned. */
static edge_status turn(ew_preparer *p, ew_node *node, int weights) {
    int *inputs = ew_arena_get(&p->session->arena, 2 * sizeof *inputs);
    if (!inputs) return EDGE_NO_MEMORY;
    inputs[0] = node->inputs[0];
    inputs[1] = weights;
    node->inputs = inputs;
    return ew_set_int(p, node, "transB", 1);
}

edge_status ew_turn_weights(ew_preparer *p, ew_graph *graph) {
    size_t bytes = (size_t)graph->node_count * sizeof *graph->nodes;
    ew_node *nodes = ew_arena_get(&p->session->arena, bytes);
    if (!nodes) return EDGE_NO_MEMORY;
    memcpy(nodes, graph->nodes, bytes);
    graph->nodes = nodes;
    for (int m = 0; m < graph->node_count; m++) {
        if (!p->session->steps[m].late || !ew_is(&nodes[m], "Transpose")) continue;
        for (int n = m + 1; n < graph->node_count; n++)
            if (ew_is(&nodes[n], "MatMul") && nodes[n].inputs[1] == nodes[m].outputs[0] &&
                ew_is_plain_product(p, &nodes[n], ew_tensor_of(p, nodes[m].inputs[0])) &&
                ew_tensor_of(p, nodes[n].inputs[0])->dtype == EDGE_F32)
                EW_TRY(turn(p, &nodes[n], nodes[m].inputs[0]));
    }
    return EDGE_OK;
}

edge_status ew_fold_late(ew_preparer *p, const ew_node *node) {
    int value = node->input_count > 1 ? node->inputs[1] : -1, maker = value < 0 ? -1 : p->maker[value];
    if (maker < 0 || !p->session->steps[maker].late) return EDGE_OK;
    p->session->steps[maker].late = false;
    EW_TRY(ew_infer_one(p->session, &p->session->steps[maker]));
    p->plain[value] = ew_is_constant(p, value);
    p->dequantized[value] = maker;
    return EDGE_OK;
}
