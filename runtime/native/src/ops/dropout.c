#include "elementwise.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "elementwise.inc"
#undef EW_OP

/* Only what inference needs: nothing is dropped. */
static edge_status refuse_training(const ew_call *call) {
    const ew_tensor *ratio = ew_in(call, 1), *training = ew_in(call, 2);
    if (!training || !ew_known(call, training) || (ratio && !ew_known(call, ratio))) return EDGE_OK;
    double share = ratio ? ew_get(ratio, 0) : 0.5;
    if (ew_get_int(training, 0) && share != 0)
        return ew_fail(EDGE_UNSUPPORTED, "training_mode drops %g of the input at random; only inference is supported",
                       share);
    return EDGE_OK;
}

edge_status ew_infer_dropout(ew_call *call) {
    EW_TRY(ew_expect(call, 1, 3, 2));
    const ew_tensor *data = ew_in(call, 0), *ratio = ew_in(call, 1), *training = ew_in(call, 2);
    if (ratio && (ew_count(ratio) != 1 || !(EW_FLOATS & EW_T(ratio->dtype))))
        return ew_fail(EDGE_INVALID_MODEL, "the ratio of Dropout must be one floating number");
    if (training && (ew_count(training) != 1 || training->dtype != EDGE_BOOL))
        return ew_fail(EDGE_INVALID_MODEL, "training_mode of Dropout must be one bool");
    EW_TRY(refuse_training(call));
    edge_dtype mask = call->node->opset < 10 ? data->dtype : EDGE_BOOL;
    if (ew_out(call, 0)) EW_TRY(ew_same(ew_out(call, 0), data));
    return ew_out(call, 1) ? ew_shape(ew_out(call, 1), mask, data->rank, data->dims) : EDGE_OK;
}

edge_status ew_run_dropout(ew_call *call) {
    EW_TRY(refuse_training(call));
    const uint8_t one = 1;
    ew_tensor *mask = ew_out(call, 1);
    ew_view view;
    ew_view_constant(&view, EDGE_BOOL, &one);
    if (mask) {
        edge_dtype work = ew_work_dtype(mask->dtype);
        ew_walk_run(&(ew_walk){.call = call, .views = &view, .count = 1, .work = work, .result = work, .out = mask});
    }
    return ew_run_bit_cast(call);
}
