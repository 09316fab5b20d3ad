#include "onnx_stored.h"

edge_status ew_stored_bad(const ew_node *node, const char *reason) {
    return ew_fail(EDGE_INVALID_MODEL, "node '%s' (%s): %s", node->name, node->op_type, reason);
}

const edge_tensor *ew_stored_input(const ew_graph *graph, const ew_node *node, int i, edge_dtype dtype) {
    const ew_value *from = node->inputs[i] < 0 ? NULL : &graph->values[node->inputs[i]];
    return from && from->has_data && from->tensor.dtype == dtype && from->tensor.rank == 1 ? &from->tensor : NULL;
}

/* Like every shape: products of any of the dims fit, also when another one is zero. */
edge_status ew_stored_shape(const ew_node *node, size_t bits, int least_rank, edge_tensor *tensor) {
    int rank = 0;
    size_t all = 1;
    const int64_t *shape = ew_attr_ints(node, "shape", &rank);
    bool fits = rank >= least_rank && rank <= EDGE_MAX_RANK;
    for (int i = 0; fits && i < rank; i++) {
        fits = shape[i] >= 0 && (!shape[i] || ew_mul(bits, (uint64_t)shape[i], &bits)) && bits <= PTRDIFF_MAX / 2;
        tensor->shape[i] = shape[i];
        all = all && shape[i];
    }
    tensor->rank = rank;
    tensor->bytes = all ? bits / 8 + (bits % 8 != 0) : 0;
    return fits ? EDGE_OK : ew_stored_bad(node, "its shape is none");
}

edge_status ew_stored_put(ew_graph *graph, const ew_node *node, const edge_tensor *tensor) {
    ew_value *to = &graph->values[node->outputs[0]];
    if (to->has_data || to->is_input) return ew_stored_bad(node, "its output is made twice");
    to->tensor = *tensor;
    to->has_data = true;
    return EDGE_OK;
}
