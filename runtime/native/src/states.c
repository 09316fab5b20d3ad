/* What a session's runs do with an edge_state. */
#include "state.h"

static int value_named(const ew_graph *graph, const char *name) {
    for (int v = 0; name && v < graph->value_count; v++)
        if (strcmp(graph->values[v].name, name) == 0) return v;
    return -1;
}

static edge_status disagree(const edge_session *session, const ew_state_spec *spec, int value) {
    return ew_fail(EDGE_INVALID_MODEL, "'%s' of entry '%s' is not what the manifest says of state '%s'",
                   session->graph.values[value].name, session->entry->name, spec->input);
}

static edge_status find_slot(edge_session *session, const ew_state_spec *spec, ew_slot *slot) {
    const ew_graph *graph = &session->graph;
    *slot = (ew_slot){.spec = spec,
                      .input = value_named(graph, ew_entry_binding(session->entry, "inputs", spec->input)),
                      .output = value_named(graph, ew_entry_binding(session->entry, "outputs", spec->output))};
    if (slot->input >= 0 && (!graph->values[slot->input].is_input || graph->values[slot->input].has_data))
        return disagree(session, spec, slot->input);
    if (slot->output >= 0 && !graph->values[slot->output].is_output) return disagree(session, spec, slot->output);
    return EDGE_OK;
}

/* The largest shape of an input: what its bounds allow of the positions that there can be. */
static edge_status open_slot(edge_session *session, const edge_session_options *options, ew_slot *slot) {
    const ew_state_spec *spec = slot->spec;
    const edge_tensor *given = &session->graph.values[slot->input].tensor;
    int64_t dims[EDGE_MAX_RANK], most = spec->max_length;
    if (given->dtype != spec->dtype || given->rank != spec->rank) return disagree(session, spec, slot->input);
    memcpy(dims, spec->dims, sizeof dims);
    for (int axis = 0; axis < spec->rank; axis++)
        if (given->shape[axis] >= 0 ? given->shape[axis] != dims[axis] || axis == spec->axis : axis != spec->axis)
            return disagree(session, spec, slot->input);
    if (spec->axis >= 0) {
        EW_TRY(ew_bound_of(session, options, &session->graph.values[slot->input], spec->axis, &slot->least, &most));
        slot->most = dims[spec->axis] = most < spec->max_length ? most : spec->max_length;
    }
    ew_tensor *tensor = &session->values[slot->input];
    tensor->dynamic = spec->axis >= 0;
    return ew_shape(tensor, spec->dtype, spec->rank, dims);
}

edge_status ew_states_open(edge_session *session, const edge_session_options *options) {
    const ew_bundle *bundle = &session->model->bundle;
    session->slots = ew_arena_get(&session->arena, (size_t)bundle->state_count * sizeof *session->slots);
    if (!session->slots) return EDGE_NO_MEMORY;
    for (int i = 0; i < bundle->state_count; i++) {
        ew_slot *slot = &session->slots[session->slot_count];
        EW_TRY(find_slot(session, &bundle->states[i], slot));
        if (slot->input >= 0) EW_TRY(open_slot(session, options, slot));
        session->slot_count += slot->input >= 0 || slot->output >= 0;
    }
    return EDGE_OK;
}

bool ew_is_state(const edge_session *session, int value) {
    for (int i = 0; i < session->slot_count; i++)
        if (session->slots[i].input == value || session->slots[i].output == value) return true;
    return false;
}

edge_status ew_states_place(edge_session *session) {
    for (int i = 0; i < session->slot_count; i++) {
        ew_slot *slot = &session->slots[i];
        if (slot->appended || slot->spec->axis < 0 || slot->spec->outer == 1) continue;
        slot->dense = ew_arena_get(&session->arena, ew_bytes(&session->values[slot->input]));
        if (!slot->dense) return EDGE_NO_MEMORY;
    }
    return EDGE_OK;
}

/* Positions [begin, end) between a state, where each has its place, and a tensor that ends with the last of them. */
static void move(const ew_state_spec *spec, uint8_t *state, uint8_t *dense, int64_t length, int64_t begin, bool to_state) {
    size_t at = (size_t)begin * spec->position_bytes, run = (size_t)(length - begin) * spec->position_bytes;
    size_t state_step = (size_t)spec->max_length * spec->position_bytes, step = (size_t)length * spec->position_bytes;
    for (size_t o = 0; o < spec->outer && run; o++) {
        uint8_t *inside = state + o * state_step + at, *outside = dense + o * step + at;
        if (inside != outside) memcpy(to_state ? inside : outside, to_state ? outside : inside, run);
    }
}

