/* Weights of 8 bits that the file makes f32 for a product: they stay as they are when the product takes them so. */
#include "prepare.h"

void ew_mark_late(edge_session *session) {
    const ew_graph *graph = &session->graph;
    for (int n = 0; n < graph->node_count; n++) {
        const ew_node *node = &graph->nodes[n];
        session->steps[n].late = ew_is(node, "DequantizeLinear") && node->output_count == 1 &&
                                 node->outputs[0] >= 0 && !graph->values[node->outputs[0]].is_output;
    }
    /* Only those whose every reader is a product that has them as its second operand. */
    for (int n = 0; n < graph->node_count; n++)
        for (int i = 0; i < graph->nodes[n].input_count; i++)
            for (int m = 0; m < n; m++)
                if (session->steps[m].late && graph->nodes[m].outputs[0] == graph->nodes[n].inputs[i])
                    session->steps[m].late = i == 1 && ew_is_product(&graph->nodes[n]);
}

edge_status ew_fold_late(ew_preparer *p, const ew_node *node) {
    int value = ew_is_product(node) && node->input_count > 1 ? node->inputs[1] : -1, maker = value < 0 ? -1 : p->maker[value];
    if (maker < 0 || !p->session->steps[maker].late) return EDGE_OK;
    p->session->steps[maker].late = false;
    EW_TRY(ew_infer_one(p->session, &p->session->steps[maker]));
    p->plain[value] = ew_is_constant(p, value);
    p->dequantized[value] = maker;
    return EDGE_OK;
}
