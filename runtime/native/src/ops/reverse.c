/* ReverseSequence. */
#include "movement.h"

static edge_status time_is_first(const ew_call *call, bool *first) {
    const int64_t time = ew_attr_int(call->node, "time_axis", 0), batch = ew_attr_int(call->node, "batch_axis", 1);
    if ((time != 0 && time != 1) || batch != 1 - time)
        return ew_fail(EDGE_INVALID_MODEL, "time_axis %lld and batch_axis %lld are not 0 and 1 or 1 and 0",
                       (long long)time, (long long)batch);
    *first = time == 0;
    return EDGE_OK;
}

edge_status ew_infer_reverse_sequence(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    EW_TRY(ew_move_need_index(call, 1));
    const ew_tensor *in = ew_in(call, 0), *lengths = ew_in(call, 1);
    bool time_first;
    EW_TRY(time_is_first(call, &time_first));
    if (in->rank < 2) return ew_fail(EDGE_INVALID_MODEL, "the input has rank %d, expected 2 or more", (int)in->rank);
    if (lengths->rank != 1 || lengths->dims[0] != in->dims[time_first])
        return ew_fail(EDGE_SHAPE_MISMATCH, "sequence_lens must have %lld entries, one of each sequence",
                       (long long)in->dims[time_first]);
    return ew_same(ew_out(call, 0), in);
}

edge_status ew_run_reverse_sequence(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0), *lengths = ew_in(call, 1);
    bool time_first;
    EW_TRY(time_is_first(call, &time_first));
    if (ew_count(in) == 0) return EDGE_OK;
    const int64_t batches = in->dims[time_first], times = in->dims[!time_first];
    const int64_t unit = ew_span(in, 2, in->rank) * (int64_t)ew_dtype_bytes(in->dtype);
    const int64_t time_step = time_first ? batches * unit : unit, batch_step = time_first ? unit : times * unit;
    for (int64_t b = 0; b < batches; b++) {
        const int64_t length = ew_move_index(lengths, b);
        if (length < 0 || length > times)
            return ew_fail(EDGE_INVALID_ARGUMENT, "the length %lld of sequence %lld is not in [0, %lld]",
                           (long long)length, (long long)b, (long long)times);
        const char *from = (const char *)in->data + b * batch_step;
        char *to = (char *)ew_out(call, 0)->data + b * batch_step;
        for (int64_t t = 0; t < times; t++)
            ew_move_element(to + t * time_step, from + (t < length ? length - 1 - t : t) * time_step, (size_t)unit);
    }
    return EDGE_OK;
}
