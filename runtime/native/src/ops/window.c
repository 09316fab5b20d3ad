#include "linear.h"

/* Larger values of attributes are errors, so that sums and products of two of them fit. */
#define ATTRIBUTE_MAX INT32_MAX

edge_status ew_window_list(const ew_call *call, const char *name, const ew_window *w, int64_t least,
                           int64_t values[3]) {
    int count;
    const int64_t *list = ew_attr_ints(call->node, name, &count);
    if (count <= 0) return EDGE_OK;
    if (count != w->spatial)
        return ew_fail(EDGE_INVALID_MODEL, "attribute %s has %d values for %d spatial axes", name, count, w->spatial);
    for (int i = 0; i < count; i++) {
        if (list[i] < least || list[i] > ATTRIBUTE_MAX)
            return ew_fail(EDGE_INVALID_MODEL, "attribute %s has the value %lld, it must be in [%lld, %lld]", name,
                           (long long)list[i], (long long)least, (long long)ATTRIBUTE_MAX);
        values[3 - count + i] = list[i];
    }
    return EDGE_OK;
}

static edge_status read_pads(const ew_call *call, ew_window *w) {
    int count;
    const int64_t *pads = ew_attr_ints(call->node, "pads", &count);
    if (count <= 0 || w->auto_pad != EW_PAD_EXPLICIT) return EDGE_OK;
    if (count != 2 * w->spatial)
        return ew_fail(EDGE_INVALID_MODEL, "attribute pads has %d values, %d are needed", count, 2 * w->spatial);
    for (int i = 0; i < count; i++) {
        if (pads[i] < 0 || pads[i] > ATTRIBUTE_MAX)
            return ew_fail(EDGE_INVALID_MODEL, "attribute pads has the value %lld, it must be in [0, %lld]",
                           (long long)pads[i], (long long)ATTRIBUTE_MAX);
        int axis = 3 - w->spatial + i % w->spatial;
        (i < w->spatial ? w->pad : w->pad_end)[axis] = pads[i];
    }
    return EDGE_OK;
}

