#include "linear.h"

static edge_status check_channels(const ew_tensor *x, const ew_tensor *weights, int64_t groups) {
    if (groups < 1 || groups > INT32_MAX)
        return ew_fail(EDGE_INVALID_MODEL, "attribute group is %lld", (long long)groups);
    if (x->dims[1] % groups || x->dims[1] / groups != weights->dims[1])
        return ew_fail(EDGE_SHAPE_MISMATCH,
                       "%lld channels in %lld groups, but the weights are for %lld channels in a group",
                       (long long)x->dims[1], (long long)groups, (long long)weights->dims[1]);
    if (weights->dims[0] % groups)
        return ew_fail(EDGE_SHAPE_MISMATCH, "%lld output channels do not divide into %lld groups",
                       (long long)weights->dims[0], (long long)groups);
    return EDGE_OK;
}

edge_status ew_conv_read(const ew_call *call, const ew_tensor *x, const ew_tensor *weights, ew_conv *c) {
    *c = (ew_conv){.groups = ew_attr_int(call->node, "group", 1)};
    EW_TRY(ew_window_read(call, x, weights, &c->w));
    EW_TRY(check_channels(x, weights, c->groups));
    EW_TRY(ew_window_place(&c->w, false));
    c->batch = x->dims[0];
    c->in_channels = weights->dims[1];
    c->out_channels = weights->dims[0] / c->groups;
    c->taps = ew_volume(c->w.kernel);
    c->depth = c->in_channels * c->taps;
    c->in_size = ew_volume(c->w.in);
    c->out_size = ew_volume(c->w.out);
    return EDGE_OK;
}

edge_status ew_conv_bias(const ew_call *call, int bias, edge_dtype dtype, int64_t channels) {
    const ew_tensor *b = ew_in(call, bias);
    if (!b) return EDGE_OK;
    if (b->dtype != dtype)
        return ew_fail(EDGE_INVALID_MODEL, "the bias is %s, it must be %s", ew_dtype_name(b->dtype),
                       ew_dtype_name(dtype));
    if (b->rank != 1 || b->dims[0] != channels)
        return ew_fail(EDGE_SHAPE_MISMATCH, "the bias must be a list of %lld values", (long long)channels);
    return EDGE_OK;
}

bool ew_conv_is_pointwise(const ew_conv *c) {
    for (int i = 0; i < 3; i++)
        if (c->w.kernel[i] != 1 || c->w.stride[i] != 1 || c->w.pad[i] || c->w.pad_end[i]) return false;
    return true;
}

edge_status ew_infer_conv(ew_call *call) {
    EW_TRY(ew_require(call, 2));
    EW_TRY(ew_like_first(call, 1));
    const ew_tensor *x = ew_in(call, 0), *weights = ew_in(call, 1);
    ew_conv c;
    EW_TRY(ew_conv_read(call, x, weights, &c));
    EW_TRY(ew_conv_bias(call, 2, x->dtype, weights->dims[0]));
    return ew_window_shape(&c.w, x->dtype, c.batch, weights->dims[0], ew_out(call, 0));
}

static bool is_depthwise(const ew_conv *c, edge_dtype dtype) {
    return dtype != EDGE_F64 && c->groups > 1 && c->in_channels == 1;
}

/* float16 is computed as float32. */
static int64_t column_bytes(const ew_conv *c, edge_dtype dtype) { return c->depth * (dtype == EDGE_F64 ? 8 : 4); }

static size_t columns_workspace(const ew_call *call) {
    ew_conv c;
    edge_dtype dtype = ew_in(call, 0)->dtype;
    if (ew_conv_read(call, ew_in(call, 0), ew_in(call, 1), &c) != EDGE_OK) return 0;
    return is_depthwise(&c, dtype) || ew_conv_is_pointwise(&c) ? 0 : ew_tile_bytes(column_bytes(&c, dtype), c.out_size);
}

size_t ew_workspace_conv(const ew_call *call) { return ew_half_workspace(call, columns_workspace(call)); }

/* One group of one image. */
typedef struct slice {
    const ew_call *call;
    const ew_conv *c;
    edge_dtype dtype;
    size_t size;
    const uint8_t *x, *weights, *bias;
    uint8_t *y;
} slice;

