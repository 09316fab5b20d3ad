/* Tile, Expand. */
#include "movement.h"

static edge_status read_repeats(const ew_call *call, int64_t *repeats) {
    const int rank = ew_in(call, 0)->rank;
    int count;
    EW_TRY(ew_ints(call, 1, repeats, EDGE_MAX_RANK, &count));
    if (count != rank) return ew_fail(EDGE_INVALID_MODEL, "there are %d repeats of an input of rank %d", count, rank);
    return EDGE_OK;
}

edge_status ew_infer_tile(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    const ew_tensor *in = ew_in(call, 0);
    int64_t repeats[EDGE_MAX_RANK], dims[EDGE_MAX_RANK];
    EW_TRY(read_repeats(call, repeats));
    for (int i = 0; i < in->rank; i++)
        if (repeats[i] < 0 || __builtin_mul_overflow(in->dims[i], repeats[i], &dims[i]))
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of size %lld cannot be repeated %lld times", i,
                           (long long)in->dims[i], (long long)repeats[i]);
    return ew_shape(ew_out(call, 0), in->dtype, in->rank, dims);
}

edge_status ew_run_tile(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    ew_tensor *out = ew_out(call, 0);
    if (ew_count(out) == 0) return EDGE_OK;
    int64_t from[EDGE_MAX_RANK], to[EDGE_MAX_RANK];
    ew_move_dense(in, from);
    ew_move_dense(out, to);
    ew_strided layout = {.rank = 2 * in->rank};
    for (int i = 0; i < in->rank; i++) {
        layout.dims[2 * i] = out->dims[i] / in->dims[i];
        layout.to[2 * i] = in->dims[i] * to[i];
        layout.dims[2 * i + 1] = in->dims[i];
        layout.from[2 * i + 1] = from[i];
        layout.to[2 * i + 1] = to[i];
    }
    ew_move_strided(call, &layout, ew_dtype_bytes(in->dtype), in->data, out->data);
    return EDGE_OK;
}

edge_status ew_infer_expand(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    const ew_tensor *in = ew_in(call, 0);
    int64_t dims[EDGE_MAX_RANK];
    int rank;
    EW_TRY(ew_ints(call, 1, dims, EDGE_MAX_RANK, &rank));
    for (; rank < in->rank; rank++) {
        memmove(dims + 1, dims, (size_t)rank * sizeof *dims);
        dims[0] = 1;
    }
    for (int i = 0; i < in->rank; i++) {
        int64_t *wanted = &dims[rank - in->rank + i];
        if (*wanted == 1) *wanted = in->dims[i];
        if (in->dims[i] != 1 && in->dims[i] != *wanted)
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of size %lld cannot be expanded to %lld", i,
                           (long long)in->dims[i], (long long)*wanted);
    }
    return ew_shape(ew_out(call, 0), in->dtype, rank, dims);
}

edge_status ew_run_expand(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    ew_tensor *out = ew_out(call, 0);
    int64_t strides[EDGE_MAX_RANK];
    ew_move_dense(in, strides);
    ew_strided layout = {.rank = out->rank};
    ew_move_dense(out, layout.to);
    for (int i = 0; i < out->rank; i++) {
        int own = i - (out->rank - in->rank);
        layout.dims[i] = out->dims[i];
        layout.from[i] = own >= 0 && in->dims[own] != 1 ? strides[own] : 0;
    }
    ew_move_strided(call, &layout, ew_dtype_bytes(in->dtype), in->data, out->data);
    return EDGE_OK;
}
