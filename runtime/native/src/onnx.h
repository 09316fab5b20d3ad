/* Readers of ONNX's messages. */
#ifndef EW_ONNX_H
#define EW_ONNX_H

#include "graph.h"
#include "protobuf.h"

/* A TensorProto.  data points into its file where it is raw, aligned or not, else into the arena; name may be NULL. */
edge_status ew_read_tensor(ew_proto proto, edge_model *model, edge_tensor *tensor, const char **name);
/* An AttributeProto. */
edge_status ew_read_attribute(ew_proto proto, edge_model *model, ew_attribute *attribute);

/* Whether a node stands for a constant of 3 bits; onnx_int3.c. */
bool ew_is_int3(const ew_node *node);
/* Makes the node's result that constant, so that the node is not needed. */
edge_status ew_read_int3(ew_graph *graph, const ew_node *node);

#endif
