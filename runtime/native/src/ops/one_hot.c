/* OneHot. */
#include "movement.h"

static edge_status one_hot_axis(const ew_call *call, int *axis) {
    return ew_axis(ew_attr_int(call->node, "axis", -1), ew_in(call, 0)->rank + 1, axis);
}

edge_status ew_infer_one_hot(ew_call *call) {
    EW_TRY(ew_move_need(call, 3, 1));
    const ew_tensor *indices = ew_in(call, 0), *depth = ew_in(call, 1), *values = ew_in(call, 2);
    EW_TRY(ew_move_need_one(call, 1));
    if (values->rank != 1 || values->dims[0] != 2)
        return ew_fail(EDGE_INVALID_MODEL, "values must be two numbers: off and on");
    if (indices->rank >= EDGE_MAX_RANK)
        return ew_fail(EDGE_UNSUPPORTED, "the indices have rank %d, the engine has at most %d for a result",
                       (int)indices->rank, EDGE_MAX_RANK);
    if (!ew_known(call, depth))
        return ew_fail(EDGE_UNSUPPORTED, "the shape of the result depends on the value of input 1; fix that input "
                                         "when the session is made");
    int axis;
    EW_TRY(one_hot_axis(call, &axis));
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i <= indices->rank; i++)
        dims[i] = i == axis ? ew_get_int(depth, 0) : indices->dims[i - (i > axis)];
    return ew_shape(ew_out(call, 0), values->dtype, indices->rank + 1, dims);
}

edge_status ew_run_one_hot(ew_call *call) {
    const ew_tensor *indices = ew_in(call, 0), *values = ew_in(call, 2), *out = ew_out(call, 0);
    int axis;
    EW_TRY(one_hot_axis(call, &axis));
    if (ew_count(out) == 0) return EDGE_OK;
    const size_t element = ew_dtype_bytes(values->dtype);
    const char *on = (const char *)values->data + element;
    ew_move_fill(out->data, ew_count(out), element, values->data);
    const int64_t depth = out->dims[axis], inner = ew_span(out, axis + 1, out->rank), count = ew_count(indices);
    for (int64_t i = 0; i < count; i++) {
        int64_t index = ew_get_int(indices, i);
        if (index < 0 && call->node->opset < 11) continue;
        if (!ew_move_wrap(&index, depth)) continue;
        const int64_t at = (i / inner * depth + index) * inner + i % inner;
        ew_move_element((char *)out->data + (size_t)at * element, on, element);
    }
    return EDGE_OK;
}
