/* edge_state: the memory of one sequence. */
#include "state.h"

edge_status edge_state_create(edge_model *model, edge_state **result) {
    if (!model || !result)
        return ew_fail(EDGE_INVALID_ARGUMENT, "edge_state_create needs a model and a place for the state");
    if (!model->bundle.state_count) return ew_fail(EDGE_INVALID_ARGUMENT, "the bundle declares no states");
    ew_arena arena;
    ew_arena_init(&arena, &model->arena.allocator);
    edge_state *state = ew_arena_get(&arena, sizeof *state);
    uint8_t *data = state ? ew_arena_get(&arena, model->bundle.state_bytes) : NULL;
    if (!data) {
        ew_arena_free(&arena);
        return EDGE_NO_MEMORY;
    }
    *state = (edge_state){.arena = arena, .model = model, .data = data};
    *result = state;
    return EDGE_OK;
}

void edge_state_free(edge_state *state) {
    if (!state) return;
    ew_arena arena = state->arena; /* the state lies in its own arena */
    ew_arena_free(&arena);
}

/* The positions that count; a growing state has the others at their places, unused. */
static void copy(const edge_state *from, edge_state *to) {
    for (int i = 0; i < from->model->bundle.state_count; i++) {
        const ew_state_spec *spec = &from->model->bundle.states[i];
        size_t run = spec->axis < 0 ? spec->bytes : (size_t)from->length * spec->position_bytes;
        size_t step = spec->bytes / (spec->outer ? spec->outer : 1);
        for (size_t o = 0; o < (spec->axis < 0 ? 1 : spec->outer) && run; o++)
            memcpy(to->data + spec->offset + o * step, from->data + spec->offset + o * step, run);
    }
    to->length = from->length;
}

edge_status edge_state_fork(const edge_state *state, edge_state **result) {
    if (!state || !result) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_state_fork needs a state and a place for its copy");
    edge_state *made;
    EW_TRY(edge_state_create(state->model, &made));
    copy(state, made);
    *result = made;
    return EDGE_OK;
}

edge_status edge_state_reset(edge_state *state) {
    if (!state) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_state_reset needs a state");
    state->length = 0;
    for (int i = 0; i < state->model->bundle.state_count; i++) {
        const ew_state_spec *spec = &state->model->bundle.states[i];
        if (spec->axis < 0 && spec->bytes) memset(state->data + spec->offset, 0, spec->bytes);
    }
    return EDGE_OK;
}

edge_status edge_state_truncate(edge_state *state, int64_t length) {
    if (!state) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_state_truncate needs a state");
    if (length < 0 || length > state->length)
        return ew_fail(EDGE_INVALID_ARGUMENT, "the state has %lld positions, it cannot be cut to %lld",
                       (long long)state->length, (long long)length);
    for (int i = 0; i < state->model->bundle.state_count; i++)
        if (state->model->bundle.states[i].carried && length != state->length)
            return ew_fail(EDGE_UNSUPPORTED, "every run replaces state '%s', there is no way back; fork before a run",
                           state->model->bundle.states[i].input);
    state->length = length;
    return EDGE_OK;
}

int64_t edge_state_length(const edge_state *state) { return state ? state->length : 0; }

size_t edge_state_bytes(const edge_state *state) { return state ? state->arena.total_bytes : 0; }
