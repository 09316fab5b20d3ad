#include "linear.h"

/* A convolution of 8 bit integers; the accumulators of a tile go into sums, or straight into the result. */
typedef struct conv_8 {
    ew_conv c;
    const ew_tensor *x, *weights, *x_zero, *w_zero, *bias;
} conv_8;

/* One value, or one for each output channel. */
static edge_status check_per_channel(const ew_call *call, int i, int64_t channels) {
    const ew_tensor *t = ew_in(call, i);
    if (!t || ew_count(t) == 1 || (t->rank == 1 && t->dims[0] == channels)) return EDGE_OK;
    return ew_fail(EDGE_SHAPE_MISMATCH, "input %d must be one value or %lld values", i, (long long)channels);
}

static edge_status read_conv_8(const ew_call *call, int x, int weights, int x_zero, int w_zero, conv_8 *q) {
    *q = (conv_8){.x = ew_in(call, x),
                  .weights = ew_in(call, weights),
                  .x_zero = ew_in(call, x_zero),
                  .w_zero = ew_in(call, w_zero)};
    if (!ew_is_8_bit(q->weights->dtype))
        return ew_fail(EDGE_INVALID_MODEL, "input %d is %s, it must be uint8 or int8", weights,
                       ew_dtype_name(q->weights->dtype));
    EW_TRY(ew_conv_read(call, q->x, q->weights, &q->c));
    EW_TRY(ew_check_single(call, x_zero, EW_T(q->x->dtype)));
    EW_TRY(check_per_channel(call, w_zero, q->weights->dims[0]));
    if (q->w_zero && q->w_zero->dtype != q->weights->dtype)
        return ew_fail(EDGE_INVALID_MODEL, "input %d must have the dtype of input %d", w_zero, weights);
    return EDGE_OK;
}

static const uint8_t *bytes_at(const ew_tensor *t, int64_t i) {
    if (!t) return NULL;
    return (const uint8_t *)t->data + (ew_count(t) == 1 ? 0 : i);
}

/* One tile of one group of one image. */
typedef struct tile_8 {
    int64_t image, group, begin, end;
    uint8_t *columns;
    int32_t *sums;
    int64_t sums_row;
} tile_8;

static void multiply_tile(const ew_call *call, const conv_8 *q, const tile_8 *t) {
    const ew_conv *c = &q->c;
    const uint8_t *x = (const uint8_t *)q->x->data + (t->image * c->groups + t->group) * c->in_channels * c->in_size;
    int64_t first = t->group * c->out_channels;
    ew_gemm_8 g = {.m = c->out_channels,
                   .n = t->end - t->begin,
                   .k = c->depth,
                   .a = (const uint8_t *)q->weights->data + first * c->depth,
                   .a_row = c->depth,
                   .a_zero = bytes_at(q->w_zero, first),
                   .a_zero_step = q->w_zero && ew_count(q->w_zero) > 1,
                   .a_signed = q->weights->dtype == EDGE_S8,
                   .b = x + t->begin,
                   .b_row = c->in_size,
                   .b_zero = bytes_at(q->x_zero, 0),
                   .b_signed = q->x->dtype == EDGE_S8,
                   .c = t->sums,
                   .c_row = t->sums_row};
    if (!ew_conv_is_pointwise(c)) {
        ew_columns job = {.w = &c->w,
                          .channels = c->in_channels,
                          .begin = t->begin,
                          .end = t->end,
                          .image = x,
                          .columns = t->columns,
                          .element_bytes = 1,
                          .padding = q->x_zero ? *bytes_at(q->x_zero, 0) : 0};
        ew_columns_of(call, &job);
        g.b = t->columns;
        g.b_row = g.n;
    }
    ew_gemm_s32(call, &g);
}

static int64_t column_bytes(const ew_conv *c) { return ew_conv_is_pointwise(c) ? 0 : c->depth; }

edge_status ew_infer_conv_integer(ew_call *call) {
    conv_8 q;
    EW_TRY(ew_require(call, 2));
    EW_TRY(read_conv_8(call, 0, 1, 2, 3, &q));
    return ew_window_shape(&q.c.w, EDGE_S32, q.c.batch, q.weights->dims[0], ew_out(call, 0));
}

size_t ew_workspace_conv_integer(const ew_call *call) {
    ew_conv c;
    if (ew_conv_read(call, ew_in(call, 0), ew_in(call, 1), &c) != EDGE_OK) return 0;
    return ew_tile_bytes(column_bytes(&c), c.out_size);
}

