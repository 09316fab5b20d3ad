/* Gather, GatherElements, GatherND, ArrayFeatureExtractor. */
#include "movement.h"

typedef struct gather_job {
    const ew_tensor *data, *indices;
    char *to;
    int64_t count, size, unit; /* indices, elements on the axis, bytes of a slice */
} gather_job;

static void gather_slices(void *context, int64_t begin, int64_t end) {
    const gather_job *j = context;
    int64_t at = begin % j->count;
    const char *from = (const char *)j->data->data + begin / j->count * j->size * j->unit;
    for (int64_t i = begin; i < end; i++) {
        int64_t index = ew_move_index(j->indices, at);
        ew_move_wrap(&index, j->size);
        ew_move_element(j->to + i * j->unit, from + index * j->unit, (size_t)j->unit);
        if (++at < j->count) continue;
        at = 0;
        from += j->size * j->unit;
    }
}

static edge_status check_indices(const ew_tensor *indices, int64_t count, int64_t size) {
    for (int64_t i = 0; i < count; i++) {
        int64_t index = ew_move_index(indices, i);
        if (!ew_move_wrap(&index, size)) return ew_move_bad_index(indices, i, size);
    }
    return EDGE_OK;
}

static edge_status gather_along(const ew_call *call, int axis) {
    const ew_tensor *data = ew_in(call, 0), *out = ew_out(call, 0);
    if (ew_count(out) == 0) return EDGE_OK;
    gather_job j = {.data = data, .indices = ew_in(call, 1), .to = out->data, .size = data->dims[axis]};
    j.count = ew_count(j.indices);
    j.unit = ew_span(data, axis + 1, data->rank) * (int64_t)ew_dtype_bytes(data->dtype);
    EW_TRY(check_indices(j.indices, j.count, j.size));
    ew_parallel(call, ew_span(data, 0, axis) * j.count, j.unit < 65536 ? 65536 / j.unit : 1, gather_slices, &j);
    return EDGE_OK;
}

static edge_status too_many_dims(int rank) {
    return ew_fail(EDGE_UNSUPPORTED, "the result would have rank %d, the engine has at most %d", rank, EDGE_MAX_RANK);
}

static edge_status gather_axis(const ew_call *call, int *axis) {
    return ew_axis(ew_attr_int(call->node, "axis", 0), ew_in(call, 0)->rank, axis);
}

edge_status ew_infer_gather(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    EW_TRY(ew_move_need_index(call, 1));
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1);
    int axis, rank = data->rank + indices->rank - 1, next = 0;
    EW_TRY(gather_axis(call, &axis));
    if (rank > EDGE_MAX_RANK) return too_many_dims(rank);
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < axis; i++) dims[next++] = data->dims[i];
    for (int i = 0; i < indices->rank; i++) dims[next++] = indices->dims[i];
    for (int i = axis + 1; i < data->rank; i++) dims[next++] = data->dims[i];
    return ew_shape(ew_out(call, 0), data->dtype, rank, dims);
}

edge_status ew_run_gather(ew_call *call) {
    int axis;
    EW_TRY(gather_axis(call, &axis));
    return gather_along(call, axis);
}

edge_status ew_infer_array_feature_extractor(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    EW_TRY(ew_move_need_index(call, 1));
    const ew_tensor *data = ew_in(call, 0);
    if (data->rank < 1) return ew_fail(EDGE_INVALID_MODEL, "the input is a scalar, expected rank 1 or more");
    int64_t dims[EDGE_MAX_RANK] = {1, 0};
    const int rank = data->rank > 1 ? data->rank : 2;
    for (int i = 0; i < data->rank - 1; i++) dims[i] = data->dims[i];
    dims[rank - 1] = ew_count(ew_in(call, 1));
    return ew_shape(ew_out(call, 0), data->dtype, rank, dims);
}

edge_status ew_run_array_feature_extractor(ew_call *call) { return gather_along(call, ew_in(call, 0)->rank - 1); }

