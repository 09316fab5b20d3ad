/* Readers of ONNX's messages. */
#ifndef EW_ONNX_H
#define EW_ONNX_H

#include "graph.h"
#include "protobuf.h"

/* A TensorProto.  data points into its file where it is raw, aligned or not, else into the arena; name may be NULL. */
edge_status ew_read_tensor(ew_proto proto, edge_model *model, edge_tensor *tensor, const char **name);
/* An AttributeProto. */
edge_status ew_read_attribute(ew_proto proto, edge_model *model, ew_attribute *attribute);

/* A node that stands for a constant (runtime/BUNDLE.md): its output is that, from what its inputs are. */
typedef edge_status ew_constant_reader(ew_graph *graph, const ew_node *node, ew_arena *arena);
ew_constant_reader ew_read_int3;   /* onnx_int3.c */
ew_constant_reader ew_read_sparse; /* onnx_sparse.c */

#endif
