#include "subgraph.h"

#include <stdio.h>
#include <stdlib.h>

#include "graph.h"
#include "threads/threads.h"

#define MOST_INPUTS 64
#define PLACE_BYTES 256

/* Inclusive bounds of every axis of every input. */
typedef struct shapes {
    int64_t low[MOST_INPUTS][EDGE_MAX_RANK], high[MOST_INPUTS][EDGE_MAX_RANK];
} shapes;

struct ew_seat {
    ew_seat *next;
    edge_session *session;
    edge_parallel_for parallel_for;
    ew_subgraph *subgraph;
    void *host; /* of the run that is under way */
    shapes takes;
};

struct ew_subgraph {
    ew_arena arena;
    edge_model *model;
    ew_host host;
    ew_lock *lock;
    ew_seat *free; /* under the lock, as `seen` is */
    bool any_seen;
    shapes seen;
};

static const ew_graph *graph_of(const ew_subgraph *subgraph) { return &subgraph->model->graphs[0]; }

static const ew_value *input_of(const ew_subgraph *subgraph, size_t i) {
    const ew_graph *graph = graph_of(subgraph);
    return &graph->values[graph->inputs[i]];
}

size_t ew_subgraph_input_count(const ew_subgraph *subgraph) { return (size_t)graph_of(subgraph)->input_count; }

size_t ew_subgraph_output_count(const ew_subgraph *subgraph) { return (size_t)graph_of(subgraph)->output_count; }

edge_status ew_subgraph_open(const void *model, size_t bytes, const ew_host *host, ew_subgraph **result) {
    ew_arena arena;
    ew_arena_init(&arena, NULL);
    ew_subgraph *subgraph = ew_arena_get(&arena, sizeof *subgraph);
    if (!subgraph) return EDGE_NO_MEMORY;
    subgraph->arena = arena;
    subgraph->host = *host;
    edge_status status = ew_lock_make(&subgraph->arena, &subgraph->lock);
    if (status == EDGE_OK) status = edge_model_open_memory(model, bytes, NULL, &subgraph->model);
    if (status == EDGE_OK && ew_subgraph_input_count(subgraph) > MOST_INPUTS)
        status = ew_fail(EDGE_UNSUPPORTED, "the subgraph has %zu inputs; at most %d are possible",
                         ew_subgraph_input_count(subgraph), MOST_INPUTS);
    if (status == EDGE_OK) *result = subgraph;
    else ew_subgraph_free(subgraph);
    return status;
}

static void free_seat(ew_seat *seat) {
    edge_session_free(seat->session);
    free(seat);
}

void ew_subgraph_free(ew_subgraph *subgraph) {
    if (!subgraph) return;
    while (subgraph->free) {
        ew_seat *seat = subgraph->free;
        subgraph->free = seat->next;
        free_seat(seat);
    }
    edge_model_free(subgraph->model);
    ew_lock_free(subgraph->lock);
    ew_arena arena = subgraph->arena; /* the subgraph lies in its own arena */
    ew_arena_free(&arena);
}

static edge_status check(const ew_subgraph *subgraph, const edge_tensor *inputs, size_t count) {
    if (count != ew_subgraph_input_count(subgraph))
        return ew_fail(EDGE_INVALID_ARGUMENT, "the subgraph takes %zu inputs, it was given %zu",
                       ew_subgraph_input_count(subgraph), count);
    for (size_t i = 0; i < count; i++) {
        const ew_value *value = input_of(subgraph, i);
        if (inputs[i].rank != value->tensor.rank)
            return ew_fail(EDGE_SHAPE_MISMATCH, "input '%s' of the subgraph has %d dimensions, it was given %d",
                           value->name, (int)value->tensor.rank, (int)inputs[i].rank);
    }
    return EDGE_OK;
}

static void shapes_of(const edge_tensor *inputs, size_t count, shapes *result) {
    *result = (shapes){0};
    for (size_t i = 0; i < count; i++)
        for (int axis = 0; axis < inputs[i].rank; axis++)
            result->low[i][axis] = result->high[i][axis] = inputs[i].shape[axis];
}

static bool within(const shapes *inner, const shapes *outer) {
    for (size_t i = 0; i < MOST_INPUTS; i++)
        for (int axis = 0; axis < EDGE_MAX_RANK; axis++)
            if (inner->low[i][axis] < outer->low[i][axis] || inner->high[i][axis] > outer->high[i][axis]) return false;
    return true;
}

static void widen(shapes *seen, const shapes *now) {
    for (size_t i = 0; i < MOST_INPUTS; i++)
        for (int axis = 0; axis < EDGE_MAX_RANK; axis++) {
            if (now->low[i][axis] < seen->low[i][axis]) seen->low[i][axis] = now->low[i][axis];
            if (now->high[i][axis] > seen->high[i][axis]) seen->high[i][axis] = now->high[i][axis];
        }
}

