/* Range. */
#include "movement.h"

#include <math.h>

static edge_status count_real(const ew_call *call, int64_t *count) {
    const double start = ew_get(ew_in(call, 0), 0), limit = ew_get(ew_in(call, 1), 0);
    const double exact = ceil((limit - start) / ew_get(ew_in(call, 2), 0));
    if (!(exact < 4503599627370496.0))
        return ew_fail(EDGE_INVALID_ARGUMENT, "a range from %g to %g by %g has no end", start, limit,
                       ew_get(ew_in(call, 2), 0));
    *count = exact > 0 ? (int64_t)exact : 0;
    return EDGE_OK;
}

static edge_status count_integer(const ew_call *call, int64_t *count) {
    const int64_t start = ew_get_int(ew_in(call, 0), 0), limit = ew_get_int(ew_in(call, 1), 0);
    const int64_t delta = ew_get_int(ew_in(call, 2), 0);
    if (delta == 0) return ew_fail(EDGE_INVALID_ARGUMENT, "delta is 0");
    const uint64_t distance = delta > 0 ? (uint64_t)limit - (uint64_t)start : (uint64_t)start - (uint64_t)limit;
    const uint64_t step = delta > 0 ? (uint64_t)delta : 0 - (uint64_t)delta;
    const bool empty = delta > 0 ? limit <= start : limit >= start;
    const uint64_t exact = empty ? 0 : (distance - 1) / step + 1;
    if (exact > INT64_MAX)
        return ew_fail(EDGE_INVALID_ARGUMENT, "a range from %lld to %lld by %lld is too long", (long long)start,
                       (long long)limit, (long long)delta);
    *count = (int64_t)exact;
    return EDGE_OK;
}

edge_status ew_infer_range(ew_call *call) {
    EW_TRY(ew_move_need(call, 3, 1));
    const edge_dtype dtype = ew_in(call, 0)->dtype;
    for (int i = 0; i < 3; i++) {
        EW_TRY(ew_move_need_dtype(call, i, dtype));
        EW_TRY(ew_move_need_one(call, i));
        if (!ew_known(call, ew_in(call, i)))
            return ew_fail(EDGE_UNSUPPORTED, "the length of the result depends on the value of input %d; fix that "
                                             "input when the session is made", i);
    }
    int64_t count;
    EW_TRY(ew_move_is_float(dtype) ? count_real(call, &count) : count_integer(call, &count));
    return ew_shape(ew_out(call, 0), dtype, 1, &count);
}

edge_status ew_run_range(ew_call *call) {
    ew_tensor *out = ew_out(call, 0);
    const int64_t count = out->dims[0];
    if (ew_move_is_float(out->dtype)) {
        const double start = ew_get(ew_in(call, 0), 0), delta = ew_get(ew_in(call, 2), 0);
        for (int64_t i = 0; i < count; i++) ew_move_put(out, i, start + (double)i * delta);
        return EDGE_OK;
    }
    uint64_t value = (uint64_t)ew_get_int(ew_in(call, 0), 0);
    const uint64_t delta = (uint64_t)ew_get_int(ew_in(call, 2), 0);
    for (int64_t i = 0; i < count; i++, value += delta) ew_move_put_int(out, i, (int64_t)value);
    return EDGE_OK;
}
