/* Indices into a tensor, as GatherElements and ScatterElements, GatherND and ScatterND use them. */
#include "movement.h"

edge_status ew_move_bad_index(const ew_tensor *t, int64_t i, int64_t size) {
    return ew_fail(EDGE_INVALID_ARGUMENT, "index %lld at position %lld is not in [%lld, %lld)",
                   (long long)ew_move_index(t, i), (long long)i, (long long)-size, (long long)size);
}

edge_status ew_move_need_elements(const ew_call *call, int axis) {
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1);
    EW_TRY(ew_move_need_index(call, 1));
    if (indices->rank != data->rank)
        return ew_fail(EDGE_INVALID_MODEL, "the indices have rank %d, the data rank %d", (int)indices->rank,
                       (int)data->rank);
    for (int i = 0; i < data->rank; i++)
        if (i != axis && indices->dims[i] > data->dims[i])
            return ew_fail(EDGE_SHAPE_MISMATCH, "the indices have %lld on axis %d, the data only %lld",
                           (long long)indices->dims[i], i, (long long)data->dims[i]);
    return EDGE_OK;
}

void ew_elements_begin(ew_elements *e, const ew_tensor *data, const ew_tensor *indices, int axis) {
    *e = (ew_elements){.outer = indices->rank - 1};
    int64_t stride = 1;
    for (int i = e->outer; i >= 0; i--) {
        e->dims[i] = indices->dims[i];
        e->strides[i] = i == axis ? 0 : stride;
        if (i == axis) e->stride = stride;
        stride = (int64_t)((uint64_t)stride * (uint64_t)data->dims[i]);
    }
    e->length = e->dims[e->outer];
    e->step = e->strides[e->outer];
}

void ew_elements_next(ew_elements *e) {
    for (int i = e->outer - 1; i >= 0; i--) {
        e->base += e->strides[i];
        if (++e->position[i] < e->dims[i]) return;
        e->base -= e->dims[i] * e->strides[i];
        e->position[i] = 0;
    }
}

edge_status ew_move_tuple(const ew_tensor *indices, int64_t i, const ew_tensor *data, int first, int64_t *at) {
    const int64_t width = indices->dims[indices->rank - 1];
    for (int64_t k = 0; k < width; k++) {
        const int64_t size = data->dims[first + k];
        int64_t index = ew_move_index(indices, i * width + k);
        if (!ew_move_wrap(&index, size)) return ew_move_bad_index(indices, i * width + k, size);
        *at = *at * size + index;
    }
    return EDGE_OK;
}
