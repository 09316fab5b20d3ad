/* Constants that lie in the model's file at odd places are copied when somebody reads them, and those of less than a
 * byte become bytes: weights that are packed never are. */
#include "prepare.h"

static edge_status copy(const void *context, void *into) {
    const ew_tensor *tensor = context;
    memcpy(into, tensor->data, tensor->capacity);
    return EDGE_OK;
}

/* Its own: few operators read small constants as they are, and those are small themselves. */
static edge_status widen(edge_session *session, ew_tensor *t) {
    t->capacity = (size_t)ew_count(t);
    t->data = ew_widen(&session->arena, t->dtype, t->data, t->capacity);
    t->dtype = ew_widened(t->dtype);
    return t->data ? EDGE_OK : EDGE_NO_MEMORY;
}

edge_status ew_align(edge_session *session, int value) {
    ew_tensor *t = &session->values[value];
    const void *aligned;
    if (ew_is_small(t->dtype)) return widen(session, t);
    if (!t->dtype || (uintptr_t)t->data % ew_dtype_bytes(t->dtype) == 0) return EDGE_OK;
    EW_TRY(ew_weights_get(session->weights, t->data, 0, t->capacity, copy, t, &aligned));
    t->data = (void *)(uintptr_t)aligned;
    return EDGE_OK;
}

edge_status ew_align_inputs(edge_session *session, const ew_step *step, bool all) {
    const ew_graph *model = session->model_graph;
    const ew_node *node = step->call.node;
    bool prepared = session->graph.nodes != model->nodes, is_packed = prepared && node->op->flags & EW_PACKED && !all;
    bool may_pack = is_packed || (!prepared && !all && ew_is_product(node));
    for (int i = 0; i < node->input_count; i++) {
        int value = node->inputs[i];
        if (value < 0 || value >= model->value_count || !model->values[value].has_data) continue;
        bool small = ew_is_small(session->values[value].dtype);
        if (small ? !step->late && !(is_packed && i == 1) : !(may_pack && i == 1)) EW_TRY(ew_align(session, value));
    }
    return EDGE_OK;
}