edge_status ew_infer_gather_elements(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    int axis;
    EW_TRY(gather_axis(call, &axis));
    EW_TRY(ew_move_need_elements(call, axis));
    return ew_shape(ew_out(call, 0), ew_in(call, 0)->dtype, ew_in(call, 1)->rank, ew_in(call, 1)->dims);
}

edge_status ew_run_gather_elements(ew_call *call) {
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1);
    int axis;
    EW_TRY(gather_axis(call, &axis));
    const int64_t size = data->dims[axis], count = ew_count(indices);
    const size_t element = ew_dtype_bytes(data->dtype);
    char *to = ew_out(call, 0)->data;
    ew_elements e;
    ew_elements_begin(&e, data, indices, axis);
    for (int64_t i = 0; i < count; i += e.length, ew_elements_next(&e))
        for (int64_t k = i, base = e.base; k < i + e.length; k++, base += e.step) {
            int64_t index = ew_move_index(indices, k);
            if (!ew_move_wrap(&index, size)) return ew_move_bad_index(indices, k, size);
            ew_move_element(to, (const char *)data->data + (base + index * e.stride) * (int64_t)element, element);
            to += element;
        }
    return EDGE_OK;
}

static edge_status read_batch_dims(const ew_call *call, int *batch_dims) {
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1);
    int64_t given = ew_attr_int(call->node, "batch_dims", 0);
    if (data->rank < 1 || indices->rank < 1)
        return ew_fail(EDGE_INVALID_MODEL, "the inputs have ranks %d and %d, expected 1 or more", (int)data->rank,
                       (int)indices->rank);
    if (given < 0 || given >= data->rank || given >= indices->rank)
        return ew_fail(EDGE_INVALID_MODEL, "batch_dims %lld is not below the ranks %d and %d", (long long)given,
                       (int)data->rank, (int)indices->rank);
    *batch_dims = (int)given;
    for (int i = 0; i < given; i++)
        if (data->dims[i] != indices->dims[i])
            return ew_fail(EDGE_SHAPE_MISMATCH, "batch axis %d is %lld of the data and %lld of the indices", i,
                           (long long)data->dims[i], (long long)indices->dims[i]);
    return EDGE_OK;
}

edge_status ew_infer_gather_nd(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    EW_TRY(ew_move_need_index(call, 1));
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1);
    int batch_dims, next = 0;
    EW_TRY(read_batch_dims(call, &batch_dims));
    const int64_t width = indices->dims[indices->rank - 1];
    if (width < 1 || width > data->rank - batch_dims)
        return ew_fail(EDGE_INVALID_MODEL, "index tuples have %lld entries, expected 1 to %d", (long long)width,
                       (int)data->rank - batch_dims);
    const int rank = indices->rank - 1 + data->rank - batch_dims - (int)width;
    if (rank > EDGE_MAX_RANK) return too_many_dims(rank);
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < indices->rank - 1; i++) dims[next++] = indices->dims[i];
    for (int i = batch_dims + (int)width; i < data->rank; i++) dims[next++] = data->dims[i];
    return ew_shape(ew_out(call, 0), data->dtype, rank, dims);
}

edge_status ew_run_gather_nd(ew_call *call) {
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1), *out = ew_out(call, 0);
    int batch_dims;
    EW_TRY(read_batch_dims(call, &batch_dims));
    if (ew_count(out) == 0) return EDGE_OK;
    const int64_t width = indices->dims[indices->rank - 1], tuples = ew_span(indices, 0, indices->rank - 1);
    const int64_t batch_tuples = ew_span(indices, batch_dims, indices->rank - 1);
    const int64_t unit = ew_span(data, batch_dims + (int)width, data->rank) * (int64_t)ew_dtype_bytes(data->dtype);
    char *to = out->data;
    for (int64_t i = 0; i < tuples; i++, to += unit) {
        int64_t at = i / batch_tuples;
        EW_TRY(ew_move_tuple(indices, i, data, batch_dims, &at));
        ew_move_element(to, (const char *)data->data + at * unit, (size_t)unit);
    }
    return EDGE_OK;
}
