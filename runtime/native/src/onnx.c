/* ModelProto, GraphProto, NodeProto and ValueInfoProto: field numbers are those of onnx.proto, IR version 14. */
#include "onnx.h"

#include <stdio.h>

#include "names.h"
#include "op.h"

enum { MODEL_GRAPH = 7, MODEL_OPSET = 8 };
enum { OPSET_DOMAIN = 1, OPSET_VERSION = 2 };
enum { GRAPH_NODE = 1, GRAPH_INITIALIZER = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12, GRAPH_SPARSE = 15 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_NAME = 3, NODE_TYPE = 4, NODE_ATTRIBUTE = 5, NODE_DOMAIN = 7 };
enum {
    INFO_NAME = 1,
    INFO_TYPE = 2,
    TYPE_TENSOR = 1,
    TENSOR_DTYPE = 1,
    TENSOR_SHAPE = 2,
    SHAPE_DIM = 1,
    DIM_VALUE = 1,
    DIM_NAME = 2
};
#define MOST_OPSETS 16

typedef struct reader {
    edge_model *model;
    ew_graph *graph;
    ew_arena *arena;
    ew_names names;
    struct {
        const char *domain;
        int version;
    } opsets[MOST_OPSETS];
    int opset_count;
    int refused; /* nodes whose operator is not here */
    char report[3072];
    size_t report_length;
} reader;

static edge_status read_opset(reader *r, ew_proto proto) {
    if (r->opset_count == MOST_OPSETS)
        return ew_fail(EDGE_UNSUPPORTED, "the model imports more than %d operator sets", MOST_OPSETS);
    const char *domain = "";
    uint64_t version = 0;
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.number == OPSET_DOMAIN && field.wire == EW_BYTES)
            EW_TRY(ew_proto_string(field.bytes, r->arena, &domain));
        if (field.number == OPSET_VERSION) version = field.value;
    }
    if (version > 10000) return ew_fail(EDGE_INVALID_MODEL, "operator set '%s' has no sensible version", domain);
    r->opsets[r->opset_count].domain = strcmp(domain, "ai.onnx") == 0 ? "" : domain;
    r->opsets[r->opset_count++].version = (int)version;
    return EDGE_OK;
}

static int opset_of(const reader *r, const char *domain) {
    for (int i = 0; i < r->opset_count; i++)
        if (strcmp(r->opsets[i].domain, domain) == 0) return r->opsets[i].version;
    return 0;
}

static ew_value *value_named(reader *r, const char *name) {
    int *index = ew_names_at(&r->names, name);
    if (*index < 0) {
        *index = r->graph->value_count++;
        r->graph->values[*index].name = name;
    }
    return &r->graph->values[*index];
}

static edge_status read_dim(reader *r, ew_proto proto, ew_value *value) {
    edge_tensor *tensor = &value->tensor;
    if (tensor->rank == EDGE_MAX_RANK)
        return ew_fail(EDGE_UNSUPPORTED, "'%s' has more than %d axes", value->name, EDGE_MAX_RANK);
    int axis = tensor->rank++;
    tensor->shape[axis] = -1;
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) return EDGE_OK;
        if (field.number == DIM_VALUE) {
            if (field.value > INT64_MAX)
                return ew_fail(EDGE_INVALID_MODEL, "'%s' has a negative dimension", value->name);
            tensor->shape[axis] = (int64_t)field.value;
        }
        if (field.number == DIM_NAME && field.wire == EW_BYTES)
            EW_TRY(ew_proto_string(field.bytes, r->arena, &value->dimension[axis]));
    }
}

static edge_status read_tensor_type(reader *r, ew_proto proto, ew_value *value) {
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) return EDGE_OK;
        if (field.number == TENSOR_DTYPE) {
            if (field.value > 64 || !ew_dtype_bytes((edge_dtype)field.value))
                return ew_fail(EDGE_UNSUPPORTED, "'%s' has ONNX dtype %llu, which the engine does not have",
                               value->name, (unsigned long long)field.value);
            value->tensor.dtype = (edge_dtype)field.value;
        }
        if (field.number != TENSOR_SHAPE || field.wire != EW_BYTES) continue;
        ew_proto shape = field.bytes;
        for (;;) {
            EW_TRY(ew_proto_next(&shape, &field, &more));
            if (!more) break;
            if (field.number == SHAPE_DIM && field.wire == EW_BYTES) EW_TRY(read_dim(r, field.bytes, value));
        }
    }
}

