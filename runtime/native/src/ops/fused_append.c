/* New positions behind those that a state has; the result is the state's own memory. */
#include "../state.h"
#include "fused.h"

edge_status ew_infer_fused_append(ew_call *call) {
    const ew_append_detail *d = call->node->detail;
    const ew_tensor *past = ew_in(call, 0), *added = ew_in(call, 1);
    int64_t dims[EDGE_MAX_RANK];
    if (added->rank != past->rank || added->dtype != past->dtype)
        return ew_fail(EDGE_SHAPE_MISMATCH, "new positions are of another kind than state '%s'", d->spec->input);
    memcpy(dims, past->dims, sizeof dims);
    dims[d->spec->axis] += added->dims[d->spec->axis];
    for (int axis = 0; axis < past->rank; axis++)
        if (axis != d->spec->axis && dims[axis] != added->dims[axis])
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of state '%s' is %lld long, that of new positions %lld", axis,
                           d->spec->input, (long long)dims[axis], (long long)added->dims[axis]);
    if (!call->planning) EW_TRY(ew_check_growth(d->spec, past->dims[d->spec->axis], dims[d->spec->axis]));
    return ew_shape(ew_out(call, 0), past->dtype, past->rank, dims);
}

edge_status ew_run_fused_append(ew_call *call) {
    const ew_append_detail *d = call->node->detail;
    const ew_tensor *past = ew_in(call, 0), *added = ew_in(call, 1);
    size_t bytes = d->spec->position_bytes, run = (size_t)added->dims[d->spec->axis] * bytes;
    uint8_t *to = (uint8_t *)ew_out(call, 0)->data + (size_t)past->dims[d->spec->axis] * bytes;
    for (size_t o = 0; o < d->spec->outer && run; o++)
        memcpy(to + o * (size_t)d->spec->max_length * bytes, (const uint8_t *)added->data + o * run, run);
    return EDGE_OK;
}