edge_status ew_run_conv_integer(ew_call *call) {
    conv_8 q;
    EW_TRY(read_conv_8(call, 0, 1, 2, 3, &q));
    const ew_conv *c = &q.c;
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    int32_t *y = ew_out(call, 0)->data;
    int64_t tile = ew_tile(column_bytes(c), c->out_size);
    for (int64_t i = 0; i < c->batch * c->groups; i++, y += c->out_channels * c->out_size) {
        tile_8 t = {
            .image = i / c->groups, .group = i % c->groups, .columns = call->workspace, .sums_row = c->out_size};
        for (; t.begin < c->out_size; t.begin = t.end) {
            t.end = t.begin + tile < c->out_size ? t.begin + tile : c->out_size;
            t.sums = y + t.begin;
            multiply_tile(call, &q, &t);
        }
    }
    return EDGE_OK;
}

enum { X, X_SCALE, X_ZERO, W, W_SCALE, W_ZERO, Y_SCALE, Y_ZERO, REQUIRED, BIAS = REQUIRED };

static edge_status read_qlinear(const ew_call *call, conv_8 *q) {
    EW_TRY(read_conv_8(call, X, W, X_ZERO, W_ZERO, q));
    EW_TRY(ew_check_single(call, X_SCALE, EW_T(EDGE_F32)));
    EW_TRY(ew_check_single(call, Y_SCALE, EW_T(EDGE_F32)));
    EW_TRY(ew_check_single(call, Y_ZERO, EW_T(EDGE_U8) | EW_T(EDGE_S8)));
    EW_TRY(check_per_channel(call, W_SCALE, q->weights->dims[0]));
    if (ew_in(call, W_SCALE)->dtype != EDGE_F32)
        return ew_fail(EDGE_INVALID_MODEL, "input %d is %s, it must be float32", W_SCALE,
                       ew_dtype_name(ew_in(call, W_SCALE)->dtype));
    q->bias = ew_in(call, BIAS);
    return ew_conv_bias(call, BIAS, EDGE_S32, q->weights->dims[0]);
}

edge_status ew_infer_qlinear_conv(ew_call *call) {
    conv_8 q;
    EW_TRY(ew_require(call, REQUIRED));
    EW_TRY(read_qlinear(call, &q));
    return ew_window_shape(&q.c.w, ew_in(call, Y_ZERO)->dtype, q.c.batch, q.weights->dims[0], ew_out(call, 0));
}

/* A tile has columns and, before them, sums. */
static int64_t sums_bytes(const ew_conv *c) { return c->out_channels * (int64_t)sizeof(int32_t); }

size_t ew_workspace_qlinear_conv(const ew_call *call) {
    ew_conv c;
    if (ew_conv_read(call, ew_in(call, X), ew_in(call, W), &c) != EDGE_OK) return 0;
    return ew_tile_bytes(column_bytes(&c) + sums_bytes(&c), c.out_size);
}

typedef struct channels {
    const ew_call *call;
    const conv_8 *q;
    const tile_8 *t;
} channels;

static void requantize_channels(void *context, int64_t begin, int64_t end) {
    const channels *s = context;
    const tile_8 *t = s->t;
    const ew_conv *c = &s->q->c;
    const ew_tensor *w_scale = ew_in(s->call, W_SCALE);
    ew_requantize r = {.a_scale = (float)ew_get(ew_in(s->call, X_SCALE), 0),
                       .y_scale = (float)ew_get(ew_in(s->call, Y_SCALE), 0),
                       .b_scale = w_scale,
                       .zero = ew_in(s->call, Y_ZERO)};
    for (int64_t i = begin; i < end; i++) {
        int64_t channel = t->group * c->out_channels + i, row = t->image * c->groups * c->out_channels + channel;
        uint32_t bias = s->q->bias ? ((const uint32_t *)s->q->bias->data)[channel] : 0,
                 *sums = (uint32_t *)(void *)t->sums + i * t->sums_row;
        for (int64_t k = 0; bias && k < t->end - t->begin; k++) sums[k] += bias;
        r.first = ew_count(w_scale) == 1 ? 0 : channel;
        ew_requantize_row(&r, t->sums + i * t->sums_row,
                          (uint8_t *)ew_out(s->call, 0)->data + row * c->out_size + t->begin, t->end - t->begin);
    }
}

edge_status ew_run_qlinear_conv(ew_call *call) {
    conv_8 q;
    EW_TRY(read_qlinear(call, &q));
    const ew_conv *c = &q.c;
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    int64_t tile = ew_tile(column_bytes(c) + sums_bytes(c), c->out_size);
    for (int64_t i = 0; i < c->batch * c->groups; i++) {
        tile_8 t = {.image = i / c->groups, .group = i % c->groups, .sums = call->workspace, .sums_row = tile};
        t.columns = (uint8_t *)call->workspace + sums_bytes(c) * tile;
        for (; t.begin < c->out_size; t.begin = t.end) {
            t.end = t.begin + tile < c->out_size ? t.begin + tile : c->out_size;
            multiply_tile(call, &q, &t);
            ew_parallel(call, c->out_channels, 1 + 16384 / tile, requantize_channels, &(channels){call, &q, &t});
        }
    }
    return EDGE_OK;
}
