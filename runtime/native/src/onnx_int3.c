/* Constants of 3 bits.  ONNX has none, so a file has their bits as bytes, and a node, `edgewright.UnpackInt3`, that says
 * what they stand for (runtime/BUNDLE.md).  Nobody runs it: its result is a constant in the place of those bytes. */
#include "onnx.h"

bool ew_is_int3(const ew_node *node) {
    return strcmp(node->domain, "edgewright") == 0 && strcmp(node->op_type, "UnpackInt3") == 0 && node->opset == 1;
}

static edge_status bad(const ew_node *node, const char *reason) {
    return ew_fail(EDGE_INVALID_MODEL, "node '%s' (UnpackInt3): %s", node->name, reason);
}

/* Like every shape: products of any of the dims fit, also when another one is zero. */
static bool read_shape(const ew_node *node, edge_tensor *tensor) {
    int rank = 0;
    size_t bits = 3, all = 1;
    const int64_t *shape = ew_attr_ints(node, "shape", &rank);
    if (rank < 0 || rank > EDGE_MAX_RANK) return false;
    tensor->rank = rank;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0 || (shape[i] && !ew_mul(bits, (uint64_t)shape[i], &bits)) || bits > PTRDIFF_MAX / 2)
            return false;
        tensor->shape[i] = shape[i];
        all = all && shape[i];
    }
    tensor->bytes = all ? bits / 8 + (bits % 8 != 0) : 0;
    return true;
}

edge_status ew_read_int3(ew_graph *graph, const ew_node *node) {
    if (node->input_count != 1 || node->output_count != 1 || node->inputs[0] < 0 || node->outputs[0] < 0)
        return bad(node, "it has one input and one output");
    const ew_value *from = &graph->values[node->inputs[0]];
    ew_value *to = &graph->values[node->outputs[0]];
    if (!from->has_data || from->tensor.dtype != EDGE_U8 || from->tensor.rank != 1)
        return bad(node, "its input is no constant of uint8 with one axis");
    if (to->has_data || to->is_input) return bad(node, "its output is made twice");
    edge_tensor tensor = {.dtype = (edge_dtype)EW_S3, .data = from->tensor.data};
    if (!read_shape(node, &tensor)) return bad(node, "its shape is none");
    if (tensor.bytes != from->tensor.bytes) return bad(node, "its input has another number of bytes than its shape needs");
    to->tensor = tensor;
    to->has_data = true;
    return EDGE_OK;
}