static edge_status read_info(reader *r, ew_proto proto, bool is_input) {
    const char *name = NULL;
    ew_proto type = {0}, tensor = {0};
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.number == INFO_NAME && field.wire == EW_BYTES) EW_TRY(ew_proto_string(field.bytes, r->arena, &name));
        if (field.number == INFO_TYPE && field.wire == EW_BYTES) type = field.bytes;
    }
    if (!name || !*name) return ew_fail(EDGE_INVALID_MODEL, "an input or output of the graph has no name");
    ew_value *value = value_named(r, name);
    if (is_input ? value->is_input : value->is_output) return ew_fail(EDGE_INVALID_MODEL, "'%s' is listed twice", name);
    *(is_input ? &value->is_input : &value->is_output) = true;
    if (!is_input) {
        r->graph->outputs[r->graph->output_count++] = (int)(value - r->graph->values);
        return EDGE_OK;
    }
    for (;;) {
        EW_TRY(ew_proto_next(&type, &field, &more));
        if (!more) break;
        if (field.number == TYPE_TENSOR && field.wire == EW_BYTES) tensor = field.bytes;
    }
    if (value->has_data) return EDGE_OK;
    if (!tensor.at) return ew_fail(EDGE_UNSUPPORTED, "input '%s' is no tensor", name);
    r->graph->inputs[r->graph->input_count++] = (int)(value - r->graph->values);
    EW_TRY(read_tensor_type(r, tensor, value));
    return value->tensor.dtype ? EDGE_OK : ew_fail(EDGE_INVALID_MODEL, "input '%s' has no dtype", name);
}

static edge_status read_initializer(reader *r, ew_proto proto) {
    edge_tensor tensor;
    const char *name = NULL;
    EW_TRY(ew_read_tensor(proto, r->model, &tensor, &name));
    if (!name || !*name) return ew_fail(EDGE_INVALID_MODEL, "a constant has no name");
    ew_value *value = value_named(r, name);
    if (value->has_data) return ew_fail(EDGE_INVALID_MODEL, "constant '%s' is there twice", name);
    value->tensor = tensor;
    value->has_data = true;
    return EDGE_OK;
}

typedef struct counts {
    size_t nodes, inputs, outputs, values;
} counts;

static edge_status count_fields(ew_proto proto, uint32_t first, uint32_t second, size_t *count) {
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) return EDGE_OK;
        *count += field.number == first || field.number == second;
    }
}

static edge_status count_graph(ew_proto proto, counts *found) {
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) return EDGE_OK;
        if (field.wire != EW_BYTES) continue;
        switch (field.number) {
        case GRAPH_NODE:
            found->nodes++;
            EW_TRY(count_fields(field.bytes, NODE_INPUT, NODE_OUTPUT, &found->values));
            break;
        case GRAPH_INPUT: found->inputs++, found->values++; break;
        case GRAPH_OUTPUT: found->outputs++, found->values++; break;
        case GRAPH_INITIALIZER: found->values++; break;
        case GRAPH_SPARSE: return ew_fail(EDGE_UNSUPPORTED, "the model has sparse constants");
        }
    }
}

static void refuse(reader *r, const ew_node *node) {
    r->refused++;
    size_t room = sizeof r->report - r->report_length;
    int length =
        snprintf(r->report + r->report_length, room, "%s%s%s%s (version %d) at node '%s'", r->refused > 1 ? "; " : "",
                 node->domain, *node->domain ? "." : "", node->op_type, node->opset, node->name);
    if (length > 0) r->report_length += (size_t)length < room ? (size_t)length : room - 1;
}

