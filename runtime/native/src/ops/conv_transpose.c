#include "linear.h"

static edge_status read_channels(const ew_call *call, const ew_tensor *x, const ew_tensor *weights, ew_transposed *t) {
    t->batch = x->dims[0];
    t->groups = ew_attr_int(call->node, "group", 1);
    if (t->groups < 1 || t->groups > INT32_MAX)
        return ew_fail(EDGE_INVALID_MODEL, "attribute group is %lld", (long long)t->groups);
    if (x->dims[1] != weights->dims[0] || x->dims[1] % t->groups)
        return ew_fail(EDGE_SHAPE_MISMATCH, "%lld channels in %lld groups, but the weights are for %lld channels",
                       (long long)x->dims[1], (long long)t->groups, (long long)weights->dims[0]);
    t->in_channels = x->dims[1] / t->groups;
    t->out_channels = weights->dims[1];
    return EDGE_OK;
}

/* Sets length and pads of one axis; -1 for a length that is not given. */
static edge_status place_axis(ew_window *w, int i, int64_t given, int64_t extra) {
    bool is_same = w->auto_pad == EW_PAD_SAME_UPPER || w->auto_pad == EW_PAD_SAME_LOWER;
    int64_t full = w->stride[i] * (w->out[i] - 1) + extra + (w->kernel[i] - 1) * w->dilation[i] + 1;
    int64_t length = given >= 0 ? given : is_same ? w->out[i] * w->stride[i] : full - w->pad[i] - w->pad_end[i];
    if (length < 0 && w->out[i] == 0) length = 0;
    if (length < 0 || length > INT32_MAX)
        return ew_fail(EDGE_SHAPE_MISMATCH, "spatial axis %d of the result would have length %lld",
                       i - (3 - w->spatial), (long long)length);
    if (given >= 0 || is_same) {
        int64_t total = full > length ? full - length : 0, half = total / 2;
        w->pad[i] = w->auto_pad == EW_PAD_SAME_UPPER ? half : total - half;
        w->pad_end[i] = total - w->pad[i];
    }
    w->in[i] = length;
    return EDGE_OK;
}

static edge_status place(const ew_call *call, ew_window *w) {
    int64_t length[3] = {-1, -1, -1}, extra[3] = {0, 0, 0};
    EW_TRY(ew_window_list(call, "output_shape", w, 0, length));
    EW_TRY(ew_window_list(call, "output_padding", w, 0, extra));
    memcpy(w->out, w->in, sizeof w->out);
    for (int i = 3 - w->spatial; i < 3; i++) EW_TRY(place_axis(w, i, length[i], extra[i]));
    return EDGE_OK;
}

edge_status ew_transposed_read(const ew_call *call, const ew_tensor *x, const ew_tensor *weights, ew_transposed *t) {
    EW_TRY(ew_window_read(call, x, weights, &t->w));
    EW_TRY(read_channels(call, x, weights, t));
    t->height = t->out_channels * ew_volume(t->w.kernel);
    return place(call, &t->w);
}

static edge_status read_transposed(const ew_call *call, ew_transposed *t) {
    return ew_transposed_read(call, ew_in(call, 0), ew_in(call, 1), t);
}

edge_status ew_transposed_shape(const ew_call *call, const ew_tensor *x, int bias, ew_tensor *y) {
    ew_transposed t;
    int64_t channels;
    EW_TRY(ew_transposed_read(call, x, ew_in(call, 1), &t));
    if (__builtin_mul_overflow(t.out_channels, t.groups, &channels))
        return ew_fail(EDGE_NO_MEMORY, "a result is larger than memory can be");
    if (bias >= 0) EW_TRY(ew_conv_bias(call, bias, x->dtype, channels));
    ew_window result = t.w;
    memcpy(result.out, t.w.in, sizeof result.out);
    return ew_window_shape(&result, x->dtype, t.batch, channels, y);
}

edge_status ew_infer_conv_transpose(ew_call *call) {
    EW_TRY(ew_require(call, 2));
    EW_TRY(ew_like_first(call, 1));
    return ew_transposed_shape(call, ew_in(call, 0), 2, ew_out(call, 0));
}

static int64_t column_bytes(const ew_transposed *t, edge_dtype dtype) {
    return t->height * (dtype == EDGE_F64 ? 8 : 4);
}

static size_t columns_workspace(const ew_call *call) {
    ew_transposed t;
    if (read_transposed(call, &t) != EDGE_OK) return 0;
    return ew_tile_bytes(column_bytes(&t, ew_in(call, 0)->dtype), ew_volume(t.w.out));
}

size_t ew_workspace_conv_transpose(const ew_call *call) { return ew_half_workspace(call, columns_workspace(call)); }

/* One group of one image: columns of a tile of the input, added to the output. */
static void run_slice(const ew_call *call, const ew_transposed *t, edge_dtype dtype, const uint8_t *x,
                      const uint8_t *weights, uint8_t *y) {
    int64_t positions = ew_volume(t->w.out), tile = ew_tile(column_bytes(t, dtype), positions);
    for (int64_t begin = 0; begin < positions; begin += tile) {
        int64_t end = begin + tile < positions ? begin + tile : positions;
        ew_gemm g = {.m = t->height,
                     .n = end - begin,
                     .k = t->in_channels,
                     .a = weights,
                     .a_row = 1,
                     .a_col = t->height,
                     .b = x + (size_t)begin * ew_dtype_bytes(dtype),
                     .b_row = positions,
                     .b_col = 1,
                     .c = call->workspace,
                     .c_row = end - begin};
        ew_columns job = {.w = &t->w,
                          .channels = t->out_channels,
                          .begin = begin,
                          .end = end,
                          .image = y,
                          .columns = call->workspace};
        ew_gemm_any(call, dtype, &g);
        ew_columns_add(call, &job, dtype);
    }
}

static edge_status run_wide(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), *weights = ew_in(call, 1), *bias = ew_in(call, 2);
    ew_tensor *y = ew_out(call, 0);
    ew_transposed t;
    EW_TRY(read_transposed(call, &t));
    if (ew_count(y) == 0) return EDGE_OK;
    int64_t size = (int64_t)ew_dtype_bytes(y->dtype), out_size = ew_volume(t.w.in),
            channels = t.out_channels * t.groups;
    for (int64_t i = 0; i < t.batch; i++)
        ew_fill_rows((uint8_t *)y->data + i * channels * out_size * size, out_size, channels, out_size,
                     bias ? bias->data : NULL, (size_t)size);
    for (int64_t i = 0; i < t.batch * t.groups; i++)
        run_slice(call, &t, y->dtype, (const uint8_t *)x->data + i * t.in_channels * ew_volume(t.w.out) * size,
                  (const uint8_t *)weights->data + i % t.groups * t.in_channels * t.height * size,
                  (uint8_t *)y->data + i * t.out_channels * out_size * size);
    return EDGE_OK;
}

edge_status ew_run_conv_transpose(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, columns_workspace(call), run_wide) : run_wide(call);
}