/* A free seat that takes these shapes, taken out. */
static ew_seat *find(ew_subgraph *subgraph, const shapes *now, bool exactly) {
    for (ew_seat **at = &subgraph->free; *at; at = &(*at)->next) {
        ew_seat *seat = *at;
        if (!within(now, &seat->takes) || (exactly && !within(&seat->takes, now))) continue;
        *at = seat->next;
        return seat;
    }
    return NULL;
}

/* Free seats that the bounds make superfluous. */
static ew_seat *superseded(ew_subgraph *subgraph, const shapes *bounds) {
    ew_seat *old = NULL;
    for (ew_seat **at = &subgraph->free; *at;) {
        ew_seat *seat = *at;
        if (!within(&seat->takes, bounds)) {
            at = &seat->next;
            continue;
        }
        *at = seat->next;
        seat->next = old;
        old = seat;
    }
    return old;
}

static void run_on_host(void *user, size_t count, void (*task)(void *context, size_t index), void *context) {
    const ew_seat *seat = user;
    seat->subgraph->host.run(seat->host, count, task, context);
}

static edge_status open_session(ew_subgraph *subgraph, ew_seat *seat) {
    size_t inputs = ew_subgraph_input_count(subgraph), count = 0;
    char(*places)[PLACE_BYTES] = malloc((inputs * EDGE_MAX_RANK + 1) * sizeof *places);
    edge_bound *bounds = malloc((inputs * EDGE_MAX_RANK + 1) * sizeof *bounds);
    edge_status status = places && bounds ? EDGE_OK : ew_fail(EDGE_NO_MEMORY, "no memory for the bounds of %zu inputs", inputs);
    for (size_t i = 0; status == EDGE_OK && i < inputs; i++) {
        const ew_value *value = input_of(subgraph, i);
        for (int axis = 0; axis < value->tensor.rank; axis++, count++) {
            snprintf(places[count], PLACE_BYTES, "%s:%d", value->name, axis);
            bounds[count] = (edge_bound){places[count], seat->takes.low[i][axis], seat->takes.high[i][axis]};
        }
    }
    const edge_session_options options = {
        .struct_size = sizeof options,
        .threads = subgraph->host.threads,
        .parallel_for = subgraph->host.run ? &seat->parallel_for : NULL,
        .bounds = bounds,
        .bound_count = count,
    };
    if (status == EDGE_OK) status = edge_session_create(subgraph->model, &options, &seat->session);
    free(bounds);
    free(places);
    return status;
}

static edge_status make_seat(ew_subgraph *subgraph, const shapes *bounds, ew_seat **result) {
    ew_seat *seat = calloc(1, sizeof *seat);
    if (!seat) return ew_fail(EDGE_NO_MEMORY, "no memory for a session of the subgraph");
    seat->subgraph = subgraph;
    seat->takes = *bounds;
    seat->parallel_for = (edge_parallel_for){sizeof seat->parallel_for, seat, run_on_host};
    edge_status status = open_session(subgraph, seat);
    if (status == EDGE_OK) *result = seat;
    else free_seat(seat);
    return status;
}

edge_status ew_subgraph_take(ew_subgraph *subgraph, const edge_tensor *inputs, size_t count, int exactly, ew_seat **result) {
    EW_TRY(check(subgraph, inputs, count));
    shapes now, bounds;
    shapes_of(inputs, count, &now);
    ew_lock_take(subgraph->lock);
    ew_seat *seat = find(subgraph, &now, exactly), *old = NULL;
    if (!seat) {
        if (subgraph->any_seen) widen(&subgraph->seen, &now);
        else subgraph->seen = now;
        subgraph->any_seen = true;
        bounds = exactly ? now : subgraph->seen;
        old = superseded(subgraph, &subgraph->seen);
    }
    ew_lock_give(subgraph->lock);
    while (old) {
        ew_seat *next = old->next;
        free_seat(old);
        old = next;
    }
    if (!seat) EW_TRY(make_seat(subgraph, &bounds, &seat));
    *result = seat;
    return EDGE_OK;
}

void ew_subgraph_give(ew_subgraph *subgraph, ew_seat *seat) {
    ew_lock_take(subgraph->lock);
    seat->next = subgraph->free;
    subgraph->free = seat;
    ew_lock_give(subgraph->lock);
}

edge_status ew_seat_output(const ew_seat *seat, size_t index, edge_tensor_info *info) {
    return edge_session_output(seat->session, index, info);
}

edge_status ew_seat_run(ew_seat *seat, void *host, const edge_tensor *inputs, size_t input_count, edge_tensor *outputs,
                        size_t output_count) {
    seat->host = host;
    return edge_session_run(seat->session, inputs, input_count, outputs, output_count);
}
