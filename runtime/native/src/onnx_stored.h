/* What readers of nodes that stand for constants share: onnx_int3.c, onnx_sparse.c. */
#ifndef EW_ONNX_STORED_H
#define EW_ONNX_STORED_H

#include "onnx.h"

edge_status ew_stored_bad(const ew_node *node, const char *reason);
/* A constant of the file with one axis, input i of a node; NULL: it is none, or of another dtype. */
const edge_tensor *ew_stored_input(const ew_graph *graph, const ew_node *node, int i, edge_dtype dtype);
/* The attribute shape, of numbers of so many bits: rank, dims and bytes. */
edge_status ew_stored_shape(const ew_node *node, size_t bits, int least_rank, edge_tensor *tensor);
/* Makes output 0 this constant. */
edge_status ew_stored_put(ew_graph *graph, const ew_node *node, const edge_tensor *tensor);

#endif