static edge_status read_auto_pad(const ew_call *call, ew_window *w) {
    static const char *const names[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"};
    const char *given = ew_attr_string(call->node, "auto_pad", names[0]);
    for (int i = 0; i < 4; i++) {
        if (strcmp(given, names[i])) continue;
        w->auto_pad = (ew_auto_pad)i;
        return EDGE_OK;
    }
    return ew_fail(EDGE_INVALID_MODEL,
                   "attribute auto_pad is \"%s\", it must be NOTSET, VALID, SAME_UPPER or SAME_LOWER", given);
}

static edge_status check_kernel(const ew_window *w, const ew_tensor *weights) {
    for (int i = 0; i < w->spatial; i++) {
        int64_t size = weights->dims[2 + i], given = w->kernel[3 - w->spatial + i];
        if (size < 1 || size > ATTRIBUTE_MAX)
            return ew_fail(EDGE_SHAPE_MISMATCH, "weights have length %lld on axis %d", (long long)size, 2 + i);
        if (given != size)
            return ew_fail(EDGE_INVALID_MODEL, "kernel_shape says %lld on spatial axis %d, the weights have %lld",
                           (long long)given, i, (long long)size);
    }
    return EDGE_OK;
}

static edge_status read_kernel(const ew_call *call, const ew_tensor *weights, ew_window *w) {
    int count;
    ew_attr_ints(call->node, "kernel_shape", &count);
    if (!weights && count <= 0) return ew_fail(EDGE_INVALID_MODEL, "attribute kernel_shape is missing");
    if (weights && weights->rank != w->spatial + 2)
        return ew_fail(EDGE_SHAPE_MISMATCH, "weights of rank %d for an input of rank %d", weights->rank,
                       w->spatial + 2);
    /* A smaller kernel would make the result larger than planned. */
    if (weights && weights->dynamic) return ew_fail(EDGE_UNSUPPORTED, "the shape of the weights must be fixed");
    for (int i = 0; weights && i < w->spatial; i++) w->kernel[3 - w->spatial + i] = weights->dims[2 + i];
    EW_TRY(ew_window_list(call, "kernel_shape", w, 1, w->kernel));
    return weights ? check_kernel(w, weights) : EDGE_OK;
}

edge_status ew_window_read(const ew_call *call, const ew_tensor *x, const ew_tensor *weights, ew_window *w) {
    if (x->rank < 3) return ew_fail(EDGE_SHAPE_MISMATCH, "input 0 has rank %d, at least 3 is needed", x->rank);
    if (x->rank > 5)
        return ew_fail(EDGE_UNSUPPORTED, "input 0 has %d spatial axes, at most 3 are possible", x->rank - 2);
    *w = (ew_window){.spatial = x->rank - 2};
    for (int i = 0; i < 3; i++) w->in[i] = w->out[i] = w->kernel[i] = w->stride[i] = w->dilation[i] = 1;
    for (int i = 0; i < w->spatial; i++) {
        if (x->dims[2 + i] > ATTRIBUTE_MAX)
            return ew_fail(EDGE_SHAPE_MISMATCH, "input 0 has length %lld on axis %d", (long long)x->dims[2 + i], 2 + i);
        w->in[3 - w->spatial + i] = x->dims[2 + i];
    }
    EW_TRY(read_kernel(call, weights, w));
    EW_TRY(ew_window_list(call, "strides", w, 1, w->stride));
    EW_TRY(ew_window_list(call, "dilations", w, 1, w->dilation));
    EW_TRY(read_auto_pad(call, w));
    return read_pads(call, w);
}

static void place_same(ew_window *w, int i, int64_t reach) {
    w->out[i] = (w->in[i] + w->stride[i] - 1) / w->stride[i];
    int64_t total = (w->out[i] - 1) * w->stride[i] + reach - w->in[i];
    if (total < 0 || !w->out[i]) total = 0;
    int64_t half = total / 2;
    w->pad[i] = w->auto_pad == EW_PAD_SAME_UPPER ? half : total - half;
    w->pad_end[i] = total - w->pad[i];
}

static edge_status place_explicit(ew_window *w, int i, int64_t reach, bool ceil) {
    int64_t room = w->in[i] + w->pad[i] + w->pad_end[i] - reach;
    if (room < 0)
        return ew_fail(EDGE_SHAPE_MISMATCH,
                       "a kernel that spans %lld does not fit into length %lld of spatial axis %d with its padding",
                       (long long)reach, (long long)w->in[i], i - (3 - w->spatial));
    w->out[i] = room / w->stride[i] + 1;
    if (!ceil || w->auto_pad == EW_PAD_VALID || room % w->stride[i] == 0) return EDGE_OK;
    /* Windows that would begin in the padding behind the input are left out. */
    if (w->out[i] * w->stride[i] < w->in[i] + w->pad[i]) w->out[i]++;
    return EDGE_OK;
}

edge_status ew_window_place(ew_window *w, bool ceil) {
    for (int i = 3 - w->spatial; i < 3; i++) {
        int64_t reach = (w->kernel[i] - 1) * w->dilation[i] + 1;
        if (w->auto_pad == EW_PAD_SAME_UPPER || w->auto_pad == EW_PAD_SAME_LOWER)
            place_same(w, i, reach);
        else
            EW_TRY(place_explicit(w, i, reach, ceil));
    }
    return EDGE_OK;
}

edge_status ew_window_shape(const ew_window *w, edge_dtype dtype, int64_t batch, int64_t channels, ew_tensor *y) {
    int64_t dims[5] = {batch, channels};
    memcpy(dims + 2, w->out + 3 - w->spatial, (size_t)w->spatial * sizeof *dims);
    return ew_shape(y, dtype, w->spatial + 2, dims);
}

void ew_window_range(const ew_window *w, int axis, int64_t k, int64_t *begin, int64_t *end) {
    int64_t stride = w->stride[axis], offset = k * w->dilation[axis] - w->pad[axis], room = w->in[axis] - offset;
    *begin = offset < 0 ? (-offset + stride - 1) / stride : 0;
    *end = room > 0 ? (room + stride - 1) / stride : 0;
    if (*end > w->out[axis]) *end = w->out[axis];
    if (*begin > *end) *begin = *end;
}

void ew_window_taps(const ew_window *w, int axis, int64_t position, int64_t *begin, int64_t *end) {
    int64_t step = w->dilation[axis], offset = position * w->stride[axis] - w->pad[axis], room = w->in[axis] - offset;
    *begin = offset < 0 ? (-offset + step - 1) / step : 0;
    *end = room > 0 ? (room + step - 1) / step : 0;
    if (*end > w->kernel[axis]) *end = w->kernel[axis];
    if (*begin > *end) *begin = *end;
}

void ew_taps_read(const ew_window *w, ew_taps *taps) {
    int64_t unused;
    taps->w = w;
    ew_window_taps(w, 2, w->out[2] - 1, &taps->first, &unused);
    ew_window_taps(w, 2, 0, &unused, &taps->last);
    for (int64_t k = 0; k < EW_TAPS_KEPT && k < w->kernel[2]; k++)
        ew_window_range(w, 2, k, &taps->range[k][0], &taps->range[k][1]);
}
