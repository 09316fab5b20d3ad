#include "session.h"

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
    const ew_op *op = step->call.node->op;
    if (op->workspace(&step->call) <= step->workspace_bytes) return EDGE_OK;
    return ew_blame(step->call.node,
                    ew_fail(EDGE_SHAPE_MISMATCH, "it needs more working memory than at the largest inputs"));
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
        EW_TRY(ew_run_step(session, step));
    }
    return EDGE_OK;
}

static void give_outputs(const edge_session *session, edge_tensor *outputs) {
    for (int i = 0; i < session->graph.output_count; i++) {
        const ew_tensor *tensor = &session->values[session->graph.outputs[i]];
        outputs[i] = (edge_tensor){tensor->dtype, tensor->rank, {0}, tensor->data, ew_bytes(tensor)};
        memcpy(outputs[i].shape, tensor->dims, (size_t)tensor->rank * sizeof *tensor->dims);
    }
}

edge_status edge_session_run(edge_session *session, const edge_tensor *inputs, size_t input_count, edge_tensor *outputs,
                             size_t output_count) {
    if (!session || (input_count && !inputs) || (output_count && !outputs))
        return ew_fail(EDGE_INVALID_ARGUMENT, "edge_session_run was given a null pointer");
    if (output_count != (size_t)session->graph.output_count)
        return ew_fail(EDGE_INVALID_ARGUMENT, "the session has %d outputs, room was given for %zu",
                       session->graph.output_count, output_count);
    atomic_store(&session->cancelled, false);
    EW_TRY(take_inputs(session, inputs, input_count));
    EW_TRY(run_steps(session));
    give_outputs(session, outputs);
    return EDGE_OK;
}
