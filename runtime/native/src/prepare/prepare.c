#include "prepare.h"

/* Each node of the model becomes at most one; each of its values gets at most two transposes and one other form, each
 * input at most one new constant, and a mean over pixels one. */
static void set_room(ew_preparer *p) {
    const ew_graph *from = p->from;
    int inputs = 0;
    for (int n = 0; n < from->node_count; n++) inputs += from->nodes[n].input_count + 1;
    p->value_room = 2 * from->value_count + inputs;
    p->node_room = from->node_count + 2 * from->value_count;
}

static edge_status allocate(ew_preparer *p) {
    ew_arena *arena = &p->session->arena;
    const ew_graph *from = p->from;
    size_t values = (size_t)from->value_count, nodes = (size_t)from->node_count;
    set_room(p);
    p->to = *from;
    p->to.node_count = 0;
    p->to.values = ew_arena_get(arena, (size_t)p->value_room * sizeof *p->to.values);
    p->to.nodes = ew_arena_get(arena, (size_t)p->node_room * sizeof *p->to.nodes);
    p->uses = ew_arena_get(arena, values * sizeof *p->uses);
    p->reader = ew_arena_get(arena, values * sizeof *p->reader);
    p->maker = ew_arena_get(arena, values * sizeof *p->maker);
    p->plain = ew_arena_get(arena, values * sizeof *p->plain);
    p->channels_last = ew_arena_get(arena, values * sizeof *p->channels_last);
    p->planes = ew_arena_get(arena, values * sizeof *p->planes);
    p->dequantized = ew_arena_get(arena, values * sizeof *p->dequantized);
    p->absorbed = ew_arena_get(arena, nodes * sizeof *p->absorbed);
    p->chain = ew_arena_get(arena, nodes * sizeof(ew_chain *));
    p->attention = ew_arena_get(arena, nodes * sizeof(ew_attention *));
    p->append = ew_arena_get(arena, nodes * sizeof(ew_slot *));
    bool all = p->to.values && p->to.nodes && p->uses && p->reader && p->maker && p->plain && p->channels_last &&
               p->planes && p->dequantized && p->absorbed && p->chain && p->attention && p->append;
    if (!all) return EDGE_NO_MEMORY;
    memcpy(p->to.values, from->values, values * sizeof *from->values);
    return EDGE_OK;
}

static void count_uses(ew_preparer *p) {
    const ew_graph *from = p->from;
    for (int v = 0; v < from->value_count; v++) {
        p->channels_last[v] = p->maker[v] = p->dequantized[v] = -1;
        p->plain[v] = from->values[v].is_input || from->values[v].has_data || ew_is_constant(p, v);
    }
    for (int n = 0; n < from->node_count; n++) {
        const ew_node *node = &from->nodes[n];
        if (p->session->steps[n].folded) continue;
        for (int i = 0; i < node->input_count; i++) {
            if (node->inputs[i] < 0) continue;
            p->uses[node->inputs[i]]++;
            p->reader[node->inputs[i]] = n;
        }
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i] >= 0) p->maker[node->outputs[i]] = n;
    }
    for (int i = 0; i < from->output_count; i++) p->uses[from->outputs[i]]++;
}

edge_status ew_new_value(ew_preparer *p, const ew_value *like, int *index) {
    if (p->to.value_count == p->value_room) return ew_fail(EDGE_NO_MEMORY, "the prepared graph has too many values");
    *index = p->to.value_count++;
    p->to.values[*index] = (ew_value){.name = like->name};
    return EDGE_OK;
}

edge_status ew_new_constant(ew_preparer *p, edge_dtype dtype, int rank, const int64_t *dims, int *index, void **data) {
    ew_tensor shape = {0};
    EW_TRY(ew_shape(&shape, dtype, rank, dims));
    EW_TRY(ew_new_value(p, &(ew_value){.name = ""}, index));
    ew_value *value = &p->to.values[*index];
    value->tensor = (edge_tensor){.dtype = dtype, .rank = rank, .bytes = ew_bytes(&shape)};
    memcpy(value->tensor.shape, dims, (size_t)rank * sizeof *dims);
    value->tensor.data = *data = ew_arena_get(&p->session->arena, value->tensor.bytes);
    value->has_data = true;
    return *data ? EDGE_OK : EDGE_NO_MEMORY;
}

edge_status ew_emit(ew_preparer *p, const ew_op *op, const ew_node *like, const int *inputs, int input_count,
                    const int *outputs, int output_count, ew_node **emitted) {
    if (p->to.node_count == p->node_room) return ew_fail(EDGE_NO_MEMORY, "the prepared graph has too many nodes");
    int *indices = ew_arena_get(&p->session->arena, (size_t)(input_count + output_count) * sizeof *indices);
    if (!indices) return EDGE_NO_MEMORY;
    memcpy(indices, inputs, (size_t)input_count * sizeof *inputs);
    memcpy(indices + input_count, outputs, (size_t)output_count * sizeof *outputs);
    ew_node *node = &p->to.nodes[p->to.node_count++];
    *node = *like;
    node->op = op;
    node->inputs = indices;
    node->outputs = indices + input_count;
    node->input_count = input_count;
    node->output_count = output_count;
    *emitted = node;
    return EDGE_OK;
}

