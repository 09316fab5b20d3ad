/* What is known before the first run: shapes at their largest, values that do not depend on inputs. */
#include "session.h"

#include <stdio.h>

/* A value known for the largest shapes is computed for planning when it is no larger than this. */
#define MOST_PLANNING_BYTES 4096
/* A constant result may be this much larger than the constants that it is made of; beyond, it is made in every run. */
#define MOST_GROWTH 4
#define SMALL_RESULT_BYTES ((size_t)1 << 20)

edge_status ew_blame(const ew_node *node, edge_status status) {
    if (status != EDGE_OK) ew_prefix_error("node '%s' (%s)", node->name, node->op_type);
    return status;
}

static edge_status check_dtype(const ew_call *call) {
    const ew_op *op = call->node->op;
    const ew_tensor *first = NULL;
    for (int i = 0; i < call->in_count && !first; i++) first = call->in[i];
    edge_dtype dtype = first ? first->dtype : ew_out(call, 0) ? ew_out(call, 0)->dtype : 0;
    if (!dtype || op->dtypes & EW_T(ew_widened(dtype))) return EDGE_OK;
    return ew_fail(EDGE_UNSUPPORTED, "the engine does not run it for %s", ew_dtype_name(dtype));
}

edge_status ew_infer_step(edge_session *session, ew_step *step) {
    (void)session;
    edge_status status = ew_op_infer(&step->call);
    return ew_blame(step->call.node, status);
}

edge_status ew_run_step(edge_session *session, ew_step *step) {
    (void)session;
    const ew_op *op = step->call.node->op;
    if (op->flags & EW_ALIAS) {
        step->call.out[0]->data = step->call.in[0]->data;
        return EDGE_OK;
    }
    return ew_blame(step->call.node, ew_op_run(&step->call));
}

/* A node may ask for more results than its operator has. */
static edge_status check_results(const ew_call *call) {
    for (int i = 0; i < call->out_count; i++)
        if (call->out[i] && !call->out[i]->dtype) return ew_fail(EDGE_INVALID_MODEL, "it has no output %d", i);
    return EDGE_OK;
}

/* How well the results are known when the inputs are known as they are. */
static ew_knowledge knowledge(const ew_call *call) {
    uint32_t flags = call->node->op->flags;
    ew_knowledge least = EW_CONSTANT;
    if (flags & EW_RANDOM) return EW_UNKNOWN;
    for (int i = 0; i < call->in_count; i++) {
        const ew_tensor *t = call->in[i];
        if (!t) continue;
        ew_knowledge own = flags & EW_SHAPE_ONLY ? (t->dynamic ? EW_AT_MAX : EW_CONSTANT) : t->known;
        if (own == EW_CONSTANT && t->dynamic) own = EW_AT_MAX;
        least = own < least ? own : least;
    }
    return flags & EW_BOUND && least == EW_AT_MAX ? EW_UNKNOWN : least;
}

static bool shapes_vary(const ew_call *call) {
    bool vary = call->node->op->flags & EW_BOUND;
    for (int i = 0; i < call->in_count; i++)
        if (call->in[i]) vary |= call->in[i]->dynamic || call->in[i]->known == EW_AT_MAX;
    return vary;
}

static size_t bytes_of(ew_tensor *const *tensors, int count) {
    size_t total = 0;
    for (int i = 0; i < count; i++) total += tensors[i] ? ew_bytes(tensors[i]) : 0;
    return total;
}

static bool worth_keeping(const ew_call *call, ew_knowledge known) {
    size_t results = bytes_of(call->out, call->out_count);
    if (known == EW_AT_MAX) return results <= MOST_PLANNING_BYTES;
    return results <= SMALL_RESULT_BYTES || results / MOST_GROWTH <= bytes_of(call->in, call->in_count);
}

/* Runs a step on memory of its own. */
static edge_status run_now(edge_session *session, ew_step *step) {
    ew_call *call = &step->call;
    const ew_op *op = call->node->op;
    EW_TRY(ew_align_inputs(session, step, true));
    for (int i = 0; i < call->out_count; i++) {
        ew_tensor *out = call->out[i];
        if (!out || (i == 0 && op->flags & EW_ALIAS)) continue;
        out->capacity = ew_bytes(out);
        out->data = ew_arena_get(&session->arena, out->capacity);
        if (!out->data) return EDGE_NO_MEMORY;
    }
    size_t bytes = ew_op_workspace(call);
    if (bytes && !(call->workspace = ew_arena_get(&session->arena, bytes))) return EDGE_NO_MEMORY;
    call->planning = false;
    edge_status status = ew_run_step(session, step);
    call->planning = true;
    call->workspace = NULL;
    return status;
}

edge_status ew_infer_one(edge_session *session, ew_step *step) {
    ew_call *call = &step->call;
    call->planning = true;
    EW_TRY(ew_align_inputs(session, step, false));
    EW_TRY(ew_infer_step(session, step));
    EW_TRY(ew_blame(call->node, check_dtype(call)));
    EW_TRY(ew_blame(call->node, check_results(call)));
    ew_knowledge known = knowledge(call);
    bool vary = shapes_vary(call);
    step->late &= known == EW_CONSTANT;
    if (known != EW_UNKNOWN && !step->late && worth_keeping(call, known)) {
        EW_TRY(run_now(session, step));
        step->folded = known == EW_CONSTANT;
    } else {
        known = EW_UNKNOWN;
    }
    step->dynamic = vary && !step->folded;
    for (int i = 0; i < call->out_count; i++) {
        if (!call->out[i]) continue;
        call->out[i]->known = known;
        call->out[i]->dynamic = step->dynamic;
    }
    return EDGE_OK;
}

edge_status ew_infer_all(edge_session *session) {
    for (int i = 0; i < session->graph.node_count; i++) EW_TRY(ew_infer_one(session, &session->steps[i]));
    for (int i = 0; i < session->graph.output_count; i++) EW_TRY(ew_align(session, session->graph.outputs[i]));
    return EDGE_OK;
}
