/* TopK. */
#include "movement.h"

static edge_status read_k(const ew_call *call, int64_t *k) {
    if (call->node->opset < 10) {
        *k = ew_attr_int(call->node, "k", -1);
    } else {
        int count;
        EW_TRY(ew_ints(call, 1, k, 1, &count));
        if (count != 1) return ew_fail(EDGE_INVALID_MODEL, "input 1 has no element, expected one");
    }
    return EDGE_OK;
}

static edge_status top_k_axis(const ew_call *call, int *axis) {
    return ew_axis(ew_attr_int(call->node, "axis", -1), ew_in(call, 0)->rank, axis);
}

edge_status ew_infer_top_k(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 0));
    const ew_tensor *in = ew_in(call, 0);
    int axis;
    EW_TRY(top_k_axis(call, &axis));
    int64_t dims[EDGE_MAX_RANK], k;
    EW_TRY(read_k(call, &k));
    if (k < 0 || k > in->dims[axis])
        return ew_fail(EDGE_INVALID_ARGUMENT, "k is %lld, axis %d allows 0 to %lld", (long long)k, axis,
                       (long long)in->dims[axis]);
    for (int i = 0; i < in->rank; i++) dims[i] = i == axis ? k : in->dims[i];
    if (ew_out(call, 0)) EW_TRY(ew_shape(ew_out(call, 0), in->dtype, in->rank, dims));
    return ew_out(call, 1) ? ew_shape(ew_out(call, 1), EDGE_S64, in->rank, dims) : EDGE_OK;
}

/* Of one row: keys of all, and a heap of the best. */
size_t ew_workspace_top_k(const ew_call *call) {
    int axis;
    if (top_k_axis(call, &axis) != EDGE_OK) return 0;
    return ew_move_workspace(ew_in(call, 0)->dims[axis], sizeof(uint64_t) + sizeof(ew_ranked));
}

static void read_keys(const ew_tensor *t, int64_t at, int64_t step, int64_t count, uint64_t flip, uint64_t *keys) {
    if (t->dtype == EDGE_F32) {
        const float *values = (const float *)t->data + at;
        for (int64_t i = 0; i < count; i++) keys[i] = ew_move_key_f32(values[i * step]) ^ flip;
    } else {
        for (int64_t i = 0; i < count; i++) keys[i] = ew_move_key(t, at + i * step) ^ flip;
    }
}

/* The k smallest keys in ascending order; of equal ones those that come first. */
static void choose(const uint64_t *keys, int64_t count, ew_ranked *best, int64_t k) {
    for (int64_t i = 0; i < k; i++) best[i] = (ew_ranked){keys[i], i};
    ew_heap_make(best, k);
    for (int64_t i = k; i < count; i++) {
        if (keys[i] >= best[0].key) continue;
        best[0] = (ew_ranked){keys[i], i};
        ew_heap_sift(best, k);
    }
    ew_heap_sort(best, k);
}

edge_status ew_run_top_k(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    ew_tensor *values = ew_out(call, 0), *indices = ew_out(call, 1);
    const ew_tensor *any = values ? values : indices;
    int axis;
    EW_TRY(top_k_axis(call, &axis));
    if (!any || ew_count(any) == 0) return EDGE_OK;
    const int64_t size = in->dims[axis], k = any->dims[axis];
    const int64_t rows = ew_span(in, 0, axis), step = ew_span(in, axis + 1, in->rank);
    const size_t element = ew_dtype_bytes(in->dtype);
    const uint64_t flip = ew_attr_int(call->node, "largest", 1) ? UINT64_MAX : 0;
    ew_ranked *best = call->workspace;
    uint64_t *keys = (uint64_t *)(best + size);
    for (int64_t row = 0; row < rows * step; row++) {
        const int64_t from = row / step * size * step + row % step, to = row / step * k * step + row % step;
        read_keys(in, from, step, size, flip, keys);
        choose(keys, size, best, k);
        for (int64_t i = 0; i < k; i++) {
            const char *chosen = (const char *)in->data + (size_t)(from + best[i].index * step) * element;
            if (values) ew_move_element((char *)values->data + (size_t)(to + i * step) * element, chosen, element);
            if (indices) ((int64_t *)indices->data)[to + i * step] = best[i].index;
        }
    }
    return EDGE_OK;
}
