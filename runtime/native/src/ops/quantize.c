#include "elementwise.h"

#include "../session.h"
#include "edge_kernels.h"
#include "edge_math.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "elementwise.inc"
#undef EW_OP

/* How scales and zero points belong to elements. */
typedef struct granularity {
    enum { PER_TENSOR, PER_AXIS, PER_BLOCK } kind;
    int axis;
    int64_t block; /* neighbours along the axis that share a scale */
} granularity;

static edge_status by_blocks(const ew_tensor *x, const ew_tensor *scale, int64_t block, granularity *g) {
    if (block < 0) return ew_fail(EDGE_INVALID_MODEL, "block_size is %lld, it must not be negative", (long long)block);
    if (scale->rank != x->rank)
        return ew_fail(EDGE_INVALID_MODEL, "scales of blocks have %d axes, the input has %d", scale->rank, x->rank);
    for (int i = 0; i < x->rank; i++) {
        int64_t expected = i == g->axis ? x->dims[i] / block + (x->dims[i] % block != 0) : x->dims[i];
        if (scale->dims[i] != expected)
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of the scales has length %lld, blocks of %lld need %lld", i,
                           (long long)scale->dims[i], (long long)block, (long long)expected);
    }
    g->kind = PER_BLOCK;
    g->block = block;
    return EDGE_OK;
}

static edge_status granularity_of(const ew_call *call, granularity *g) {
    const ew_tensor *x = ew_in(call, 0), *scale = ew_in(call, 1);
    int64_t block = ew_attr_int(call->node, "block_size", 0);
    *g = (granularity){.kind = PER_TENSOR};
    if (scale->rank <= 1 && ew_count(scale) == 1 && block == 0) return EDGE_OK;
    EW_TRY(ew_axis(ew_attr_int(call->node, "axis", 1), x->rank, &g->axis));
    if (block) return by_blocks(x, scale, block, g);
    if (scale->rank != 1 || scale->dims[0] != x->dims[g->axis])
        return ew_fail(EDGE_SHAPE_MISMATCH, "scales of axis %d need rank 1 and length %lld, not rank %d, %lld elements",
                       g->axis, (long long)x->dims[g->axis], scale->rank, (long long)ew_count(scale));
    g->kind = PER_AXIS;
    return EDGE_OK;
}

static edge_status expect_zero_point(const ew_call *call) {
    const ew_tensor *scale = ew_in(call, 1), *zero = ew_in(call, 2);
    if (!zero || (scale->rank <= 1 && zero->rank <= 1 && ew_count(scale) == ew_count(zero))) return EDGE_OK;
    if (zero->rank != scale->rank || memcmp(zero->dims, scale->dims, (size_t)zero->rank * sizeof *zero->dims))
        return ew_fail(EDGE_SHAPE_MISMATCH, "the shapes of scale and zero point of %s differ", call->node->op_type);
    return EDGE_OK;
}

/* Checks everything but dtypes of the data. */
static edge_status infer(ew_call *call, edge_dtype to) {
    const ew_tensor *x = ew_in(call, 0), *scale = ew_in(call, 1);
    granularity g;
    if (scale->dtype != EDGE_F32 && scale->dtype != EDGE_F16)
        return ew_fail(EDGE_UNSUPPORTED, "the scale of %s has dtype %s, float32 or float16 is supported",
                       call->node->op_type, ew_dtype_name(scale->dtype));
    EW_TRY(granularity_of(call, &g));
    EW_TRY(expect_zero_point(call));
    return ew_out(call, 0) ? ew_shape(ew_out(call, 0), to, x->rank, x->dims) : EDGE_OK;
}

/* A view of a scale or zero point; its dims are those before, at and after the axis. */
static void view_parameter(ew_view *view, const ew_tensor *t, const ew_tensor *x, const granularity *g) {
    ew_view_constant(view, t->dtype, t->data);
    if (g->kind == PER_TENSOR || ew_count(x) == 0) return;
    int64_t inner = ew_span(x, g->axis + 1, x->rank);
    view->rank = inner == 1 ? 2 : 3;
    view->dims[0] = ew_span(x, 0, g->axis);
    view->dims[1] = x->dims[g->axis];
    view->dims[2] = inner;
    if (g->kind == PER_AXIS) {
        view->steps[0] = view->steps[2] = 0;
        view->steps[1] = 1;
        return;
    }
    view->blocked_dim = 1;
    view->block = g->block;
    view->steps[0] = t->dims[g->axis] * inner;
    view->steps[1] = inner;
    view->steps[2] = 1;
}