static edge_status link_values(reader *r, ew_proto proto, uint32_t number, int count, const int **indices) {
    int *found = ew_arena_get(r->arena, (size_t)count * sizeof *found);
    if (!found) return EDGE_NO_MEMORY;
    ew_field field;
    bool more;
    for (int i = 0;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.number != number || field.wire != EW_BYTES) continue;
        found[i] = -1;
        if (ew_proto_size(field.bytes)) {
            const char *name;
            EW_TRY(ew_proto_string(field.bytes, r->arena, &name));
            found[i] = (int)(value_named(r, name) - r->graph->values);
        }
        i++;
    }
    *indices = found;
    return EDGE_OK;
}

/* What reads a node that stands for a constant, NULL: it is an operator. */
static ew_constant_reader *reader_of(const ew_node *node) {
    static const struct {
        const char *type;
        ew_constant_reader *read;
    } READERS[] = {{"UnpackInt3", ew_read_int3}, {"UnpackSparse", ew_read_sparse}};
    if (strcmp(node->domain, "edgewright") != 0 || node->opset < 1 || node->opset > 2) return NULL;
    for (size_t i = 0; i < sizeof READERS / sizeof *READERS; i++)
        if (strcmp(node->op_type, READERS[i].type) == 0) return READERS[i].read;
    return NULL;
}

static edge_status read_node(reader *r, ew_proto whole, ew_node *node) {
    size_t attributes = 0, used = 0;
    *node = (ew_node){.name = "", .op_type = "", .domain = ""};
    EW_TRY(count_fields(whole, NODE_ATTRIBUTE, NODE_ATTRIBUTE, &attributes));
    ew_attribute *list = ew_arena_get(r->arena, attributes * sizeof *list);
    if (!list) return EDGE_NO_MEMORY;
    ew_proto proto = whole;
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.wire != EW_BYTES) continue;
        switch (field.number) {
        case NODE_INPUT: node->input_count++; break;
        case NODE_OUTPUT: node->output_count++; break;
        case NODE_NAME: EW_TRY(ew_proto_string(field.bytes, r->arena, &node->name)); break;
        case NODE_TYPE: EW_TRY(ew_proto_string(field.bytes, r->arena, &node->op_type)); break;
        case NODE_DOMAIN: EW_TRY(ew_proto_string(field.bytes, r->arena, &node->domain)); break;
        case NODE_ATTRIBUTE: EW_TRY(ew_read_attribute(field.bytes, r->model, &list[used++])); break;
        }
    }
    node->attributes = list;
    node->attribute_count = (int)used;
    if (strcmp(node->domain, "ai.onnx") == 0) node->domain = "";
    EW_TRY(link_values(r, whole, NODE_INPUT, node->input_count, &node->inputs));
    EW_TRY(link_values(r, whole, NODE_OUTPUT, node->output_count, &node->outputs));
    node->opset = opset_of(r, node->domain);
    node->op = ew_find_op(node->domain, node->op_type, node->opset);
    if (node->op && node->op->flags & EW_INTERNAL) node->op = NULL;
    if (!node->op && !reader_of(node)) refuse(r, node);
    return EDGE_OK;
}

/* Into the graph's nodes, unless it stands for a constant. */
static edge_status add_node(reader *r, ew_proto proto) {
    ew_node *node = &r->graph->nodes[r->graph->node_count];
    EW_TRY(read_node(r, proto, node));
    ew_constant_reader *read = reader_of(node);
    if (read) return read(r->graph, node, r->arena);
    r->graph->node_count++;
    return EDGE_OK;
}

static edge_status allocate_graph(reader *r, const counts *found) {
    ew_graph *graph = r->graph;
    if (found->values > INT32_MAX / 4) return ew_fail(EDGE_INVALID_MODEL, "the model has too many values");
    graph->values = ew_arena_get(r->arena, found->values * sizeof *graph->values);
    graph->nodes = ew_arena_get(r->arena, found->nodes * sizeof *graph->nodes);
    graph->inputs = ew_arena_get(r->arena, found->inputs * sizeof *graph->inputs);
    graph->outputs = ew_arena_get(r->arena, found->outputs * sizeof *graph->outputs);
    if (!graph->values || !graph->nodes || !graph->inputs || !graph->outputs) return EDGE_NO_MEMORY;
    return ew_names_init(&r->names, r->arena, found->values);
}

