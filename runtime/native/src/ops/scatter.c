/* Scatter, ScatterElements, ScatterND, TensorScatter. */
#include "movement.h"

typedef enum reduction { REDUCE_NONE, REDUCE_ADD, REDUCE_MUL, REDUCE_MAX, REDUCE_MIN } reduction;

static edge_status read_reduction(const ew_call *call, reduction *r) {
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    const char *given = ew_attr_string(call->node, "reduction", "none");
    for (int i = 0; i < 5; i++) {
        if (strcmp(given, names[i]) != 0) continue;
        *r = (reduction)i;
        return EDGE_OK;
    }
    return ew_fail(EDGE_INVALID_MODEL, "reduction \"%s\" is not none, add, mul, max or min", given);
}

static float reduce_f32(reduction r, float a, float b) {
    switch (r) {
    case REDUCE_ADD: return a + b;
    case REDUCE_MUL: return a * b;
    case REDUCE_MAX: return a > b || a != a ? a : b;
    case REDUCE_MIN: return a < b || a != a ? a : b;
    default: return b;
    }
}

static double reduce_f64(reduction r, double a, double b) {
    switch (r) {
    case REDUCE_ADD: return a + b;
    case REDUCE_MUL: return a * b;
    case REDUCE_MAX: return a > b || a != a ? a : b;
    case REDUCE_MIN: return a < b || a != a ? a : b;
    default: return b;
    }
}

static int64_t reduce_int(reduction r, int64_t a, int64_t b, bool is_unsigned) {
    const bool below = is_unsigned ? (uint64_t)a < (uint64_t)b : a < b;
    switch (r) {
    case REDUCE_ADD: return (int64_t)((uint64_t)a + (uint64_t)b);
    case REDUCE_MUL: return (int64_t)((uint64_t)a * (uint64_t)b);
    case REDUCE_MAX: return below ? b : a;
    case REDUCE_MIN: return below ? a : b;
    default: return b;
    }
}

static void reduce_f32s(reduction r, float *to, const float *from, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = reduce_f32(r, to[i], from[i]);
}

static void reduce_any(reduction r, ew_tensor *to, int64_t at, const ew_tensor *from, int64_t begin, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        if (to->dtype == EDGE_F64)
            ew_move_put(to, at + i, reduce_f64(r, ew_get(to, at + i), ew_get(from, begin + i)));
        else if (ew_move_is_float(to->dtype))
            ew_move_put(to, at + i, reduce_f32(r, (float)ew_get(to, at + i), (float)ew_get(from, begin + i)));
        else
            ew_move_put_int(to, at + i, reduce_int(r, ew_get_int(to, at + i), ew_get_int(from, begin + i),
                                                   to->dtype == EDGE_U64));
    }
}

/* Combines count elements of from, from begin on, into those of to from at on. */
static void update(reduction r, ew_tensor *to, int64_t at, const ew_tensor *from, int64_t begin, int64_t count) {
    const int64_t element = (int64_t)ew_dtype_bytes(to->dtype);
    if (r == REDUCE_NONE)
        ew_move_element((char *)to->data + at * element, (const char *)from->data + begin * element,
                        (size_t)(count * element));
    else if (to->dtype == EDGE_F32)
        reduce_f32s(r, (float *)to->data + at, (const float *)from->data + begin, count);
    else
        reduce_any(r, to, at, from, begin, count);
}

static edge_status scatter_axis(const ew_call *call, int *axis) {
    return ew_axis(ew_attr_int(call->node, "axis", 0), ew_in(call, 0)->rank, axis);
}

static edge_status bad_updates(const ew_tensor *updates, int axis, int64_t expected) {
    return ew_fail(EDGE_SHAPE_MISMATCH, "the updates have %lld on axis %d, expected %lld",
                   (long long)updates->dims[axis], axis, (long long)expected);
}

static edge_status check_updates_rank(const ew_tensor *updates, int rank) {
    if (updates->rank == rank) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "the updates have rank %d, expected %d", (int)updates->rank, rank);
}

edge_status ew_infer_scatter_elements(ew_call *call) {
    EW_TRY(ew_move_need(call, 3, 1));
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1), *updates = ew_in(call, 2);
    int axis;
    reduction r;
    EW_TRY(scatter_axis(call, &axis));
    EW_TRY(read_reduction(call, &r));
    EW_TRY(ew_move_need_elements(call, axis));
    EW_TRY(ew_move_need_dtype(call, 2, data->dtype));
    EW_TRY(check_updates_rank(updates, indices->rank));
    for (int i = 0; i < indices->rank; i++)
        if (updates->dims[i] != indices->dims[i]) return bad_updates(updates, i, indices->dims[i]);
    return ew_same(ew_out(call, 0), data);
}

edge_status ew_run_scatter_elements(ew_call *call) {
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1), *updates = ew_in(call, 2);
    ew_tensor *out = ew_out(call, 0);
    int axis;
    reduction r;
    EW_TRY(scatter_axis(call, &axis));
    EW_TRY(read_reduction(call, &r));
    ew_move_all(call, data, out);
    const int64_t size = data->dims[axis], count = ew_count(indices);
    ew_elements e;
    ew_elements_begin(&e, data, indices, axis);
    for (int64_t i = 0; i < count; i += e.length, ew_elements_next(&e))
        for (int64_t k = i, base = e.base; k < i + e.length; k++, base += e.step) {
            int64_t index = ew_move_index(indices, k);
            if (!ew_move_wrap(&index, size)) return ew_move_bad_index(indices, k, size);
            update(r, out, base + index * e.stride, updates, k, 1);
        }
    return EDGE_OK;
}