static edge_status run(ew_call *call, edge_dtype result, ew_kernel kernel, const ew_params *params) {
    static const uint8_t none = 0;
    ew_tensor *x = ew_in(call, 0), *scale = ew_in(call, 1), *zero = ew_in(call, 2), *out = ew_out(call, 0);
    if (!out) return EDGE_OK;
    granularity g;
    ew_view views[3];
    EW_TRY(granularity_of(call, &g));
    ew_view_of(&views[0], x, out);
    view_parameter(&views[1], scale, x, &g);
    ew_view_constant(&views[2], EDGE_U8, &none);
    if (zero) view_parameter(&views[2], zero, x, &g);
    ew_walk_run(&(ew_walk){.call = call, .views = views, .count = 3, .work = EDGE_F32, .result = result,
                           .kernel = kernel, .params = params, .out = out});
    return EDGE_OK;
}

static float to_half(float x) { return ew_widen_half(ew_narrow_half(x)); }

static void divide(const float *x, const float *scale, float *y, int n, bool in_half) {
    for (int i = 0; i < n; i += EW_LANES, x += EW_LANES, scale += EW_LANES, y += EW_LANES)
        EW_EACH_LANE y[j] = x[j] / scale[j];
    if (!in_half) return;
    x -= n, scale -= n, y -= n;
    for (int i = 0; i < n; i++) y[i] = to_half(to_half(x[i]) / to_half(scale[i]));
}

/* Every quotient beyond 2^17 saturates whatever the zero point is; below, adding 1.5 * 2^23 rounds to an integer. */
#define QUANTIZE(T, low, high)                                                                               \
    static void quantize_##T(const void *const *in, void *out, int n, const ew_params *params) {             \
        float quotients[EW_BLOCK];                                                                           \
        const float *q = quotients, *zero = in[2];                                                           \
        T *y = out;                                                                                          \
        divide(in[0], in[1], quotients, n, params && params->positive);                                      \
        for (int i = 0; i < n; i += EW_LANES, q += EW_LANES, zero += EW_LANES, y += EW_LANES) EW_EACH_LANE { \
                float r = ew_clamp(q[j], -131072.0f, 131072.0f) + 12582912.0f - 12582912.0f + zero[j];       \
                r = ew_pick(r > (low), r, (low));                                                            \
                y[j] = (T)(int32_t)ew_pick(r < (high), r, (high));                                           \
            }                                                                                                \
    }
QUANTIZE(uint8_t, 0, 255)
QUANTIZE(int8_t, -128, 127)
QUANTIZE(uint16_t, 0, 65535)
QUANTIZE(int16_t, -32768, 32767)

/* One scale for all, bytes on one side, f32 on the other: there are kernels for that. */
typedef struct bytes_job {
    const edge_kernel *kernel;
    edge_grid grid;
    const uint8_t *from;
    uint8_t *to;
} bytes_job;

static void quantize_part(void *context, int64_t begin, int64_t end) {
    const bytes_job *j = context;
    ((edge_quantize_s8 *)j->kernel->run)(&j->grid, (const float *)(const void *)j->from + begin, j->to + begin,
                                         end - begin);
}

static void dequantize_part(void *context, int64_t begin, int64_t end) {
    const bytes_job *j = context;
    ((edge_dequantize_s8 *)j->kernel->run)(&j->grid, j->from + begin, (float *)(void *)j->to + begin, end - begin);
}

static void run_bytes(const ew_call *call, edge_kernel_op op, const edge_grid *grid, const ew_tensor *from,
                      const ew_tensor *to) {
    bytes_job j = {edge_kernel_find(op, EDGE_KERNEL_S8, EDGE_DENSE, call->session->isa), *grid, from->data, to->data};
    ew_parallel(call, ew_count(from), 16384, op == EDGE_QUANTIZE ? quantize_part : dequantize_part, &j);
}

