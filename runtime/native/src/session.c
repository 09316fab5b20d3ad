#include "state.h"

#include <stdio.h>
#include <stdlib.h>

/* A value that the caller fixes, else NULL. */
static const edge_fixed_input *fixed_for(const edge_session_options *options, const char *name) {
    for (size_t i = 0; i < options->fixed_input_count; i++)
        if (strcmp(options->fixed_inputs[i].name, name) == 0) return &options->fixed_inputs[i];
    return NULL;
}

static edge_status copy_fixed(edge_session *session, const ew_value *value, const edge_tensor *given,
                              ew_tensor *tensor) {
    if (given->dtype != value->tensor.dtype)
        return ew_fail(EDGE_SHAPE_MISMATCH, "input '%s' is %s, the fixed value is %s", value->name,
                       ew_dtype_name(value->tensor.dtype), ew_dtype_name(given->dtype));
    EW_TRY(ew_shape(tensor, given->dtype, given->rank, given->shape));
    if (given->bytes != ew_bytes(tensor) || (!given->data && given->bytes))
        return ew_fail(EDGE_INVALID_ARGUMENT, "the fixed value of input '%s' has %zu bytes, its shape needs %zu",
                       value->name, given->bytes, ew_bytes(tensor));
    tensor->capacity = given->bytes;
    tensor->data = ew_arena_get(&session->arena, given->bytes);
    if (!tensor->data) return EDGE_NO_MEMORY;
    if (given->bytes) memcpy(tensor->data, given->data, given->bytes);
    tensor->known = EW_CONSTANT;
    return EDGE_OK;
}

static edge_status set_bounds(const char *name, int64_t low, int64_t high, int64_t *min, int64_t *max) {
    if (low < 0 || high < low)
        return ew_fail(EDGE_INVALID_ARGUMENT, "dimension '%s' is bounded by %lld and %lld", name, (long long)low,
                       (long long)high);
    *min = low;
    *max = high;
    return EDGE_OK;
}

edge_status ew_bound_of(const edge_session *session, const edge_session_options *options, const ew_value *value, int axis,
                        int64_t *min, int64_t *max) {
    char place[256];
    snprintf(place, sizeof place, "%s:%d", value->name, axis);
    const char *name = value->dimension[axis] && *value->dimension[axis] ? value->dimension[axis] : place;
    for (size_t i = 0; i < options->bound_count; i++) {
        const edge_bound *bound = &options->bounds[i];
        if (strcmp(bound->dimension, name) == 0 || strcmp(bound->dimension, place) == 0)
            return set_bounds(name, bound->min, bound->max, min, max);
    }
    for (int i = 0; i < session->entry->bound_count; i++) {
        const ew_axis_bound *bound = &session->entry->bounds[i];
        if (bound->axis == axis && strcmp(bound->input, value->name) == 0)
            return set_bounds(name, bound->min, bound->max, min, max);
    }
    return ew_fail(EDGE_INVALID_ARGUMENT, "axis %d of input '%s' has no fixed length; give bounds for dimension '%s'",
                   axis, value->name, name);
}

/* An input that stays open: its largest shape, and what the caller sees of it. */
static edge_status open_input(edge_session *session, const edge_session_options *options, int index) {
    const ew_value *value = &session->graph.values[index];
    ew_tensor *tensor = &session->values[index];
    edge_tensor_info *info = &session->inputs[session->input_count];
    *info = (edge_tensor_info){.name = value->name, .dtype = value->tensor.dtype, .rank = value->tensor.rank};
    for (int axis = 0; axis < info->rank; axis++) {
        int64_t *min = &info->min_shape[axis], *max = &info->max_shape[axis];
        *min = *max = value->tensor.shape[axis];
        if (*max < 0) EW_TRY(ew_bound_of(session, options, value, axis, min, max));
        tensor->dynamic |= *min != *max;
    }
    session->input_values[session->input_count++] = index;
    return ew_shape(tensor, info->dtype, info->rank, info->max_shape);
}

/* Whether a name is that of an input which the caller passes or fixes. */
static bool is_open(const edge_session *session, const char *name) {
    for (int i = 0; i < session->graph.input_count; i++) {
        int index = session->graph.inputs[i];
        if (strcmp(session->graph.values[index].name, name) == 0) return !ew_is_state(session, index);
    }
    return false;
}