/* One kind of message of the graph; constants come before inputs, because an input that has one is none. */
static edge_status read_kind(reader *r, ew_proto proto, uint32_t number) {
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) return EDGE_OK;
        if (field.number != number || field.wire != EW_BYTES) continue;
        switch (number) {
        case GRAPH_INITIALIZER: EW_TRY(read_initializer(r, field.bytes)); break;
        case GRAPH_INPUT: EW_TRY(read_info(r, field.bytes, true)); break;
        case GRAPH_NODE: EW_TRY(add_node(r, field.bytes)); break;
        case GRAPH_OUTPUT: EW_TRY(read_info(r, field.bytes, false)); break;
        }
    }
}

/* Every value is made once, before it is read. */
static edge_status check_order(const ew_graph *graph, ew_arena *arena) {
    bool *made = ew_arena_get(arena, (size_t)graph->value_count * sizeof *made);
    if (!made) return EDGE_NO_MEMORY;
    for (int v = 0; v < graph->value_count; v++) made[v] = graph->values[v].is_input || graph->values[v].has_data;
    for (int n = 0; n < graph->node_count; n++) {
        const ew_node *node = &graph->nodes[n];
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] >= 0 && !made[node->inputs[i]])
                return ew_fail(EDGE_INVALID_MODEL, "node '%s' (%s) reads '%s' before anything makes it", node->name,
                               node->op_type, graph->values[node->inputs[i]].name);
        for (int i = 0; i < node->output_count; i++) {
            if (node->outputs[i] < 0) continue;
            if (made[node->outputs[i]])
                return ew_fail(EDGE_INVALID_MODEL, "value '%s' is made twice", graph->values[node->outputs[i]].name);
            made[node->outputs[i]] = true;
        }
    }
    for (int i = 0; i < graph->output_count; i++)
        if (!made[graph->outputs[i]])
            return ew_fail(EDGE_INVALID_MODEL, "nothing makes output '%s'", graph->values[graph->outputs[i]].name);
    return EDGE_OK;
}

static edge_status read_model(reader *r, ew_proto proto, ew_proto *graph) {
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.wire != EW_BYTES) continue;
        if (field.number == MODEL_GRAPH) *graph = field.bytes;
        if (field.number == MODEL_OPSET) EW_TRY(read_opset(r, field.bytes));
    }
    return graph->at ? EDGE_OK : ew_fail(EDGE_INVALID_MODEL, "the file is no ONNX model: it has no graph");
}

static edge_status read_graph(reader *r, ew_proto graph) {
    static const uint32_t ORDER[] = {GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_NODE, GRAPH_OUTPUT};
    counts found = {0};
    EW_TRY(count_graph(graph, &found));
    EW_TRY(allocate_graph(r, &found));
    for (size_t i = 0; i < sizeof ORDER / sizeof *ORDER; i++) EW_TRY(read_kind(r, graph, ORDER[i]));
    if (r->refused)
        return ew_fail(EDGE_UNSUPPORTED, "%d node%s operators that this engine does not have: %s", r->refused,
                       r->refused > 1 ? "s need" : " needs", r->report);
    return check_order(r->graph, r->arena);
}

edge_status ew_read_onnx(edge_model *model, int entry) {
    const ew_blob *file = &model->bundle.entries[entry].file;
    ew_proto proto = {file->data, file->data + file->bytes}, graph = {0};
    reader *r = ew_arena_get(&model->arena, sizeof *r);
    if (!r) return EDGE_NO_MEMORY;
    r->model = model;
    r->graph = &model->graphs[entry];
    r->arena = &model->arena;
    EW_TRY(read_model(r, proto, &graph));
    return read_graph(r, graph);
}
