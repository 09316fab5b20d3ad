#include "linear.h"

typedef struct unpool {
    int64_t inferred[EDGE_MAX_RANK], out[EDGE_MAX_RANK];
} unpool;

/* The shape that indices count in: that of the pool's input as far as attributes tell. */
static edge_status infer_dims(const ew_call *call, unpool *u) {
    const ew_tensor *x = ew_in(call, 0);
    ew_window w;
    EW_TRY(ew_window_read(call, x, NULL, &w));
    u->inferred[0] = x->dims[0];
    u->inferred[1] = x->dims[1];
    for (int i = 0; i < w.spatial; i++) {
        int axis = 3 - w.spatial + i;
        int64_t length = (w.in[axis] - 1) * w.stride[axis] - w.pad[axis] - w.pad_end[axis] + w.kernel[axis];
        if (length < 0 && w.in[axis] == 0) length = 0;
        if (length < 0)
            return ew_fail(EDGE_INVALID_MODEL, "spatial axis %d of the result would have length %lld", i,
                           (long long)length);
        u->inferred[2 + i] = length;
    }
    return EDGE_OK;
}

static edge_status read_unpool(const ew_call *call, unpool *u) {
    const ew_tensor *x = ew_in(call, 0);
    int count;
    EW_TRY(infer_dims(call, u));
    memcpy(u->out, u->inferred, sizeof u->out);
    if (!ew_in(call, 2)) return EDGE_OK;
    EW_TRY(ew_ints(call, 2, u->out, EDGE_MAX_RANK, &count));
    if (count != x->rank) return ew_fail(EDGE_INVALID_MODEL, "input 2 has %d values, %d are needed", count, x->rank);
    if (u->out[0] != x->dims[0] || u->out[1] != x->dims[1])
        return ew_fail(EDGE_INVALID_MODEL, "input 2 changes the first two lengths");
    return EDGE_OK;
}

edge_status ew_infer_max_unpool(ew_call *call) {
    unpool u;
    EW_TRY(ew_require(call, 2));
    const ew_tensor *x = ew_in(call, 0), *index = ew_in(call, 1);
    if (index->dtype != EDGE_S64)
        return ew_fail(EDGE_INVALID_MODEL, "input 1 is %s, it must be int64", ew_dtype_name(index->dtype));
    if (index->rank != x->rank || memcmp(index->dims, x->dims, (size_t)x->rank * sizeof *x->dims))
        return ew_fail(EDGE_SHAPE_MISMATCH, "input 1 must have the shape of input 0");
    EW_TRY(read_unpool(call, &u));
    /* Checks that positions in the inferred shape can be counted. */
    EW_TRY(ew_shape(ew_out(call, 0), x->dtype, x->rank, u.inferred));
    return ew_shape(ew_out(call, 0), x->dtype, x->rank, u.out);
}

/* Position in the output of a position in the inferred shape, -1: outside. */
static int64_t moved(const unpool *u, int rank, int64_t index) {
    int64_t at = 0, step = 1;
    for (int axis = rank - 1; axis >= 0; axis--) {
        int64_t i = index % u->inferred[axis];
        index /= u->inferred[axis];
        if (i >= u->out[axis]) return -1;
        at += i * step;
        step *= u->out[axis];
    }
    return at;
}

edge_status ew_run_max_unpool(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    const int64_t *index = ew_in(call, 1)->data;
    ew_tensor *y = ew_out(call, 0);
    size_t size = ew_dtype_bytes(x->dtype);
    int64_t count = ew_count(x), positions = 1;
    unpool u;
    EW_TRY(read_unpool(call, &u));
    for (int i = 0; i < x->rank; i++) positions *= u.inferred[i];
    if (ew_bytes(y)) memset(y->data, 0, ew_bytes(y));
    for (int64_t i = 0; i < count; i++) {
        int64_t to = index[i] >= 0 && index[i] < positions ? moved(&u, x->rank, index[i]) : -1;
        if (to < 0)
            return ew_fail(EDGE_INVALID_ARGUMENT,
                           "input 1 has the index %lld, it must be in [0, %lld) and inside of the result",
                           (long long)index[i], (long long)positions);
        memcpy((uint8_t *)y->data + (size_t)to * size, (const uint8_t *)x->data + (size_t)i * size, size);
    }
    return EDGE_OK;
}
