#include "elementwise.h"

#include <math.h>

#include "edge_math.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "elementwise.inc"
#undef EW_OP

edge_status ew_infer_unary(ew_call *call) {
    EW_TRY(ew_expect(call, 1, 1, 1));
    return ew_out(call, 0) ? ew_same(ew_out(call, 0), ew_in(call, 0)) : EDGE_OK;
}

edge_status ew_infer_predicate(ew_call *call) {
    EW_TRY(ew_expect(call, 1, 1, 1));
    ew_tensor *in = ew_in(call, 0), *out = ew_out(call, 0);
    return out ? ew_shape(out, EDGE_BOOL, in->rank, in->dims) : EDGE_OK;
}

#define FORMULA(name, of_f64)                                                                     \
    static double name##_f64(double x, double alpha, double beta) { return (void)alpha, (void)beta, of_f64; } \
    static const ew_formula name##_formula = {.f64 = name##_f64};

/* f32 by a loop of its own. */
#define FLOAT_UNARY(name, of_f32, of_f64)                                      \
    FORMULA(name, of_f64)                                                      \
    EW_KERNEL1(name##_f32, float, float, of_f32)                               \
    edge_status ew_run_##name(ew_call *call) {                                 \
        return ew_run_formula(call, &name##_formula, name##_f32, NULL);        \
    }

/* f32 by the kernels. */
#define MAPPED(name, op, of_f64) \
    FORMULA(name, of_f64)        \
    edge_status ew_run_##name(ew_call *call) { return ew_run_map(call, &name##_formula, op); }

/* Rare: every dtype in f64. */
#define REAL_UNARY(name, of_f64) \
    FORMULA(name, of_f64)        \
    edge_status ew_run_##name(ew_call *call) { return ew_run_formula(call, &name##_formula, NULL, NULL); }

FLOAT_UNARY(ceil, ew_ceil(x), ceil(x))
FLOAT_UNARY(floor, ew_floor(x), floor(x))
FLOAT_UNARY(round, ew_round(x), nearbyint(x))
FLOAT_UNARY(reciprocal, 1.0f / x, 1.0 / x)
FLOAT_UNARY(sqrt, sqrtf(x), sqrt(x))
FLOAT_UNARY(log, ew_log(x), log(x))
MAPPED(exp, EDGE_EXP, exp(x))
MAPPED(tanh, EDGE_TANH, tanh(x))
MAPPED(erf, EDGE_ERF, erf(x))
REAL_UNARY(sin, sin(x))
REAL_UNARY(cos, cos(x))
REAL_UNARY(tan, tan(x))
REAL_UNARY(asin, asin(x))
REAL_UNARY(acos, acos(x))
REAL_UNARY(atan, atan(x))
REAL_UNARY(sinh, sinh(x))
REAL_UNARY(cosh, cosh(x))
REAL_UNARY(asinh, asinh(x))
REAL_UNARY(acosh, acosh(x))
REAL_UNARY(atanh, atanh(x))

#define SIGN(x) (((x) > 0) - ((x) < 0))

EW_KERNEL1(abs_f32, float, float, ew_abs(x))
EW_RARE1(abs_f64, double, double, fabs(x))
EW_RARE1(abs_s64, int64_t, uint64_t, x < 0 ? 0 - (uint64_t)x : (uint64_t)x)
EW_RARE1(abs_u64, uint64_t, uint64_t, x)
EW_KERNEL1(neg_f32, float, float, -x)
EW_RARE1(neg_f64, double, double, -x)
EW_RARE1(neg_s64, uint64_t, uint64_t, 0 - x)
EW_RARE1(sign_f64, double, double, x != x ? x : SIGN(x))
EW_RARE1(sign_s64, int64_t, int64_t, SIGN(x))
EW_RARE1(sign_u64, uint64_t, uint64_t, x != 0)
EW_RARE1(bitwise_not_s64, uint64_t, uint64_t, ~x)
EW_KERNEL1(not_bool, uint8_t, uint8_t, x == 0)
EW_RARE1(is_nan_f64, double, uint8_t, x != x)

edge_status ew_run_abs(ew_call *call) {
    static const ew_kernels kernels = {abs_f32, abs_f64, abs_s64, abs_u64};
    return ew_run_kernels(call, 1, &kernels, NULL);
}

edge_status ew_run_neg(ew_call *call) {
    static const ew_kernels kernels = {neg_f32, neg_f64, neg_s64, NULL};
    return ew_run_kernels(call, 1, &kernels, NULL);
}

edge_status ew_run_sign(ew_call *call) {
    static const ew_kernels kernels = {NULL, sign_f64, sign_s64, sign_u64};
    return ew_run_kernels(call, 1, &kernels, NULL);
}

edge_status ew_run_bitwise_not(ew_call *call) {
    static const ew_kernels kernels = {.s64 = bitwise_not_s64};
    return ew_run_kernels(call, 1, &kernels, NULL);
}

edge_status ew_run_not(ew_call *call) { return ew_run_stored(call, 1, not_bool); }

edge_status ew_run_is_nan(ew_call *call) {
    static const ew_kernels kernels = {.f64 = is_nan_f64};
    return ew_run_truth(call, 1, &kernels, false, NULL);
}

static void is_inf_f64(const void *const *in, void *out, int n, const ew_params *params) {
    const double *x = in[0];
    uint8_t *y = out, positive = params->positive != 0, negative = params->negative != 0;
    for (int i = 0; i < n; i++)
        y[i] = (uint8_t)(((x[i] == (double)INFINITY) & positive) | ((x[i] == -(double)INFINITY) & negative));
}

edge_status ew_run_is_inf(ew_call *call) {
    static const ew_kernels kernels = {.f64 = is_inf_f64};
    ew_params params = {.positive = ew_attr_int(call->node, "detect_positive", 1),
                        .negative = ew_attr_int(call->node, "detect_negative", 1)};
    return ew_run_truth(call, 1, &kernels, false, &params);
}