edge_status ew_set_ints(ew_preparer *p, ew_node *node, const char *name, const int64_t *values, int count) {
    ew_arena *arena = &p->session->arena;
    ew_attribute *attribute = ew_arena_get(arena, sizeof *attribute);
    int64_t *copy = ew_arena_get(arena, (size_t)count * sizeof *copy);
    if (!attribute || !copy) return EDGE_NO_MEMORY;
    memcpy(copy, values, (size_t)count * sizeof *copy);
    *attribute = (ew_attribute){.name = name, .type = EW_ATTR_INTS, .count = (size_t)count, .ints = copy};
    node->attributes = attribute;
    node->attribute_count = 1;
    return EDGE_OK;
}

edge_status ew_set_int(ew_preparer *p, ew_node *node, const char *name, int64_t value) {
    ew_attribute *attribute = ew_arena_get(&p->session->arena, sizeof *attribute);
    if (!attribute) return EDGE_NO_MEMORY;
    *attribute = (ew_attribute){.name = name, .type = EW_ATTR_INT, .i = value};
    node->attributes = attribute;
    node->attribute_count = 1;
    return EDGE_OK;
}

static edge_status transpose(ew_preparer *p, int from, int to, int rank, bool channels_last) {
    static const ew_node none = {.op_type = "Transpose", .domain = "", .opset = 13};
    int64_t order[EDGE_MAX_RANK] = {0};
    for (int i = 1; i < rank; i++)
        order[i] = channels_last ? (i == rank - 1 ? 1 : i + 1) : (i == 1 ? rank - 1 : i - 1);
    ew_node like = none, *node;
    like.name = p->to.values[from].name;
    EW_TRY(ew_emit(p, ew_find_op("", "Transpose", 13), &like, &from, 1, &to, 1, &node));
    return ew_set_ints(p, node, "perm", order, rank);
}

/* Emits the node that makes a value of 8 bits. */
static edge_status dequantize(ew_preparer *p, int value, int from, int to) {
    const ew_node *node = &p->from->nodes[p->dequantized[value]];
    int inputs[3] = {from, node->inputs[1], node->input_count > 2 ? node->inputs[2] : -1};
    ew_node *emitted;
    for (int i = 1; i < 3; i++) EW_TRY(ew_plain(p, inputs[i]));
    return ew_emit(p, node->op, node, inputs, 3, &to, 1, &emitted);
}

edge_status ew_plain(ew_preparer *p, int value) {
    if (value < 0 || p->plain[value]) return EDGE_OK;
    p->plain[value] = true;
    if (p->channels_last[value] >= 0)
        return transpose(p, p->channels_last[value], value, ew_tensor_of(p, value)->rank, false);
    if (p->dequantized[value] < 0) return ew_fail(EDGE_INVALID_MODEL, "value '%s' is read before it is made", p->from->values[value].name);
    int from = p->from->nodes[p->dequantized[value]].inputs[0];
    EW_TRY(ew_plain(p, from));
    return dequantize(p, value, from, value);
}

edge_status ew_channels_last(ew_preparer *p, int value, int *index) {
    if (p->channels_last[value] >= 0) {
        *index = p->channels_last[value];
        return EDGE_OK;
    }
    int from = -1;
    if (!p->plain[value] && p->dequantized[value] >= 0)
        EW_TRY(ew_channels_last(p, p->from->nodes[p->dequantized[value]].inputs[0], &from));
    EW_TRY(ew_new_value(p, &p->from->values[value], index));
    p->channels_last[value] = *index;
    if (from >= 0) return dequantize(p, value, from, *index);
    return transpose(p, value, *index, ew_tensor_of(p, value)->rank, true);
}

int ew_sole_reader(const ew_preparer *p, int value) {
    return p->uses[value] == 1 && !p->from->values[value].is_output ? p->reader[value] : -1;
}

int ew_made_by(const ew_preparer *p, int value, const char *type) {
    int node = value >= 0 ? p->maker[value] : -1;
    if (node < 0 || p->uses[value] != 1 || p->from->values[value].is_output) return -1;
    return ew_is(&p->from->nodes[node], type) ? node : -1;
}

bool ew_scalar(const ew_preparer *p, int value, float *result) {
    if (!ew_is_constant(p, value)) return false;
    const ew_tensor *t = ew_tensor_of(p, value);
    if (t->dtype != EDGE_F32 || ew_count(t) != 1) return false;
    memcpy(result, t->data, sizeof *result);
    return true;
}