static edge_status set_inputs(edge_session *session, const edge_session_options *options) {
    const ew_graph *graph = &session->graph;
    for (size_t i = 0; i < options->fixed_input_count; i++)
        if (!is_open(session, options->fixed_inputs[i].name))
            return ew_fail(EDGE_INVALID_ARGUMENT, "the model has no input '%s'", options->fixed_inputs[i].name);
    for (int i = 0; i < graph->input_count; i++) {
        int index = graph->inputs[i];
        if (ew_is_state(session, index)) continue;
        const edge_fixed_input *fixed = fixed_for(options, graph->values[index].name);
        if (fixed) EW_TRY(copy_fixed(session, &graph->values[index], &fixed->value, &session->values[index]));
        else EW_TRY(open_input(session, options, index));
    }
    return EDGE_OK;
}

static void set_constants(edge_session *session, int first) {
    for (int v = first; v < session->graph.value_count; v++) {
        const ew_value *value = &session->graph.values[v];
        if (!value->has_data) continue;
        ew_tensor *tensor = &session->values[v];
        *tensor = (ew_tensor){value->tensor.dtype, value->tensor.rank, {0},  value->tensor.data,
                              value->tensor.bytes, EW_CONSTANT,        false};
        memcpy(tensor->dims, value->tensor.shape, sizeof tensor->dims);
    }
}

static edge_status link_tensors(edge_session *session, const int *indices, int count, ew_tensor ***tensors) {
    *tensors = ew_arena_get(&session->arena, (size_t)count * sizeof **tensors);
    if (!*tensors) return EDGE_NO_MEMORY;
    for (int i = 0; i < count; i++) (*tensors)[i] = indices[i] < 0 ? NULL : &session->values[indices[i]];
    return EDGE_OK;
}

static edge_status make_steps(edge_session *session) {
    for (int i = 0; i < session->graph.node_count; i++) {
        const ew_node *node = &session->graph.nodes[i];
        ew_call *call = &session->steps[i].call;
        *call =
            (ew_call){.node = node, .in_count = node->input_count, .out_count = node->output_count, .session = session};
        EW_TRY(link_tensors(session, node->inputs, node->input_count, &call->in));
        EW_TRY(link_tensors(session, node->outputs, node->output_count, &call->out));
    }
    return EDGE_OK;
}

static void describe_outputs(edge_session *session) {
    for (int i = 0; i < session->graph.output_count; i++) {
        int index = session->graph.outputs[i];
        if (ew_is_state(session, index)) continue;
        const ew_tensor *tensor = &session->values[index];
        edge_tensor_info *info = &session->outputs[session->output_count];
        session->output_values[session->output_count++] = index;
        *info = (edge_tensor_info){
            .name = session->graph.values[index].name, .dtype = tensor->dtype, .rank = tensor->rank};
        for (int axis = 0; axis < tensor->rank; axis++) {
            info->max_shape[axis] = tensor->dims[axis];
            info->min_shape[axis] = tensor->dynamic ? 0 : tensor->dims[axis];
        }
    }
}

static edge_status allocate(edge_session *session) {
    const ew_graph *graph = &session->graph;
    session->values = ew_arena_get(&session->arena, (size_t)graph->value_count * sizeof *session->values);
    session->steps = ew_arena_get(&session->arena, (size_t)graph->node_count * sizeof *session->steps);
    session->inputs = ew_arena_get(&session->arena, (size_t)graph->input_count * sizeof *session->inputs);
    session->outputs = ew_arena_get(&session->arena, (size_t)graph->output_count * sizeof *session->outputs);
    session->input_values = ew_arena_get(&session->arena, (size_t)graph->input_count * sizeof *session->input_values);
    session->output_values = ew_arena_get(&session->arena, (size_t)graph->output_count * sizeof *session->output_values);
    bool all = session->output_values && session->values && session->steps && session->inputs && session->outputs && session->input_values;
    return all ? EDGE_OK : EDGE_NO_MEMORY;
}

/* Takes the prepared graph: what is known of the values of the model stays known. */
static edge_status adopt(edge_session *session, const ew_graph *prepared) {
    const ew_tensor *known = session->values;
    int count = session->graph.value_count;
    session->values = ew_arena_get(&session->arena, (size_t)prepared->value_count * sizeof *session->values);
    session->steps = ew_arena_get(&session->arena, (size_t)prepared->node_count * sizeof *session->steps);
    if (!session->values || !session->steps) return EDGE_NO_MEMORY;
    memcpy(session->values, known, (size_t)count * sizeof *known);
    session->graph = *prepared;
    set_constants(session, count);
    EW_TRY(make_steps(session));
    return ew_infer_all(session);
}

static edge_status choose_isa(edge_session *session) {
    int isa = edge_isa_chosen();
    if (isa < 0)
        return ew_fail(EDGE_INVALID_ARGUMENT, "EDGEWRIGHT_FORCE_ISA is '%s', which this machine or this build does not have",
                       getenv("EDGEWRIGHT_FORCE_ISA"));
    session->isa = (edge_isa)isa;
    return EDGE_OK;
}

