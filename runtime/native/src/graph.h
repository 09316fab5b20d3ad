/* The graph as it was read: immutable, shared by sessions. */
#ifndef EW_GRAPH_H
#define EW_GRAPH_H

#include "bundle.h"
#include "weights.h"

typedef struct ew_op ew_op;

typedef struct ew_attribute {
    const char *name;
    enum {
        EW_ATTR_FLOAT = 1,
        EW_ATTR_INT = 2,
        EW_ATTR_STRING = 3,
        EW_ATTR_TENSOR = 4,
        EW_ATTR_FLOATS = 6,
        EW_ATTR_INTS = 7,
        EW_ATTR_STRINGS = 8,
        EW_ATTR_OTHER = 0
    } type;
    float f;
    int64_t i;
    const char *s; /* zero-terminated */
    size_t count;  /* of floats, ints or strings */
    const float *floats;
    const int64_t *ints;
    const char *const *strings;
    edge_tensor tensor;
} ew_attribute;

typedef struct ew_node {
    const ew_op *op;
    const char *name, *op_type, *domain;
    int opset; /* version of the domain that the model imports */
    int input_count, output_count;
    const int *inputs, *outputs; /* indices of values; -1: absent */
    int attribute_count;
    const ew_attribute *attributes;
    const void *detail; /* of the engine's own operators (prepare/) */
    double sparse_cost; /* edge_session_step_sparse_cost */
} ew_node;

typedef struct ew_value {
    const char *name;
    bool is_input, is_output, has_data;
    bool outside; /* its memory is given before each run */
    edge_tensor tensor; /* of an initializer: data; of an input: dtype and shape, -1 where a dimension is open */
    const char *dimension[EDGE_MAX_RANK]; /* names of open dimensions, NULL: none */
} ew_value;

typedef struct ew_graph {
    int value_count, node_count, input_count, output_count;
    ew_value *values;
    ew_node *nodes;
    int *inputs, *outputs; /* indices of values, graph order; initializers are no inputs */
} ew_graph;

/* A file beside the model's, with constants. */
typedef struct ew_outside {
    const char *name;
    ew_blob bytes;
    struct ew_outside *next;
} ew_outside;

/* archive, the files of the entries and outside are what this model holds open; constants point into them. */
struct edge_model {
    ew_arena arena;
    ew_blob archive;
    ew_bundle bundle; /* of a bare ONNX file one entry alone */
    ew_graph *graphs; /* one an entry */
    ew_outside *outside;
    ew_store *store; /* while the model is opened; NULL: it has no other files */
    ew_weights weights; /* what sessions share */
};

/* NULL when the node has no such attribute. */
const ew_attribute *ew_attr(const ew_node *node, const char *name);
int64_t ew_attr_int(const ew_node *node, const char *name, int64_t otherwise);
float ew_attr_float(const ew_node *node, const char *name, float otherwise);
const char *ew_attr_string(const ew_node *node, const char *name, const char *otherwise);
/* *count is -1 when the node has no such attribute. */
const int64_t *ew_attr_ints(const ew_node *node, const char *name, int *count);

/* Reads the ModelProto of an entry into its graph; onnx.c. */
edge_status ew_read_onnx(edge_model *model, int entry);
/* The file of whose constants weights are packed. */
const ew_blob *ew_weights_file(const edge_model *model);
/* Bytes of a file beside the model's, held open until the model is freed; outside.c. */
edge_status ew_outside_get(edge_model *model, const char *name, uint64_t offset, uint64_t bytes, const uint8_t **data);

#endif