static void run_tile(const slice *s, int64_t begin, int64_t end) {
    const ew_conv *c = s->c;
    ew_gemm g = {.m = c->out_channels,
                 .n = end - begin,
                 .k = c->depth,
                 .a = s->weights,
                 .a_row = c->depth,
                 .a_col = 1,
                 .b_col = 1,
                 .c = s->y + (size_t)begin * s->size,
                 .c_row = c->out_size,
                 .accumulate = s->bias != NULL};
    if (ew_conv_is_pointwise(c)) {
        g.b = s->x + (size_t)begin * s->size;
        g.b_row = c->in_size;
    } else {
        ew_columns job = {.w = &c->w,
                          .channels = c->in_channels,
                          .begin = begin,
                          .end = end,
                          .image = s->x,
                          .columns = s->call->workspace,
                          .element_bytes = s->size};
        ew_columns_of(s->call, &job);
        g.b = s->call->workspace;
        g.b_row = end - begin;
    }
    if (s->bias) ew_fill_rows(g.c, g.c_row, g.m, g.n, s->bias, s->size);
    ew_gemm_any(s->call, s->dtype, &g);
}

static void run_slices(const slice *all) {
    const ew_conv *c = all->c;
    int64_t tile = ew_conv_is_pointwise(c) ? c->out_size : ew_tile(column_bytes(c, all->dtype), c->out_size);
    for (int64_t i = 0; i < c->batch * c->groups; i++) {
        int64_t group = i % c->groups;
        slice s = *all;
        s.x += (size_t)(i * c->in_channels * c->in_size) * s.size;
        s.y += (size_t)(i * c->out_channels * c->out_size) * s.size;
        s.weights += (size_t)(group * c->out_channels * c->depth) * s.size;
        if (s.bias) s.bias += (size_t)(group * c->out_channels) * s.size;
        for (int64_t begin = 0; begin < c->out_size; begin += tile)
            run_tile(&s, begin, begin + tile < c->out_size ? begin + tile : c->out_size);
    }
}

/* Adds taps of one line of the kernel times one line of the image to one line of the output. */
static void add_line(const ew_taps *t, const float *taps, const float *x, float *y) {
    const ew_window *w = t->w;
    int64_t begin, end, stride = w->stride[2];
    for (int64_t k = t->first; k < t->last; k++) {
        ew_taps_range(t, k, &begin, &end);
        if (begin == end) continue;
        const float *from = x + (begin * stride + k * w->dilation[2] - w->pad[2]);
        if (stride == 1)
            ew_add_scaled_f32(y + begin, from, taps[k], end - begin);
        else
            for (int64_t i = 0; i < end - begin; i++) y[begin + i] += taps[k] * from[i * stride];
    }
}

static void run_plane(const ew_taps *t, const float *weights, float bias, const float *x, float *y) {
    const ew_window *w = t->w;
    for (int64_t line = 0; line < w->out[0] * w->out[1]; line++, y += w->out[2]) {
        int64_t top = line / w->out[1] * w->stride[0] - w->pad[0], left = line % w->out[1] * w->stride[1] - w->pad[1];
        for (int64_t i = 0; i < w->out[2]; i++) y[i] = bias;
        for (int64_t k = 0; k < w->kernel[0] * w->kernel[1]; k++) {
            int64_t i = top + k / w->kernel[1] * w->dilation[0], j = left + k % w->kernel[1] * w->dilation[1];
            if (i < 0 || i >= w->in[0] || j < 0 || j >= w->in[1]) continue;
            add_line(t, weights + k * w->kernel[2], x + (i * w->in[1] + j) * w->in[2], y);
        }
    }
}

static void run_planes(void *context, int64_t begin, int64_t end) {
    const slice *s = context;
    const ew_conv *c = s->c;
    const float *x = (const float *)(const void *)s->x, *weights = (const float *)(const void *)s->weights;
    const float *bias = (const float *)(const void *)s->bias;
    ew_taps taps;
    ew_taps_read(&c->w, &taps);
    for (int64_t i = begin; i < end; i++) {
        int64_t channel = i % (c->groups * c->out_channels);
        run_plane(&taps, weights + channel * c->taps, bias ? bias[channel] : 0, x + i / c->out_channels * c->in_size,
                  (float *)(void *)s->y + i * c->out_size);
    }
}

static edge_status run_wide(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), *weights = ew_in(call, 1), *bias = ew_in(call, 2);
    ew_conv c;
    EW_TRY(ew_conv_read(call, x, weights, &c));
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    slice s = {.call = call,
               .c = &c,
               .dtype = x->dtype,
               .size = ew_dtype_bytes(x->dtype),
               .x = x->data,
               .weights = weights->data,
               .bias = bias ? bias->data : NULL,
               .y = ew_out(call, 0)->data};
    if (is_depthwise(&c, x->dtype))
        ew_parallel(call, c.batch * c.groups * c.out_channels, 1 + 65536 / (c.out_size * c.taps), run_planes, &s);
    else
        run_slices(&s);
    return EDGE_OK;
}

edge_status ew_run_conv(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, columns_workspace(call), run_wide) : run_wide(call);
}
