#include "elementwise.h"

#include <float.h>
#include <math.h>

#include "edge_math.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "elementwise.inc"
#undef EW_OP

/* Alpha and beta are the attributes of those names, or their defaults. */
typedef struct activation {
    ew_formula formula;
    const char *alpha, *beta;
    float alpha_default, beta_default;
} activation;

static edge_status activate(ew_call *call, const activation *a, ew_kernel f32) {
    ew_params params = {.alpha = (double)ew_attr_float(call->node, a->alpha, a->alpha_default),
                        .beta = (double)ew_attr_float(call->node, a->beta, a->beta_default)};
    return ew_run_formula(call, &a->formula, f32, &params);
}

#define FORMULA_F64(name, of_f64) \
    static double name##_f64(double x, double alpha, double beta) { return (void)alpha, (void)beta, of_f64; }

#define RUN(name, each_f32, f32, ...)                                         \
    edge_status ew_run_##name(ew_call *call) {                                \
        static const activation a = {{each_f32, name##_f64}, __VA_ARGS__};    \
        return activate(call, &a, f32);                                       \
    }

/* f32 by a loop of its own. */
#define ACTIVATION(name, of_f32, of_f64, ...)      \
    FORMULA_F64(name, of_f64)                      \
    EW_KERNEL1P(name##_f32, float, float, of_f32)  \
    RUN(name, NULL, name##_f32, __VA_ARGS__)

/* Rarer: element by element. */
#define RARE_ACTIVATION(name, of_f32, of_f64, ...)                                                           \
    FORMULA_F64(name, of_f64)                                                                                \
    static float name##_f32(float x, float alpha, float beta) { return (void)alpha, (void)beta, of_f32; }    \
    RUN(name, name##_f32, NULL, __VA_ARGS__)

static double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

static double sigmoid(double x) {
    double t = exp(-fabs(x));
    return (x < 0 ? t : 1) / (1 + t);
}

static float softplus_f32_of(float x) { return ew_pick(x > 0, x, 0) + ew_log1p_of_fraction(ew_exp(-ew_abs(x))); }

static double softplus_f64_of(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

/* tanh(log(1 + e)) = ((1 + e)^2 - 1) / ((1 + e)^2 + 1); beyond 20 it is 1. */
static float mish_f32_of(float x) {
    float e = ew_exp(ew_pick(x > 20.0f, 20.0f, x)), n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}

static float celu_f32_of(float x, float alpha) {
    float low = alpha * ew_expm1(x / alpha);
    return ew_pick(x > 0, x, 0) + ew_pick(low < 0, low, 0) + ew_pick(x != x, x, 0);
}

static double celu_f64_of(double x, double alpha) {
    double low = alpha * expm1(x / alpha);
    return x != x ? x : (x > 0 ? x : 0) + (low < 0 ? low : 0);
}

static float gelu_tanh_f32_of(float x) {
    return 0.5f * x * (1.0f + ew_tanh(0.797884561f * (x + 0.044715f * x * x * x)));
}

static double gelu_tanh_f64_of(double x) {
    return 0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

ACTIVATION(leaky_relu, ew_pick(x < 0, alpha * x, x), x < 0 ? alpha * x : x, "alpha", "", 0.01f, 0)
ACTIVATION(hard_sigmoid, ew_clamp(alpha * x + beta, 0, 1), clamp(alpha * x + beta, 0, 1), "alpha", "beta", 0.2f, 0.5f)
ACTIVATION(hard_swish, x * ew_clamp(x * (1.0f / 6.0f) + 0.5f, 0, 1), x * clamp(x / 6 + 0.5, 0, 1), "", "", 0, 0)
ACTIVATION(swish, x * ew_sigmoid(alpha * x), x * sigmoid(alpha * x), "alpha", "", 1, 0)
RARE_ACTIVATION(elu, x < 0 ? alpha * ew_expm1(x) : x, x < 0 ? alpha * expm1(x) : x, "alpha", "", 1, 0)
RARE_ACTIVATION(selu, beta * (x > 0 ? x : alpha * ew_expm1(x)), beta * (x > 0 ? x : alpha * expm1(x)), "alpha", "gamma",
                1.67326319217681884765625f, 1.05070102214813232421875f)
RARE_ACTIVATION(celu, celu_f32_of(x, alpha), celu_f64_of(x, alpha), "alpha", "", 1, 0)
RARE_ACTIVATION(thresholded_relu, x > alpha ? x : 0, x > alpha ? x : 0, "alpha", "", 1, 0)
RARE_ACTIVATION(shrink, x < -alpha ? x + beta : x > alpha ? x - beta : 0,
                x < -alpha ? x + beta : x > alpha ? x - beta : 0, "lambd", "bias", 0.5f, 0)
RARE_ACTIVATION(mish, mish_f32_of(x), x * tanh(softplus_f64_of(x)), "", "", 0, 0)
RARE_ACTIVATION(softplus, softplus_f32_of(x), softplus_f64_of(x), "", "", 0, 0)
RARE_ACTIVATION(softsign, x / (1.0f + ew_abs(x)), x / (1 + fabs(x)), "", "", 0, 0)

FORMULA_F64(sigmoid, sigmoid(x))
FORMULA_F64(gelu_tanh, gelu_tanh_f64_of(x))
EW_KERNEL1(gelu_tanh_f32, float, float, gelu_tanh_f32_of(x))
FORMULA_F64(gelu, 0.5 * x * erfc(x * -0.70710678118654752440))

edge_status ew_run_sigmoid(ew_call *call) {
    static const ew_formula formula = {.f64 = sigmoid_f64};
    return ew_run_map(call, &formula, EDGE_SIGMOID);
}

EW_KERNEL1(relu_f32, float, float, ew_pick(x < 0, 0, x))
EW_RARE1(relu_f64, double, double, x < 0 ? 0 : x)
EW_RARE1(relu_s64, int64_t, int64_t, x < 0 ? 0 : x)

edge_status ew_run_relu(ew_call *call) {
    static const ew_kernels kernels = {relu_f32, relu_f64, relu_s64, NULL};
    return ew_run_kernels(call, 1, &kernels, NULL);
}

edge_status ew_infer_gelu(ew_call *call) {
    const char *form = ew_attr_string(call->node, "approximate", "none");
    if (strcmp(form, "none") && strcmp(form, "tanh"))
        return ew_fail(EDGE_INVALID_MODEL, "approximate is '%s', it must be none or tanh", form);
    return ew_infer_unary(call);
}

edge_status ew_run_gelu(ew_call *call) {
    static const ew_formula exact = {.f64 = gelu_f64}, by_tanh = {.f64 = gelu_tanh_f64};
    if (strcmp(ew_attr_string(call->node, "approximate", "none"), "tanh") == 0)
        return ew_run_formula(call, &by_tanh, gelu_tanh_f32, NULL);
    return ew_run_map(call, &exact, EDGE_GELU);
}

edge_status ew_infer_swiglu(ew_call *call) {
    EW_TRY(ew_infer_binary(call));
    const ew_tensor *gate = ew_in(call, 0), *value = ew_in(call, 1);
    if (gate->rank != value->rank || memcmp(gate->dims, value->dims, (size_t)gate->rank * sizeof *gate->dims))
        return ew_fail(EDGE_SHAPE_MISMATCH, "the inputs of SwiGLU must have the same shape");
    return EDGE_OK;
}

EW_KERNEL2(swiglu_f32, float, float, u * ew_sigmoid((float)params->alpha * u) * v)
EW_RARE2(swiglu_f64, double, double, u * sigmoid(params->alpha * u) * v)

edge_status ew_run_swiglu(ew_call *call) {
    static const ew_kernels kernels = {.f32 = swiglu_f32, .f64 = swiglu_f64};
    ew_params params = {.alpha = (double)ew_attr_float(call->node, "alpha", 1.0f)};
    return ew_run_kernels(call, 2, &kernels, &params);
}

edge_status ew_infer_clip(ew_call *call) {
    EW_TRY(ew_expect(call, 1, 3, 1));
    EW_TRY(ew_expect_one_dtype(call, 0, 3));
    for (int i = 1; i < 3; i++) {
        const ew_tensor *bound = ew_in(call, i);
        if (bound && ew_count(bound) != 1)
            return ew_fail(EDGE_SHAPE_MISMATCH, "bound %d of Clip has %lld elements, it must be a scalar", i,
                           (long long)ew_count(bound));
    }
    return ew_out(call, 0) ? ew_same(ew_out(call, 0), ew_in(call, 0)) : EDGE_OK;
}

/* Min(max, Max(x, min)) */
#define CLIP(name, T, expression)                                                                             \
    static void name(const void *const *in, void *out, int n, const ew_params *params) {                      \
        const T *a = in[0], *min = in[1], *max = in[2];                                                       \
        T *y = out;                                                                                           \
        (void)params;                                                                                         \
        for (int i = 0; i < n; i += EW_LANES, a += EW_LANES, min += EW_LANES, max += EW_LANES, y += EW_LANES) \
            EW_EACH_LANE {                                                                                    \
                T x = a[j], low = min[j], high = max[j];                                                      \
                y[j] = (expression);                                                                          \
            }                                                                                                 \
    }
CLIP(clip_f32, float, ew_clamp(x, low, high))
CLIP(clip_f64, double, (x = x < low ? low : x, x > high ? high : x))
CLIP(clip_s64, int64_t, (x = x < low ? low : x, x > high ? high : x))
CLIP(clip_u64, uint64_t, (x = x < low ? low : x, x > high ? high : x))

/* views[0] is made here. */
static edge_status clip(ew_call *call, ew_view views[3]) {
    static const ew_kernels kernels = {clip_f32, clip_f64, clip_s64, clip_u64};
    ew_tensor *in = ew_in(call, 0), *out = ew_out(call, 0);
    if (!out) return EDGE_OK;
    ew_view_of(&views[0], in, out);
    edge_dtype work = ew_work_dtype(in->dtype);
    ew_walk_run(&(ew_walk){.call = call, .views = views, .count = 3, .work = work, .result = work,
                           .kernel = ew_pick_kernel(&kernels, work), .out = out});
    return EDGE_OK;
}

edge_status ew_run_clip_6(ew_call *call) {
    float min = ew_attr_float(call->node, "min", -FLT_MAX), max = ew_attr_float(call->node, "max", FLT_MAX);
    ew_view views[3];
    ew_view_constant(&views[1], EDGE_F32, &min);
    ew_view_constant(&views[2], EDGE_F32, &max);
    return clip(call, views);
}

edge_status ew_run_clip(ew_call *call) {
    ew_tensor *in = ew_in(call, 0), *min = ew_in(call, 1), *max = ew_in(call, 2);
    /* A conversion to s64 makes the infinities the bounds of s64, to u64 it makes a negative number a large one. */
    const double lowest = in->dtype == EDGE_U64 ? 0 : -INFINITY, highest = INFINITY;
    ew_view views[3];
    ew_view_constant(&views[1], min ? min->dtype : EDGE_F64, min ? min->data : &lowest);
    ew_view_constant(&views[2], max ? max->dtype : EDGE_F64, max ? max->data : &highest);
    return clip(call, views);
}