edge_status ew_states_begin(edge_session *session) {
    const edge_state *state = session->state;
    if (session->slot_count && !state)
        return ew_fail(EDGE_INVALID_ARGUMENT, "entry '%s' has states: give the session one with edge_session_set_state",
                       session->entry->name);
    for (int i = 0; i < session->slot_count; i++) {
        const ew_slot *slot = &session->slots[i];
        if (slot->input < 0) continue;
        ew_tensor *tensor = &session->values[slot->input];
        tensor->data = slot->dense ? slot->dense : ew_slot_data(session, slot);
        tensor->capacity = slot->spec->bytes;
        if (slot->spec->axis < 0) continue;
        if (state->length < slot->least || state->length > slot->most)
            return ew_fail(EDGE_SHAPE_MISMATCH, "the state has %lld positions, entry '%s' goes on from %lld to %lld",
                           (long long)state->length, session->entry->name, (long long)slot->least, (long long)slot->most);
        tensor->dims[slot->spec->axis] = state->length;
        if (slot->dense) move(slot->spec, ew_slot_data(session, slot), slot->dense, state->length, 0, false);
        if (!slot->appended) continue;
        session->values[slot->output].data = ew_slot_data(session, slot);
        session->values[slot->output].capacity = slot->spec->bytes;
    }
    return EDGE_OK;
}

edge_status ew_check_growth(const ew_state_spec *spec, int64_t length, int64_t grown) {
    if (grown >= length && grown <= spec->max_length) return EDGE_OK;
    return ew_fail(EDGE_SHAPE_MISMATCH, "state '%s' has %lld of %lld positions, this run would make them %lld", spec->input,
                   (long long)length, (long long)spec->max_length, (long long)grown);
}

/* Results that the state takes over are of its shape, and all of them have grown alike. */
static edge_status check(const edge_session *session, int64_t *length) {
    bool found = false;
    for (int i = 0; i < session->slot_count; i++) {
        const ew_slot *slot = &session->slots[i];
        if (slot->output < 0) continue;
        const ew_state_spec *spec = slot->spec;
        const ew_tensor *t = &session->values[slot->output];
        if (t->dtype != spec->dtype || t->rank != spec->rank) return disagree(session, spec, slot->output);
        for (int axis = 0; axis < t->rank; axis++)
            if (axis != spec->axis && t->dims[axis] != spec->dims[axis]) return disagree(session, spec, slot->output);
        if (spec->axis < 0) continue;
        EW_TRY(ew_check_growth(spec, session->state->length, t->dims[spec->axis]));
        if (found && t->dims[spec->axis] != *length)
            return ew_fail(EDGE_INVALID_MODEL, "states grow apart: '%s' has %lld positions now, others %lld", spec->input,
                           (long long)t->dims[spec->axis], (long long)*length);
        found = true;
        *length = t->dims[spec->axis];
    }
    return EDGE_OK;
}

edge_status ew_states_commit(edge_session *session) {
    if (!session->slot_count) return EDGE_OK;
    int64_t before = session->state->length, length = before;
    EW_TRY(check(session, &length));
    for (int i = 0; i < session->slot_count; i++) {
        const ew_slot *slot = &session->slots[i];
        if (slot->output < 0 || slot->appended) continue;
        uint8_t *to = ew_slot_data(session, slot);
        void *from = session->values[slot->output].data;
        if (slot->spec->axis >= 0) move(slot->spec, to, from, length, before, true);
        else if (slot->spec->bytes) memmove(to, from, slot->spec->bytes);
    }
    session->state->length = length;
    return EDGE_OK;
}

edge_status edge_session_set_state(edge_session *session, edge_state *state) {
    if (!session) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_session_set_state needs a session");
    if (state && state->model != session->model)
        return ew_fail(EDGE_INVALID_ARGUMENT, "the state belongs to another model than the session");
    session->state = state;
    return EDGE_OK;
}
