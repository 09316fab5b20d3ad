#include <time.h>

#include "ops/fused.h"
#include "state.h"

static edge_status check_input(const edge_tensor_info *info, const edge_tensor *given) {
    if (given->dtype != info->dtype)
        return ew_fail(EDGE_SHAPE_MISMATCH, "input '%s' is %s, given was %s", info->name, ew_dtype_name(info->dtype),
                       ew_dtype_name(given->dtype));
    if (given->rank != info->rank)
        return ew_fail(EDGE_SHAPE_MISMATCH, "input '%s' has %d axes, given were %d", info->name, info->rank,
                       given->rank);
    size_t bytes = ew_dtype_bytes(info->dtype);
    for (int axis = 0; axis < info->rank; axis++) {
        int64_t length = given->shape[axis];
        if (length < info->min_shape[axis] || length > info->max_shape[axis])
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of input '%s' may be %lld to %lld long, given was %lld", axis,
                           info->name, (long long)info->min_shape[axis], (long long)info->max_shape[axis],
                           (long long)length);
        bytes *= (size_t)length;
    }
    if (given->bytes != bytes || (bytes && !given->data))
        return ew_fail(EDGE_INVALID_ARGUMENT, "input '%s' needs %zu bytes, given were %zu", info->name, bytes,
                       given->data ? given->bytes : 0);
    if (bytes && (uintptr_t)given->data % ew_dtype_bytes(info->dtype))
        return ew_fail(EDGE_INVALID_ARGUMENT, "the data of input '%s' is not aligned to its %zu-byte elements",
                       info->name, ew_dtype_bytes(info->dtype));
    return EDGE_OK;
}

static edge_status take_inputs(edge_session *session, const edge_tensor *inputs, size_t count) {
    if (count != (size_t)session->input_count)
        return ew_fail(EDGE_INVALID_ARGUMENT, "the session has %d inputs, given were %zu", session->input_count, count);
    for (size_t i = 0; i < count; i++) EW_TRY(check_input(&session->inputs[i], &inputs[i]));
    for (size_t i = 0; i < count; i++) {
        ew_tensor *tensor = &session->values[session->input_values[i]];
        memcpy(tensor->dims, inputs[i].shape, sizeof tensor->dims);
        tensor->data = inputs[i].data;
        tensor->capacity = inputs[i].bytes;
    }
    return EDGE_OK;
}

/* A result that is no view must fit where it was planned. */
static edge_status check_room(const ew_step *step) {
    const ew_call *call = &step->call;
    for (int i = 0; i < call->out_count; i++) {
        const ew_tensor *out = call->out[i];
        if (!out || (i == 0 && call->node->op->flags & EW_ALIAS)) continue;
        if (ew_bytes(out) > out->capacity)
            return ew_blame(call->node, ew_fail(EDGE_SHAPE_MISMATCH,
                                                "its result needs %zu bytes, more than the %zu at the largest inputs",
                                                ew_bytes(out), out->capacity));
    }
    return EDGE_OK;
}

static edge_status check_workspace(const ew_step *step) {
    if (ew_op_workspace(&step->call) <= step->workspace_bytes) return EDGE_OK;
    return ew_blame(step->call.node,
                    ew_fail(EDGE_SHAPE_MISMATCH, "it needs more working memory than at the largest inputs"));
}

static uint64_t now(void) {
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static edge_status run_timed(edge_session *session, ew_step *step) {
    uint64_t start = now();
    EW_TRY(ew_run_step(session, step));
    step->nanoseconds += now() - start;
    step->runs++;
    return EDGE_OK;
}

static edge_status run_steps(edge_session *session) {
    for (int i = 0; i < session->graph.node_count; i++) {
        ew_step *step = &session->steps[i];
        if (step->folded) continue;
        if (atomic_load_explicit(&session->cancelled, memory_order_relaxed))
            return ew_fail(EDGE_CANCELLED, "the run was cancelled");
        if (step->dynamic) {
            EW_TRY(ew_infer_step(session, step));
            EW_TRY(check_room(step));
            EW_TRY(check_workspace(step));
        }
        EW_TRY(session->profile ? run_timed(session, step) : ew_run_step(session, step));
    }
    return EDGE_OK;
}

static void give_outputs(const edge_session *session, edge_tensor *outputs) {
    for (int i = 0; i < session->output_count; i++) {
        const ew_tensor *tensor = &session->values[session->output_values[i]];
        outputs[i] = (edge_tensor){tensor->dtype, tensor->rank, {0}, tensor->data, ew_bytes(tensor)};
        memcpy(outputs[i].shape, tensor->dims, (size_t)tensor->rank * sizeof *tensor->dims);
    }
}

edge_status edge_session_run(edge_session *session, const edge_tensor *inputs, size_t input_count, edge_tensor *outputs,
                             size_t output_count) {
    if (!session || (input_count && !inputs) || (output_count && !outputs))
        return ew_fail(EDGE_INVALID_ARGUMENT, "edge_session_run was given a null pointer");
    if (output_count != (size_t)session->output_count)
        return ew_fail(EDGE_INVALID_ARGUMENT, "the session has %d outputs, room was given for %zu",
                       session->output_count, output_count);
    atomic_store(&session->cancelled, false);
    EW_TRY(take_inputs(session, inputs, input_count));
    EW_TRY(ew_states_begin(session));
    EW_TRY(run_steps(session));
    EW_TRY(ew_states_commit(session));
    give_outputs(session, outputs);
    return EDGE_OK;
}

static const ew_step *step_at(const edge_session *session, size_t index) {
    for (int i = 0; i < session->graph.node_count; i++)
        if (!session->steps[i].folded && index-- == 0) return &session->steps[i];
    return NULL;
}

size_t edge_session_step_count(const edge_session *session) {
    size_t count = 0;
    for (int i = 0; session && i < session->graph.node_count; i++) count += !session->steps[i].folded;
    return count;
}

edge_status edge_session_step(const edge_session *session, size_t index, edge_step_info *info) {
    const ew_step *step = session && info ? step_at(session, index) : NULL;
    if (!step) return ew_fail(EDGE_INVALID_ARGUMENT, "there is no step %zu", index);
    const ew_node *node = step->call.node;
    const ew_fused *fused = node->detail;
    *info = (edge_step_info){node->name, node->op_type, fused && fused->kernel ? fused->kernel->name : NULL, step->runs,
                             step->nanoseconds};
    return EDGE_OK;
}

double edge_session_step_sparse_cost(const edge_session *session, size_t index) {
    const ew_step *step = session ? step_at(session, index) : NULL;
    return step ? step->call.node->sparse_cost : 0;
}
