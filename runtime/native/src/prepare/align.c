/* Constants that lie in the model's file at odd places are copied when somebody reads them: weights that are packed
 * never are. */
#include "prepare.h"

static edge_status copy(const void *context, void *into) {
    const ew_tensor *tensor = context;
    memcpy(into, tensor->data, tensor->capacity);
    return EDGE_OK;
}

edge_status ew_align(edge_session *session, int value) {
    ew_tensor *t = &session->values[value];
    const void *aligned;
    if (!t->dtype || (uintptr_t)t->data % ew_dtype_bytes(t->dtype) == 0) return EDGE_OK;
    EW_TRY(ew_weights_get(session->weights, t->data, 0, t->capacity, copy, t, &aligned));
    t->data = (void *)(uintptr_t)aligned;
    return EDGE_OK;
}

edge_status ew_align_inputs(edge_session *session, const ew_node *node, bool all) {
    const ew_graph *model = session->model_graph;
    bool prepared = session->graph.nodes != model->nodes;
    bool has_packed = !all && (prepared ? (node->op->flags & EW_PACKED) != 0 : ew_is_product(node));
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] >= 0 && node->inputs[i] < model->value_count && !(has_packed && i == 1) &&
            model->values[node->inputs[i]].has_data)
            EW_TRY(ew_align(session, node->inputs[i]));
    return EDGE_OK;
}
