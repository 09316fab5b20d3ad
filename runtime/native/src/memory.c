/* Lifetimes of values, and one block of memory for all of them. */
#include "plan.h"
#include "session.h"

typedef struct planner {
    edge_session *session;
    int *root;              /* of each value: the value whose memory it uses */
    ew_interval *intervals; /* of each value; then the workspace of each step */
    int value_count, step_count;
} planner;

static edge_status allocate(planner *p, edge_session *session) {
    *p = (planner){
        .session = session, .value_count = session->graph.value_count, .step_count = session->graph.node_count};
    size_t count = (size_t)p->value_count + (size_t)p->step_count;
    p->root = ew_arena_get(&session->arena, (size_t)p->value_count * sizeof *p->root);
    p->intervals = ew_arena_get(&session->arena, count * sizeof *p->intervals);
    if (!p->root || !p->intervals) return EDGE_NO_MEMORY;
    for (int v = 0; v < p->value_count; v++) p->root[v] = v;
    for (size_t i = 0; i < count; i++) p->intervals[i] = (ew_interval){.first = 1, .last = 0};
    return EDGE_OK;
}

static void use(planner *p, int value, int step) {
    ew_interval *interval = &p->intervals[p->root[value]];
    if (interval->first > interval->last) interval->first = step;
    interval->last = step;
}

static void trace(planner *p) {
    edge_session *session = p->session;
    for (int s = 0; s < p->step_count; s++) {
        const ew_step *step = &session->steps[s];
        const ew_node *node = step->call.node;
        if (step->folded) continue;
        if (node->op->flags & EW_ALIAS && node->outputs[0] >= 0) p->root[node->outputs[0]] = p->root[node->inputs[0]];
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] >= 0) use(p, node->inputs[i], s);
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i] >= 0) use(p, node->outputs[i], s);
        if (step->workspace_bytes) p->intervals[p->value_count + s] = (ew_interval){s, s, step->workspace_bytes, 0};
    }
    for (int i = 0; i < session->graph.output_count; i++) use(p, session->graph.outputs[i], p->step_count);
}

/* Whether a value needs memory of its own: no constant, no input, no view of another one. */
static bool needs_memory(const planner *p, int value) {
    const ew_value *given = &p->session->graph.values[value];
    return p->root[value] == value && !given->is_input && !given->outside && !given->has_data &&
           p->session->values[value].known != EW_CONSTANT;
}

/* A result may take the memory of an input that nobody reads afterwards, when neither can change its size. */
static void reuse(planner *p) {
    for (int s = 0; s < p->step_count; s++) {
        const ew_step *step = &p->session->steps[s];
        const ew_node *node = step->call.node;
        if (step->folded || step->dynamic || !(node->op->flags & EW_INPLACE) || node->outputs[0] < 0) continue;
        int out = node->outputs[0];
        for (int i = 0; i < node->input_count; i++) {
            int in = node->inputs[i], owner = in < 0 ? -1 : p->root[in];
            if (owner < 0 || !needs_memory(p, owner) || p->intervals[owner].last != s) continue;
            if (ew_bytes(&p->session->values[in]) != ew_bytes(&p->session->values[out])) continue;
            p->intervals[owner].last = p->intervals[out].last;
            for (int v = 0; v < p->value_count; v++)
                if (p->root[v] == out) p->root[v] = owner;
            break;
        }
    }
}

/* Memory of an interval in the one block; watched by a sanitizer, in a block of its own, which no figure counts. */
static void *place_of(const planner *p, int interval, size_t bytes, uint8_t *block) {
#ifdef EW_WATCHED
    ew_arena *arena = &p->session->arena;
    size_t counted = arena->total_bytes, most = arena->most_bytes;
    arena->most_bytes = 0;
    void *own = ew_arena_get(arena, bytes);
    arena->total_bytes = counted;
    arena->most_bytes = most;
    (void)interval;
    return block ? own : NULL;
#else
    (void)bytes;
    return block + p->intervals[interval].offset;
#endif
}

static edge_status assign(planner *p, uint8_t *block) {
    edge_session *session = p->session;
    for (int v = 0; v < p->value_count; v++) {
        ew_tensor *tensor = &session->values[v];
        if (!needs_memory(p, v)) continue;
        tensor->capacity = p->intervals[v].bytes ? ew_bytes(tensor) : 0;
        tensor->data = place_of(p, v, tensor->capacity, block);
        if (!tensor->data) return EDGE_NO_MEMORY;
    }
    for (int v = 0; v < p->value_count; v++) {
        int owner = p->root[v];
        if (owner == v || !needs_memory(p, owner)) continue;
        session->values[v].data = session->values[owner].data;
        session->values[v].capacity = session->values[owner].capacity;
    }
    for (int s = 0; s < p->step_count; s++) {
        ew_step *step = &session->steps[s];
        if (!step->workspace_bytes) continue;
        step->call.workspace = place_of(p, p->value_count + s, step->workspace_bytes, block);
        if (!step->call.workspace) return EDGE_NO_MEMORY;
    }
    return EDGE_OK;
}

edge_status ew_place_all(edge_session *session) {
    planner p;
    EW_TRY(allocate(&p, session));
    for (int s = 0; s < p.step_count; s++) {
        ew_step *step = &session->steps[s];
        if (!step->folded) step->workspace_bytes = ew_op_workspace(&step->call);
    }
    trace(&p);
    reuse(&p);
    for (int v = 0; v < p.value_count; v++)
        if (needs_memory(&p, v) && p.intervals[v].first <= p.intervals[v].last)
            p.intervals[v].bytes = ew_bytes(&session->values[v]);
    size_t total;
    EW_TRY(ew_plan(p.intervals, p.value_count + p.step_count, &session->arena, &total));
    size_t most = session->arena.most_bytes, made = session->arena.total_bytes + ew_weights_bytes(session->weights);
    if (most && (total > most || made > most - total))
        return ew_fail(EDGE_NO_MEMORY, "the session needs %zu bytes, the budget is %zu", total + made, most);
    uint8_t *block = ew_arena_get_dirty(&session->arena, total);
    if (!block) return EDGE_NO_MEMORY;
    EW_TRY(assign(&p, block));
    for (int s = 0; s < p.step_count; s++) session->steps[s].call.planning = false;
    return EDGE_OK;
}