/* Whether the kernels do this node: `bytes` is its side of 8 bits. */
static bool has_one_grid(const ew_call *call, const ew_tensor *bytes, const ew_tensor *floats, edge_grid *grid) {
    const ew_tensor *scale = ew_in(call, 1), *zero = ew_in(call, 2);
    if (!(EW_8_BITS & EW_T(bytes->dtype)) || floats->dtype != EDGE_F32 || scale->dtype != EDGE_F32) return false;
    if (scale->rank > 1 || ew_count(scale) != 1 || ew_attr_int(call->node, "block_size", 0)) return false;
    float value = *(const float *)scale->data;
    *grid = (edge_grid){value, zero ? (int32_t)ew_get_int(zero, 0) : 0, bytes->dtype == EDGE_S8};
    return value > 0;
}

static edge_status quantized_dtype(const ew_call *call, edge_dtype *dtype) {
    const ew_tensor *zero = ew_in(call, 2);
    int64_t given = ew_attr_int(call->node, "output_dtype", 0);
    *dtype = zero ? zero->dtype : EDGE_U8;
    if (given) EW_TRY(ew_dtype_of(call, given, dtype));
    if (zero && zero->dtype != *dtype)
        return ew_fail(EDGE_INVALID_MODEL, "output_dtype is %s, the zero point has dtype %s", ew_dtype_name(*dtype),
                       ew_dtype_name(zero->dtype));
    if (!((EW_T(EDGE_U8) | EW_T(EDGE_S8) | EW_T(EDGE_U16) | EW_T(EDGE_S16)) & EW_T(*dtype)))
        return ew_fail(EDGE_UNSUPPORTED, "QuantizeLinear to %s is not supported, integers of 8 and 16 bits are",
                       ew_dtype_name(*dtype));
    return EDGE_OK;
}

static bool divides_in_half(const ew_call *call) {
    int64_t precision = ew_attr_int(call->node, "precision", 0);
    return precision == EDGE_F16 || (!precision && ew_in(call, 1)->dtype == EDGE_F16);
}

edge_status ew_infer_quantize_linear(ew_call *call) {
    edge_dtype to;
    int64_t precision = ew_attr_int(call->node, "precision", 0);
    EW_TRY(ew_expect(call, 2, 3, 1));
    EW_TRY(quantized_dtype(call, &to));
    if (precision != 0 && precision != EDGE_F32 && precision != EDGE_F16)
        return ew_fail(EDGE_UNSUPPORTED, "precision is %lld, float32 (1) and float16 (10) are supported",
                       (long long)precision);
    return infer(call, to);
}

edge_status ew_run_quantize_linear(ew_call *call) {
    ew_params params = {.positive = divides_in_half(call)};
    edge_dtype to;
    edge_grid grid;
    if (ew_out(call, 0) && !params.positive && has_one_grid(call, ew_out(call, 0), ew_in(call, 0), &grid)) {
        run_bytes(call, EDGE_QUANTIZE, &grid, ew_in(call, 0), ew_out(call, 0));
        return EDGE_OK;
    }
    EW_TRY(quantized_dtype(call, &to));
    ew_kernel kernel = to == EDGE_U8    ? quantize_uint8_t
                       : to == EDGE_S8  ? quantize_int8_t
                       : to == EDGE_U16 ? quantize_uint16_t
                                        : quantize_int16_t;
    return run(call, 0, kernel, &params);
}

static void dequantize(const void *const *in, void *out, int n, const ew_params *params) {
    const float *x = in[0], *scale = in[1], *zero = in[2];
    float *y = out;
    (void)params;
    for (int i = 0; i < n; i += EW_LANES, x += EW_LANES, scale += EW_LANES, zero += EW_LANES, y += EW_LANES)
        EW_EACH_LANE y[j] = (x[j] - zero[j]) * scale[j];
}

