/* HannWindow, HammingWindow, BlackmanWindow. */
#include "movement.h"

#include <math.h>

edge_status ew_infer_window(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    EW_TRY(ew_move_need_one(call, 0));
    int64_t size;
    int count;
    EW_TRY(ew_ints(call, 0, &size, 1, &count));
    edge_dtype dtype;
    EW_TRY(ew_move_dtype_attribute(call->node, "output_datatype", EDGE_F32, &dtype));
    return ew_shape(ew_out(call, 0), dtype, 1, &size);
}

/* mean - first * cos(x) + second * cos(2x), x from 0 to 2 pi; a symmetric window of one element is 1. */
static edge_status run_window(ew_call *call, double mean, double first, double second) {
    ew_tensor *out = ew_out(call, 0);
    const int64_t size = out->dims[0];
    const bool periodic = ew_attr_int(call->node, "periodic", 1) != 0;
    const double step = 6.283185307179586 / (double)(periodic ? size : size - 1);
    for (int64_t i = 0; i < size; i++) {
        const double x = (double)i * step;
        ew_move_put(out, i, size > 1 || periodic ? mean - first * cos(x) + second * cos(2 * x) : 1);
    }
    return EDGE_OK;
}

edge_status ew_run_hann_window(ew_call *call) { return run_window(call, 0.5, 0.5, 0); }

edge_status ew_run_hamming_window(ew_call *call) { return run_window(call, 25.0 / 46, 21.0 / 46, 0); }

edge_status ew_run_blackman_window(ew_call *call) { return run_window(call, 0.42, 0.5, 0.08); }
