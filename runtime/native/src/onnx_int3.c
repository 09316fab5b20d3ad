/* Constants of 3 bits.  ONNX has none, so a file has their bits as bytes, and a node, `edgewright.UnpackInt3`, that says
 * what they stand for (runtime/BUNDLE.md).  Nobody runs it: its result is a constant in the place of those bytes. */
#include "onnx_stored.h"

edge_status ew_read_int3(ew_graph *graph, const ew_node *node, ew_arena *arena) {
    (void)arena;
    if (node->input_count != 1 || node->output_count != 1 || node->inputs[0] < 0 || node->outputs[0] < 0)
        return ew_stored_bad(node, "it has one input and one output");
    const edge_tensor *from = ew_stored_input(graph, node, 0, EDGE_U8);
    if (!from) return ew_stored_bad(node, "its input is no constant of uint8 with one axis");
    edge_tensor tensor = {.dtype = (edge_dtype)EW_S3, .data = from->data};
    EW_TRY(ew_stored_shape(node, 3, 0, &tensor));
    if (tensor.bytes != from->bytes) return ew_stored_bad(node, "its input has another number of bytes than its shape needs");
    return ew_stored_put(graph, node, &tensor);
}
