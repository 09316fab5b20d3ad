/* Trilu, EyeLike. */
#include "movement.h"

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

edge_status ew_infer_trilu(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    const ew_tensor *in = ew_in(call, 0);
    if (in->rank < 2) return ew_fail(EDGE_INVALID_MODEL, "the input has rank %d, expected 2 or more", (int)in->rank);
    if (ew_in(call, 1)) {
        EW_TRY(ew_move_need_index(call, 1));
        EW_TRY(ew_move_need_one(call, 1));
    }
    return ew_same(ew_out(call, 0), in);
}

edge_status ew_run_trilu(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    if (ew_count(in) == 0) return EDGE_OK;
    const int64_t rows = in->dims[in->rank - 2], columns = in->dims[in->rank - 1];
    /* Read before anything is written: the result may lie where k lies. */
    const int64_t k = ew_in(call, 1) ? clamp(ew_move_index(ew_in(call, 1), 0), -rows, columns) : 0;
    const bool upper = ew_attr_int(call->node, "upper", 1) != 0;
    const size_t element = ew_dtype_bytes(in->dtype), row_bytes = (size_t)columns * element;
    const char *from = in->data;
    char *to = ew_out(call, 0)->data;
    for (int64_t i = 0; i < ew_count(in) / columns; i++, from += row_bytes, to += row_bytes) {
        const size_t split = (size_t)clamp(i % rows + k + !upper, 0, columns) * element;
        const size_t begin = upper ? split : 0, end = upper ? row_bytes : split;
        if (to != from) memcpy(to + begin, from + begin, end - begin);
        memset(to, 0, begin);
        memset(to + end, 0, row_bytes - end);
    }
    return EDGE_OK;
}

edge_status ew_infer_eye_like(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    const ew_tensor *in = ew_in(call, 0);
    if (in->rank != 2) return ew_fail(EDGE_INVALID_MODEL, "the input has rank %d, expected 2", (int)in->rank);
    edge_dtype dtype;
    EW_TRY(ew_move_dtype_attribute(call->node, "dtype", in->dtype, &dtype));
    return ew_shape(ew_out(call, 0), dtype, 2, in->dims);
}

edge_status ew_run_eye_like(ew_call *call) {
    ew_tensor *out = ew_out(call, 0);
    if (ew_count(out) == 0) return EDGE_OK;
    memset(out->data, 0, ew_bytes(out));
    const int64_t rows = out->dims[0], columns = out->dims[1];
    const int64_t k = clamp(ew_attr_int(call->node, "k", 0), -rows, columns);
    for (int64_t i = k < 0 ? -k : 0; i < rows && i + k < columns; i++) ew_move_put_int(out, i * columns + i + k, 1);
    return EDGE_OK;
}
