/* Slice. */
#include "movement.h"

typedef struct slices {
    int64_t begin[EDGE_MAX_RANK], step[EDGE_MAX_RANK], count[EDGE_MAX_RANK];
} slices;

static edge_status read_bounds(const ew_call *call, int input, const char *name, int64_t *values, int *count) {
    if (call->node->opset >= 10) return ew_ints(call, input, values, EDGE_MAX_RANK, count);
    const int64_t *given = ew_attr_ints(call->node, name, count);
    if (*count < 0) return ew_fail(EDGE_INVALID_MODEL, "%s are missing", name);
    if (*count > EDGE_MAX_RANK)
        return ew_fail(EDGE_INVALID_MODEL, "%s have %d entries, at most %d are allowed", name, *count, EDGE_MAX_RANK);
    for (int i = 0; i < *count; i++) values[i] = given[i];
    return EDGE_OK;
}

static edge_status read_steps(const ew_call *call, int64_t *steps, int expected) {
    int count = expected;
    for (int i = 0; i < expected; i++) steps[i] = 1;
    if (call->node->opset >= 10 && ew_in(call, 4)) EW_TRY(ew_ints(call, 4, steps, EDGE_MAX_RANK, &count));
    if (count != expected) return ew_fail(EDGE_INVALID_MODEL, "there are %d steps for %d starts", count, expected);
    for (int i = 0; i < expected; i++)
        if (steps[i] == 0) return ew_fail(EDGE_INVALID_MODEL, "step %d is 0", i);
    return EDGE_OK;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

static void resolve(slices *s, int axis, int64_t size, int64_t start, int64_t end, int64_t step) {
    if (start < 0) start += size;
    if (end < 0) end += size;
    uint64_t distance = 0, stride = step < 0 ? 0 - (uint64_t)step : (uint64_t)step;
    if (step > 0) {
        start = clamp(start, 0, size);
        end = clamp(end, 0, size);
        if (end > start) distance = (uint64_t)(end - start);
    } else if (size > 0) {
        start = clamp(start, 0, size - 1);
        end = clamp(end, -1, size - 1);
        if (start > end) distance = (uint64_t)(start - end);
    }
    s->count[axis] = distance ? (int64_t)((distance - 1) / stride) + 1 : 0;
    s->begin[axis] = start;
    s->step[axis] = s->count[axis] > 1 ? step : 1;
}

static edge_status read_slices(const ew_call *call, slices *s) {
    const ew_tensor *in = ew_in(call, 0);
    int64_t starts[EDGE_MAX_RANK], ends[EDGE_MAX_RANK], steps[EDGE_MAX_RANK];
    int axes[EDGE_MAX_RANK], count, end_count, axis_count;
    EW_TRY(read_bounds(call, 1, "starts", starts, &count));
    EW_TRY(read_bounds(call, 2, "ends", ends, &end_count));
    EW_TRY(read_steps(call, steps, count));
    EW_TRY(ew_axes(call, 3, in->rank, axes, &axis_count));
    if (axis_count < 0)
        for (axis_count = 0; axis_count < count && axis_count < in->rank; axis_count++) axes[axis_count] = axis_count;
    if (end_count != count || axis_count != count)
        return ew_fail(EDGE_INVALID_MODEL, "there are %d starts, %d ends and %d axes of an input of rank %d", count,
                       end_count, axis_count, (int)in->rank);
    for (int i = 0; i < in->rank; i++) resolve(s, i, in->dims[i], 0, in->dims[i], 1);
    for (int i = 0; i < count; i++) resolve(s, axes[i], in->dims[axes[i]], starts[i], ends[i], steps[i]);
    return EDGE_OK;
}

edge_status ew_infer_slice(ew_call *call) {
    EW_TRY(ew_move_need(call, call->node->opset < 10 ? 1 : 3, 1));
    slices s;
    EW_TRY(read_slices(call, &s));
    return ew_shape(ew_out(call, 0), ew_in(call, 0)->dtype, ew_in(call, 0)->rank, s.count);
}

edge_status ew_run_slice(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    ew_tensor *out = ew_out(call, 0);
    slices s;
    EW_TRY(read_slices(call, &s));
    if (ew_count(out) == 0) return EDGE_OK;
    int64_t strides[EDGE_MAX_RANK];
    ew_move_dense(in, strides);
    ew_strided layout = {.rank = in->rank};
    ew_move_dense(out, layout.to);
    const char *from = in->data;
    for (int i = 0; i < in->rank; i++) {
        layout.dims[i] = out->dims[i];
        layout.from[i] = s.step[i] * strides[i];
        from += s.begin[i] * strides[i];
    }
    ew_move_strided(call, &layout, ew_dtype_bytes(in->dtype), from, out->data);
    return EDGE_OK;
}