static edge_status emit_unchanged(ew_preparer *p, const ew_node *node) {
    ew_node *emitted;
    for (int i = 0; i < node->input_count; i++) EW_TRY(ew_plain(p, node->inputs[i]));
    bool planes = false;
    for (int i = 0; i < node->input_count && node->op->flags & EW_POINTWISE; i++)
        planes |= node->inputs[i] >= 0 && p->planes[node->inputs[i]];
    for (int i = 0; i < node->output_count; i++) {
        if (node->outputs[i] < 0) continue;
        p->plain[node->outputs[i]] = true;
        p->planes[node->outputs[i]] = planes;
    }
    return ew_emit(p, node->op, node, node->inputs, node->input_count, node->outputs, node->output_count, &emitted);
}

/* A chain waits for its last node: until then what it adds may not be there. */
static edge_status begin_chain(ew_preparer *p, int head) {
    const ew_node *node = &p->from->nodes[head];
    struct {
        ew_chain chain;
        ew_eight eight;
        ew_grouped grouped;
    } found, *kept;
    bool of_eight = ew_find_eight(p, head, &found.eight);
    bool grouped = !of_eight && ew_find_grouped(p, node, &found.grouped);
    if (!of_eight && !grouped) {
        EW_TRY(ew_fold_late(p, node));
        if (!ew_is_head(p, node)) return EDGE_OK;
    }
    kept = ew_arena_get(&p->session->arena, sizeof *kept);
    if (!kept) return EDGE_NO_MEMORY;
    if (of_eight) kept->eight = found.eight;
    if (grouped) kept->grouped = found.grouped;
    ew_chain *chain = &kept->chain;
    ew_chain_find(p, head, of_eight ? &kept->eight : NULL, chain, p->absorbed);
    chain->grouped = grouped ? &kept->grouped : NULL;
    p->chain[chain->last] = chain;
    p->absorbed[head] = true;
    return EDGE_OK;
}

/* Whether a value of 8 bits is made f32 only where somebody asks for that. */
static bool waits(ew_preparer *p, int n) {
    edge_grid grid;
    const ew_node *node = &p->from->nodes[n];
    if (p->session->steps[n].late) return true;
    if (!ew_is(node, "DequantizeLinear") || ew_made_of(p, node->outputs[0], &grid) < 0) return false;
    p->dequantized[node->outputs[0]] = n;
    return true;
}

static edge_status emit_node(ew_preparer *p, int n) {
    const ew_node *node = &p->from->nodes[n];
    bool done = false;
    if (p->append[n]) return ew_emit_append(p, node, p->append[n]);
    if (p->attention[n]) return ew_emit_attention(p, p->attention[n]);
    if (waits(p, n)) return EDGE_OK;
    if (!p->absorbed[n]) EW_TRY(begin_chain(p, n));
    if (p->chain[n]) return ew_emit_chain(p, p->chain[n]);
    if (p->absorbed[n]) return EDGE_OK;
    EW_TRY(ew_emit_bytes(p, node, &done));
    if (!done) EW_TRY(ew_emit_matmul(p, node, &done));
    if (!done) EW_TRY(ew_emit_rows(p, node, &done));
    if (!done) EW_TRY(ew_emit_channels_last(p, node, &done));
    return done ? EDGE_OK : emit_unchanged(p, node);
}

/* Leaves out nodes whose results nobody reads any more. */
static edge_status drop_unused(ew_preparer *p) {
    ew_graph *to = &p->to;
    ew_arena passing;
    ew_arena_init(&passing, &p->session->arena.allocator);
    bool *read = ew_arena_get(&passing, (size_t)to->value_count * sizeof *read);
    if (!read) return EDGE_NO_MEMORY;
    for (int i = 0; i < to->output_count; i++) read[to->outputs[i]] = true;
    int kept = to->node_count;
    for (int n = to->node_count - 1; n >= 0; n--) {
        const ew_node node = to->nodes[n];
        bool wanted = false;
        for (int i = 0; i < node.output_count; i++) wanted |= node.outputs[i] >= 0 && read[node.outputs[i]];
        if (!wanted) continue;
        for (int i = 0; i < node.input_count; i++)
            if (node.inputs[i] >= 0) read[node.inputs[i]] = true;
        to->nodes[--kept] = node;
    }
    to->node_count -= kept;
    memmove(to->nodes, to->nodes + kept, (size_t)to->node_count * sizeof *to->nodes);
    ew_arena_free(&passing);
    return EDGE_OK;
}

edge_status ew_prepare(edge_session *session, ew_graph *prepared) {
    ew_preparer p = {.session = session, .from = &session->graph};
    EW_TRY(ew_turn_weights(&p, &session->graph));
    EW_TRY(allocate(&p));
    count_uses(&p);
    for (int n = 0; n < p.from->node_count; n++)
        if (!session->steps[n].folded) EW_TRY(ew_find_attention(&p, n));
    ew_find_states(&p);
    for (int n = 0; n < p.from->node_count; n++)
        if (!session->steps[n].folded) EW_TRY(emit_node(&p, n));
    for (int i = 0; i < p.from->output_count; i++) EW_TRY(ew_plain(&p, p.from->outputs[i]));
    EW_TRY(drop_unused(&p));
    *prepared = p.to;
    return EDGE_OK;
}