edge_status ew_infer_dequantize_linear(ew_call *call) {
    EW_TRY(ew_expect(call, 2, 3, 1));
    const ew_tensor *x = ew_in(call, 0), *zero = ew_in(call, 2);
    if (zero && ew_widened(zero->dtype) != ew_widened(x->dtype))
        return ew_fail(EDGE_INVALID_MODEL, "the input has dtype %s, the zero point %s, they must be the same",
                       ew_dtype_name(x->dtype), ew_dtype_name(zero->dtype));
    edge_dtype to = ew_in(call, 1)->dtype;
    int64_t given = ew_attr_int(call->node, "output_dtype", 0);
    if (given) EW_TRY(ew_dtype_of(call, given, &to));
    if (given && to != EDGE_F32 && to != EDGE_F16)
        return ew_fail(EDGE_UNSUPPORTED, "DequantizeLinear to %s is not supported, float32 and float16 are",
                       ew_dtype_name(to));
    return infer(call, to);
}

edge_status ew_run_dequantize_linear(ew_call *call) {
    edge_grid grid;
    if (!ew_out(call, 0) || !has_one_grid(call, ew_in(call, 0), ew_out(call, 0), &grid))
        return run(call, EDGE_F32, dequantize, NULL);
    run_bytes(call, EDGE_DEQUANTIZE, &grid, ew_in(call, 0), ew_out(call, 0));
    return EDGE_OK;
}

edge_status ew_infer_dynamic_quantize_linear(ew_call *call) {
    EW_TRY(ew_expect(call, 1, 1, 3));
    const ew_tensor *x = ew_in(call, 0);
    if (ew_out(call, 0)) EW_TRY(ew_shape(ew_out(call, 0), EDGE_U8, x->rank, x->dims));
    if (ew_out(call, 1)) EW_TRY(ew_shape(ew_out(call, 1), EDGE_F32, 0, NULL));
    return ew_out(call, 2) ? ew_shape(ew_out(call, 2), EDGE_U8, 0, NULL) : EDGE_OK;
}

enum { PARTS = 64, PART = 16384 };

typedef struct ranges {
    edge_range_f32 *kernel;
    const float *x;
    int64_t count, each;
    float low[PARTS], high[PARTS];
} ranges;

static void range_parts(void *context, int64_t begin, int64_t end) {
    ranges *r = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = i * r->each, count = r->count - at < r->each ? r->count - at : r->each;
        r->kernel(r->x + at, count, &r->low[i], &r->high[i]);
    }
}

/* The least range that holds all of x and 0. */
static void range_of(const ew_call *call, const ew_tensor *x, float *min, float *max) {
    ranges r = {.kernel = (edge_range_f32 *)edge_kernel_find(EDGE_RANGE, EDGE_KERNEL_F32, EDGE_DENSE,
                                                             call->session->isa)->run,
                .x = x->data,
                .count = ew_count(x)};
    r.each = r.count <= PART * PARTS ? PART : (r.count + PARTS - 1) / PARTS;
    int64_t parts = (r.count + r.each - 1) / r.each;
    ew_parallel(call, parts, 1, range_parts, &r);
    *min = *max = 0;
    for (int64_t i = 0; i < parts; i++) {
        *min = r.low[i] < *min ? r.low[i] : *min;
        *max = r.high[i] > *max ? r.high[i] : *max;
    }
}

edge_status ew_run_dynamic_quantize_linear(ew_call *call) {
    ew_tensor *x = ew_in(call, 0), *y = ew_out(call, 0), *y_scale = ew_out(call, 1), *y_zero = ew_out(call, 2);
    float min, max;
    range_of(call, x, &min, &max);
    float scale = (max - min) / 255.0f, start = ew_round(0.0f - min / scale);
    uint8_t zero = !(start > 0) ? 0 : start > 255 ? 255 : (uint8_t)start;
    if (y_scale) *(float *)y_scale->data = scale;
    if (y_zero) *(uint8_t *)y_zero->data = zero;
    if (y) run_bytes(call, EDGE_QUANTIZE, &(edge_grid){scale, zero, 0}, x, y);
    return EDGE_OK;
}
