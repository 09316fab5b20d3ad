/* Binarizer of ai.onnx.ml. */
#include "movement.h"

edge_status ew_infer_binarizer(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    return ew_same(ew_out(call, 0), ew_in(call, 0));
}

edge_status ew_run_binarizer(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    const double threshold = ew_attr_float(call->node, "threshold", 0);
    const int64_t count = ew_count(in);
    for (int64_t i = 0; i < count; i++) ew_move_put_int(ew_out(call, 0), i, ew_get(in, i) > threshold);
    return EDGE_OK;
}