edge_status ew_infer_scatter_nd(ew_call *call) {
    EW_TRY(ew_move_need(call, 3, 1));
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1), *updates = ew_in(call, 2);
    reduction r;
    EW_TRY(read_reduction(call, &r));
    EW_TRY(ew_move_need_index(call, 1));
    EW_TRY(ew_move_need_dtype(call, 2, data->dtype));
    if (data->rank < 1 || indices->rank < 1)
        return ew_fail(EDGE_INVALID_MODEL, "data and indices have ranks %d and %d, expected 1 or more",
                       (int)data->rank, (int)indices->rank);
    const int outer = indices->rank - 1;
    const int64_t width = indices->dims[outer];
    if (width > data->rank)
        return ew_fail(EDGE_INVALID_MODEL, "index tuples have %lld entries, the data has rank %d", (long long)width,
                       (int)data->rank);
    EW_TRY(check_updates_rank(updates, outer + data->rank - (int)width));
    for (int i = 0; i < updates->rank; i++) {
        int64_t expected = i < outer ? indices->dims[i] : data->dims[i - outer + (int)width];
        if (updates->dims[i] != expected) return bad_updates(updates, i, expected);
    }
    return ew_same(ew_out(call, 0), data);
}

edge_status ew_run_scatter_nd(ew_call *call) {
    const ew_tensor *data = ew_in(call, 0), *indices = ew_in(call, 1), *updates = ew_in(call, 2);
    ew_tensor *out = ew_out(call, 0);
    reduction r;
    EW_TRY(read_reduction(call, &r));
    ew_move_all(call, data, out);
    if (ew_count(updates) == 0) return EDGE_OK;
    const int64_t tuples = ew_span(indices, 0, indices->rank - 1);
    const int64_t unit = ew_span(data, (int)indices->dims[indices->rank - 1], data->rank);
    for (int64_t i = 0; i < tuples; i++) {
        int64_t at = 0;
        EW_TRY(ew_move_tuple(indices, i, data, 0, &at));
        update(r, out, at * unit, updates, i * unit, unit);
    }
    return EDGE_OK;
}

static edge_status read_cache(const ew_call *call, int *axis, bool *circular) {
    const char *mode = ew_attr_string(call->node, "mode", "linear");
    *circular = strcmp(mode, "circular") == 0;
    if (!*circular && strcmp(mode, "linear") != 0)
        return ew_fail(EDGE_INVALID_MODEL, "mode \"%s\" is not linear or circular", mode);
    EW_TRY(ew_axis(ew_attr_int(call->node, "axis", -2), ew_in(call, 0)->rank, axis));
    if (*axis == 0) return ew_fail(EDGE_INVALID_MODEL, "axis is the batch axis 0");
    return EDGE_OK;
}

edge_status ew_infer_tensor_scatter(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    const ew_tensor *cache = ew_in(call, 0), *updates = ew_in(call, 1), *starts = ew_in(call, 2);
    int axis;
    bool circular;
    EW_TRY(read_cache(call, &axis, &circular));
    EW_TRY(ew_move_need_dtype(call, 1, cache->dtype));
    EW_TRY(check_updates_rank(updates, cache->rank));
    for (int i = 0; i < cache->rank; i++)
        if (i == axis ? updates->dims[i] > cache->dims[i] : updates->dims[i] != cache->dims[i])
            return bad_updates(updates, i, cache->dims[i]);
    if (starts) {
        EW_TRY(ew_move_need_index(call, 2));
        if (starts->rank != 1 || starts->dims[0] != cache->dims[0])
            return ew_fail(EDGE_SHAPE_MISMATCH, "write_indices must have %lld entries, one of each batch",
                           (long long)cache->dims[0]);
    }
    return ew_same(ew_out(call, 0), cache);
}

/* Where the updates of a batch begin on the axis. */
static edge_status write_start(const ew_tensor *starts, int64_t batch, int64_t size, int64_t length, bool circular,
                               int64_t *start) {
    *start = starts ? ew_move_index(starts, batch) : 0;
    if (circular) {
        *start %= size;
        if (*start < 0) *start += size;
    } else if (*start < 0 || *start > size - length) {
        return ew_fail(EDGE_INVALID_ARGUMENT, "write index %lld of batch %lld is not in [0, %lld]", (long long)*start,
                       (long long)batch, (long long)(size - length));
    }
    return EDGE_OK;
}

edge_status ew_run_tensor_scatter(ew_call *call) {
    const ew_tensor *cache = ew_in(call, 0), *updates = ew_in(call, 1), *starts = ew_in(call, 2);
    int axis;
    bool circular;
    EW_TRY(read_cache(call, &axis, &circular));
    ew_move_all(call, cache, ew_out(call, 0));
    if (ew_count(updates) == 0) return EDGE_OK;
    const int64_t size = cache->dims[axis], length = updates->dims[axis], each = ew_span(cache, 1, axis);
    const int64_t unit = ew_span(cache, axis + 1, cache->rank) * (int64_t)ew_dtype_bytes(cache->dtype);
    const int64_t rows = ew_span(cache, 0, axis);
    for (int64_t row = 0; row < rows; row++) {
        int64_t start;
        EW_TRY(write_start(starts, row / each, size, length, circular, &start));
        char *to = (char *)ew_out(call, 0)->data + row * size * unit;
        const char *from = (const char *)updates->data + row * length * unit;
        const int64_t first = length < size - start ? length : size - start;
        memcpy(to + start * unit, from, (size_t)(first * unit));
        memcpy(to, from + first * unit, (size_t)((length - first) * unit));
    }
    return EDGE_OK;
}
