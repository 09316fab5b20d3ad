#include "linear.h"

#include <math.h>

edge_status ew_check_single(const ew_call *call, int i, uint32_t dtypes) {
    const ew_tensor *t = ew_in(call, i);
    if (!t) return EDGE_OK;
    if (!(dtypes & EW_T(t->dtype)))
        return ew_fail(EDGE_INVALID_MODEL, "input %d has dtype %s", i, ew_dtype_name(t->dtype));
    return ew_count(t) == 1 ? EDGE_OK : ew_fail(EDGE_SHAPE_MISMATCH, "input %d must be one value", i);
}

static uint8_t requantize(float value, float zero, float low, float high) {
    float rounded = rintf(value) + zero;
    if (!(rounded > low)) rounded = low;
    if (rounded > high) rounded = high;
    return (uint8_t)(int)rounded;
}

void ew_requantize_row(const ew_requantize *r, const int32_t *x, uint8_t *y, int64_t count) {
    float zero = (float)ew_get_int(r->zero, 0), low = r->zero->dtype == EDGE_S8 ? -128 : 0, scale = 0;
    for (int64_t i = 0; i < count; i++) {
        if (i == 0 || r->step) scale = r->a_scale * (float)ew_get(r->b_scale, r->first + i * r->step) / r->y_scale;
        y[i] = requantize((float)x[i] * scale, zero, low, low + 255);
    }
}