static edge_status choose_entry(edge_session *session, const char *name) {
    const ew_bundle *bundle = &session->model->bundle;
    for (int i = 0; i < bundle->entry_count; i++) {
        if (strcmp(bundle->entries[i].name, name ? name : "main") != 0) continue;
        session->entry = &bundle->entries[i];
        session->model_graph = &session->model->graphs[i];
        session->graph = *session->model_graph;
        return EDGE_OK;
    }
    char known[512] = "";
    for (int i = 0; i < bundle->entry_count; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s'%s'", i ? ", " : "", bundle->entries[i].name);
    }
    return ew_fail(EDGE_INVALID_ARGUMENT, "the bundle has no entry '%s'; it has %s", name, known);
}

static edge_status build(edge_session *session, const edge_session_options *options) {
    ew_graph prepared;
    EW_TRY(choose_entry(session, options->entry));
    session->profile = options->profile != 0;
    EW_TRY(choose_isa(session));
    EW_TRY(allocate(session));
    EW_TRY(ew_pool_make(options->threads, options->parallel_for, &session->arena, &session->pool));
    set_constants(session, 0);
    EW_TRY(ew_states_open(session, options));
    EW_TRY(set_inputs(session, options));
    EW_TRY(make_steps(session));
    ew_mark_late(session);
    EW_TRY(ew_infer_all(session));
    EW_TRY(ew_prepare(session, &prepared));
    EW_TRY(adopt(session, &prepared));
    EW_TRY(ew_states_place(session));
    EW_TRY(ew_place_all(session));
    describe_outputs(session);
    return EDGE_OK;
}

/* Members beyond the caller's struct_size are zero. */
static edge_status read_options(const edge_session_options *given, edge_session_options *options) {
    *options = (edge_session_options){0};
    if (!given) return EDGE_OK;
    EW_TRY(ew_read_struct("session's options", given, options, sizeof *options));
    if ((options->fixed_input_count && !options->fixed_inputs) || (options->bound_count && !options->bounds))
        return ew_fail(EDGE_INVALID_ARGUMENT, "the session's options count fixed inputs or bounds but point to none");
    return EDGE_OK;
}

edge_status ew_session_make(edge_model *model, const edge_session_options *given, ew_weights *weights, int packed_for,
                            edge_session **result) {
    edge_session_options options;
    EW_TRY(read_options(given, &options));
    ew_arena arena;
    ew_arena_init(&arena, &model->arena.allocator);
    arena.most_bytes = options.memory_budget_bytes;
    edge_session *session = ew_arena_get(&arena, sizeof *session);
    if (!session) return EDGE_NO_MEMORY;
    session->model = model;
    session->arena = arena;
    session->weights = weights;
    session->packed_for = packed_for;
    edge_status status = build(session, &options);
    if (status == EDGE_OK) *result = session;
    else edge_session_free(session);
    return status;
}

edge_status edge_session_create(edge_model *model, const edge_session_options *options, edge_session **session) {
    if (!model || !session)
        return ew_fail(EDGE_INVALID_ARGUMENT, "edge_session_create needs a model and a place for the session");
    return ew_session_make(model, options, &model->weights, -1, session);
}

void edge_session_free(edge_session *session) {
    if (!session) return;
    ew_pool_free(session->pool);
    ew_arena arena = session->arena; /* the session lies in its own arena */
    ew_arena_free(&arena);
}

size_t edge_session_input_count(const edge_session *session) { return session ? (size_t)session->input_count : 0; }

size_t edge_session_output_count(const edge_session *session) {
    return session ? (size_t)session->output_count : 0;
}

edge_status edge_session_input(const edge_session *session, size_t index, edge_tensor_info *info) {
    if (!session || !info || index >= (size_t)session->input_count)
        return ew_fail(EDGE_INVALID_ARGUMENT, "there is no input %zu", index);
    *info = session->inputs[index];
    return EDGE_OK;
}

edge_status edge_session_output(const edge_session *session, size_t index, edge_tensor_info *info) {
    if (!session || !info || index >= (size_t)session->output_count)
        return ew_fail(EDGE_INVALID_ARGUMENT, "there is no output %zu", index);
    *info = session->outputs[index];
    return EDGE_OK;
}

size_t edge_session_memory_bytes(const edge_session *session) { return session ? session->arena.total_bytes : 0; }

void edge_session_cancel(edge_session *session) {
    if (session) atomic_store(&session->cancelled, true);
}
