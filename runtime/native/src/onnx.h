/* Readers of ONNX's messages. */
#ifndef EW_ONNX_H
#define EW_ONNX_H

#include "graph.h"
#include "protobuf.h"

/* A TensorProto.  data points into its file where it is raw, aligned or not, else into the arena; name may be NULL. */
edge_status ew_read_tensor(ew_proto proto, edge_model *model, edge_tensor *tensor, const char **name);
/* An AttributeProto. */
edge_status ew_read_attribute(ew_proto proto, edge_model *model, ew_attribute *attribute);

#endif
