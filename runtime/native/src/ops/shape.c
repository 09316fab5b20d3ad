/* Shape, Size, and the operators that only change a shape. */
#include "movement.h"

static int clamp_axis(int64_t axis, int rank) {
    if (axis < 0) axis += rank;
    return axis < 0 ? 0 : axis > rank ? rank : (int)axis;
}

static void shape_range(const ew_call *call, int *begin, int *end) {
    int rank = ew_in(call, 0)->rank;
    *begin = clamp_axis(ew_attr_int(call->node, "start", 0), rank);
    *end = clamp_axis(ew_attr_int(call->node, "end", rank), rank);
    if (*end < *begin) *end = *begin;
}

edge_status ew_infer_shape(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    int begin, end;
    shape_range(call, &begin, &end);
    int64_t length = end - begin;
    return ew_shape(ew_out(call, 0), EDGE_S64, 1, &length);
}

edge_status ew_run_shape(ew_call *call) {
    int begin, end;
    shape_range(call, &begin, &end);
    int64_t *out = ew_out(call, 0)->data;
    for (int i = begin; i < end; i++) out[i - begin] = ew_in(call, 0)->dims[i];
    return EDGE_OK;
}

edge_status ew_infer_size(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    return ew_shape(ew_out(call, 0), EDGE_S64, 0, NULL);
}

edge_status ew_run_size(ew_call *call) {
    *(int64_t *)ew_out(call, 0)->data = ew_count(ew_in(call, 0));
    return EDGE_OK;
}

static edge_status bad_reshape(int64_t elements, int rank) {
    return ew_fail(EDGE_SHAPE_MISMATCH, "%lld elements do not fit the new shape of rank %d", (long long)elements, rank);
}

/* Replaces -1 in dims.  Copied dims stand in both shapes, so that they are left out: they may be zero. */
static edge_status fill_open_dim(const ew_tensor *in, int rank, int64_t *dims, const bool *copied) {
    int open = -1;
    int64_t given = 1, have = 1;
    for (int i = 0; i < in->rank; i++)
        if (i >= rank || !copied[i]) have *= in->dims[i];
    for (int i = 0; i < rank; i++) {
        if (dims[i] >= 0) {
            if (!copied[i] && __builtin_mul_overflow(given, dims[i], &given)) return bad_reshape(ew_count(in), rank);
        } else if (dims[i] != -1 || open >= 0) {
            return ew_fail(EDGE_INVALID_MODEL,
                           "the new shape has %lld at %d, expected one -1 at most and else 0 or more",
                           (long long)dims[i], i);
        } else {
            open = i;
        }
    }
    if (open < 0) return EDGE_OK;
    if (given == 0 || have % given) return bad_reshape(ew_count(in), rank);
    dims[open] = have / given;
    return EDGE_OK;
}

edge_status ew_infer_reshape(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    const ew_tensor *in = ew_in(call, 0);
    int64_t dims[EDGE_MAX_RANK];
    bool copied[EDGE_MAX_RANK] = {false};
    int rank;
    EW_TRY(ew_ints(call, 1, dims, EDGE_MAX_RANK, &rank));
    bool keep_zero = ew_attr_int(call->node, "allowzero", 0) != 0;
    for (int i = 0; i < rank; i++) {
        if (dims[i] != 0 || keep_zero) continue;
        if (i >= in->rank)
            return ew_fail(EDGE_INVALID_MODEL, "dim %d of the new shape is copied from an input of rank %d", i,
                           (int)in->rank);
        dims[i] = in->dims[i];
        copied[i] = true;
    }
    EW_TRY(fill_open_dim(in, rank, dims, copied));
    EW_TRY(ew_shape(ew_out(call, 0), in->dtype, rank, dims));
    return ew_count(ew_out(call, 0)) == ew_count(in) ? EDGE_OK : bad_reshape(ew_count(in), rank);
}

edge_status ew_infer_flatten(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    const ew_tensor *in = ew_in(call, 0);
    int64_t axis = ew_attr_int(call->node, "axis", 1);
    if (axis < -in->rank || axis > in->rank)
        return ew_fail(EDGE_INVALID_MODEL, "axis %lld is not in [%d, %d]", (long long)axis, -(int)in->rank,
                       (int)in->rank);
    if (axis < 0) axis += in->rank;
    int64_t dims[2] = {ew_span(in, 0, (int)axis), ew_span(in, (int)axis, in->rank)};
    return ew_shape(ew_out(call, 0), in->dtype, 2, dims);
}

edge_status ew_infer_squeeze(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    const ew_tensor *in = ew_in(call, 0);
    int axes[EDGE_MAX_RANK], count, rank = 0;
    EW_TRY(ew_axes(call, 1, in->rank, axes, &count));
    bool dropped[EDGE_MAX_RANK] = {false};
    for (int i = 0; i < count; i++) {
        dropped[axes[i]] = true;
        if (in->dims[axes[i]] != 1)
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d has size %lld, only axes of size 1 can be squeezed", axes[i],
                           (long long)in->dims[axes[i]]);
    }
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < in->rank; i++)
        if (count < 0 ? in->dims[i] != 1 : !dropped[i]) dims[rank++] = in->dims[i];
    return ew_shape(ew_out(call, 0), in->dtype, rank, dims);
}

edge_status ew_infer_unsqueeze(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    const ew_tensor *in = ew_in(call, 0);
    int axes[EDGE_MAX_RANK], added, count;
    if (ew_in(call, 1)) {
        int64_t unused[EDGE_MAX_RANK];
        EW_TRY(ew_ints(call, 1, unused, EDGE_MAX_RANK, &added));
    } else {
        ew_attr_ints(call->node, "axes", &added);
        if (added < 0) return ew_fail(EDGE_INVALID_MODEL, "axes are missing");
    }
    if (added > EDGE_MAX_RANK - in->rank)
        return ew_fail(EDGE_UNSUPPORTED, "the result would have rank %lld, the engine has at most %d",
                       (long long)in->rank + added, EDGE_MAX_RANK);
    int rank = in->rank + added;
    EW_TRY(ew_axes(call, 1, rank, axes, &count));
    int64_t dims[EDGE_MAX_RANK] = {0};
    for (int i = 0; i < count; i++) dims[axes[i]] = 1;
    for (int i = 0, next = 0; i < rank; i++)
        if (!dims[i]) dims[i] = next < in->rank ? in->dims[next++] : 1;
    return ew_shape(ew_out(call, 0), in->dtype, rank, dims);
}

edge_status ew_infer_identity(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    return ew_same(ew_out(call, 0), ew_in(call, 0));
}
