/* Arithmetic of two and more operands that broadcast. */
#include "elementwise.h"

#include <limits.h>
#include <math.h>

#include "edge_math.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "elementwise.inc"
#undef EW_OP

edge_status ew_infer_binary(ew_call *call) {
    EW_TRY(ew_expect(call, 2, 2, 1));
    EW_TRY(ew_expect_one_dtype(call, 0, 2));
    return ew_infer_broadcast(call, ew_in(call, 0)->dtype, 2);
}

edge_status ew_infer_variadic(ew_call *call) {
    EW_TRY(ew_expect(call, call->in_count > 1 ? call->in_count : 1, INT_MAX, 1));
    EW_TRY(ew_expect_one_dtype(call, 0, call->in_count));
    return ew_infer_broadcast(call, ew_in(call, 0)->dtype, call->in_count);
}

edge_status ew_infer_mod(ew_call *call) {
    int64_t fmod = ew_attr_int(call->node, "fmod", 0);
    if (fmod != 0 && fmod != 1) return ew_fail(EDGE_INVALID_MODEL, "fmod is %lld, it must be 0 or 1", (long long)fmod);
    return ew_infer_binary(call);
}

edge_status ew_infer_bit_shift(ew_call *call) {
    const char *direction = ew_attr_string(call->node, "direction", "");
    if (strcmp(direction, "LEFT") && strcmp(direction, "RIGHT"))
        return ew_fail(EDGE_INVALID_MODEL, "direction is '%s', it must be LEFT or RIGHT", direction);
    return ew_infer_binary(call);
}

edge_status ew_infer_pow(ew_call *call) {
    EW_TRY(ew_expect(call, 2, 2, 1));
    edge_dtype exponent = ew_in(call, 1)->dtype;
    if (!(EW_NUMBERS & EW_T(exponent)))
        return ew_fail(EDGE_INVALID_MODEL, "the exponent of Pow has dtype %s, it must be a number",
                       ew_dtype_name(exponent));
    return ew_infer_broadcast(call, ew_in(call, 0)->dtype, 2);
}

edge_status ew_infer_prelu(ew_call *call) {
    EW_TRY(ew_infer_binary(call));
    const ew_tensor *x = ew_in(call, 0), *out = ew_out(call, 0);
    if (out && (out->rank != x->rank || memcmp(out->dims, x->dims, (size_t)x->rank * sizeof *x->dims)))
        return ew_fail(EDGE_SHAPE_MISMATCH, "the slope of PRelu does not broadcast to the shape of its input");
    return EDGE_OK;
}

static uint64_t divide_s64(int64_t u, int64_t v) {
    if (v == 0) return 0;
    return v == -1 ? 0 - (uint64_t)u : (uint64_t)(u / v);
}

static int64_t remainder_s64(int64_t u, int64_t v) { return v == 0 || v == -1 ? 0 : u % v; }

/* The sign of the divisor, as Python's. */
static int64_t modulo_s64(int64_t u, int64_t v) {
    int64_t r = remainder_s64(u, v);
    return r != 0 && (r < 0) != (v < 0) ? r + v : r;
}

static double modulo_f64(double u, double v) {
    double r = fmod(u, v);
    if (r == 0) return copysign(0.0, v);
    return (r < 0) != (v < 0) ? r + v : r;
}

static uint64_t shift_left(uint64_t u, uint64_t v) { return v > 63 ? 0 : u << v; }

/* Every narrower value is sign-extended, so that 63 stands for its own width and more. */
static int64_t shift_right(int64_t u, uint64_t v) { return u >> (v > 63 ? 63 : v); }

/* Modulo 2^64; a negative exponent rounds the exact result towards zero. */
static uint64_t power(uint64_t base, uint64_t exponent) {
    uint64_t result = 1;
    for (; exponent; exponent >>= 1, base *= base) {
        if (exponent & 1) result *= base;
    }
    return result;
}

static uint64_t power_s64(int64_t base, int64_t exponent) {
    if (exponent >= 0) return power((uint64_t)base, (uint64_t)exponent);
    if (base == 1) return 1;
    if (base == -1) return exponent & 1 ? (uint64_t)-1 : 1;
    return 0;
}

EW_KERNEL2(add_f32, float, float, u + v)
EW_RARE2(add_f64, double, double, u + v)
EW_RARE2(add_s64, uint64_t, uint64_t, u + v)
EW_KERNEL2(sub_f32, float, float, u - v)
EW_RARE2(sub_f64, double, double, u - v)
EW_RARE2(sub_s64, uint64_t, uint64_t, u - v)
EW_KERNEL2(mul_f32, float, float, u * v)
EW_RARE2(mul_f64, double, double, u * v)
EW_RARE2(mul_s64, uint64_t, uint64_t, u * v)
EW_KERNEL2(div_f32, float, float, u / v)
EW_RARE2(div_f64, double, double, u / v)
EW_RARE2(div_s64, int64_t, uint64_t, divide_s64(u, v))
EW_RARE2(div_u64, uint64_t, uint64_t, v ? u / v : 0)
EW_RARE2(mod_f64, double, double, modulo_f64(u, v))
EW_RARE2(mod_s64, int64_t, int64_t, modulo_s64(u, v))
EW_RARE2(mod_u64, uint64_t, uint64_t, v ? u % v : 0)
EW_RARE2(fmod_f64, double, double, fmod(u, v))
EW_RARE2(fmod_s64, int64_t, int64_t, remainder_s64(u, v))
EW_KERNEL2(max_f32, float, float, ew_pick((u >= v) | (u != u), u, v))
EW_RARE2(max_f64, double, double, u >= v || u != u ? u : v)
EW_RARE2(max_s64, int64_t, int64_t, u > v ? u : v)
EW_RARE2(max_u64, uint64_t, uint64_t, u > v ? u : v)
EW_KERNEL2(min_f32, float, float, ew_pick((u <= v) | (u != u), u, v))
EW_RARE2(min_f64, double, double, u <= v || u != u ? u : v)
EW_RARE2(min_s64, int64_t, int64_t, u < v ? u : v)
EW_RARE2(min_u64, uint64_t, uint64_t, u < v ? u : v)
EW_KERNEL2(prelu_f32, float, float, ew_pick(u < 0, u * v, u))
EW_RARE2(prelu_f64, double, double, u < 0 ? u * v : u)
EW_RARE2(prelu_s64, int64_t, uint64_t, u < 0 ? (uint64_t)u * (uint64_t)v : (uint64_t)u)
EW_RARE2(prelu_u64, uint64_t, uint64_t, ((void)v, u))
EW_RARE2(shift_left_s64, uint64_t, uint64_t, shift_left(u, v))
EW_RARE2(shift_right_s64, int64_t, int64_t, shift_right(u, (uint64_t)v))
EW_RARE2(shift_right_u64, uint64_t, uint64_t, v > 63 ? 0 : u >> v)
EW_RARE2(pow_f32, float, float, powf(u, v))
EW_RARE2(pow_f64, double, double, pow(u, v))
EW_RARE2(pow_f64_s32, double, int64_t, (int32_t)fmax(INT32_MIN, fmin(INT32_MAX, (double)ew_to_s64(pow(u, v)))))
EW_RARE2(pow_f64_s64, double, int64_t, ew_to_s64(pow(u, v)))
EW_RARE2(pow_s64, int64_t, uint64_t, power_s64(u, v))
EW_RARE2(pow_u64, uint64_t, uint64_t, power(u, v))
EW_KERNEL1(square_f32, float, float, x * x)
EW_RARE1(square_f64, double, double, x * x)
EW_KERNEL1P(divide_f32, float, float, x / alpha)
EW_RARE1(divide_f64, double, double, x / params->alpha)

#define BINARY(name, ...)                                \
    edge_status ew_run_##name(ew_call *call) {           \
        static const ew_kernels kernels = {__VA_ARGS__}; \
        return ew_run_kernels(call, 2, &kernels, NULL);  \
    }
BINARY(add, add_f32, add_f64, add_s64, NULL)
BINARY(sub, sub_f32, sub_f64, sub_s64, NULL)
BINARY(mul, mul_f32, mul_f64, mul_s64, NULL)
BINARY(div, div_f32, div_f64, div_s64, div_u64)
BINARY(prelu, prelu_f32, prelu_f64, prelu_s64, prelu_u64)

const ew_kernels ew_max_kernels = {max_f32, max_f64, max_s64, max_u64};
const ew_kernels ew_min_kernels = {min_f32, min_f64, min_s64, min_u64};

edge_status ew_run_mod(ew_call *call) {
    static const ew_kernels floored = {NULL, mod_f64, mod_s64, mod_u64};
    static const ew_kernels truncated = {NULL, fmod_f64, fmod_s64, mod_u64};
    return ew_run_kernels(call, 2, ew_attr_int(call->node, "fmod", 0) ? &truncated : &floored, NULL);
}

edge_status ew_run_bit_shift(ew_call *call) {
    static const ew_kernels left = {.s64 = shift_left_s64}, right = {.s64 = shift_right_s64, .u64 = shift_right_u64};
    bool to_left = strcmp(ew_attr_string(call->node, "direction", ""), "LEFT") == 0;
    return ew_run_kernels(call, 2, to_left ? &left : &right, NULL);
}

/* Integers to integers are computed in integers; everything wider than f32 is computed in f64. */
static void pick_power(ew_walk *walk, edge_dtype base, edge_dtype exponent) {
    bool to_integer = base == EDGE_S32 || base == EDGE_S64, by_float = (EW_FLOATS & EW_T(exponent)) != 0;
    if (to_integer && !by_float) {
        walk->work = walk->result = EDGE_S64;
        walk->kernel = exponent == EDGE_U64 ? pow_u64 : pow_s64;
    } else if (to_integer) {
        walk->work = EDGE_F64;
        walk->result = EDGE_S64;
        walk->kernel = base == EDGE_S32 ? pow_f64_s32 : pow_f64_s64;
    } else if (base != EDGE_F64 && by_float && exponent != EDGE_F64) {
        walk->work = walk->result = EDGE_F32;
        walk->kernel = pow_f32;
    } else {
        walk->work = walk->result = EDGE_F64;
        walk->kernel = pow_f64;
    }
}

edge_status ew_run_pow(ew_call *call) {
    static const ew_kernels square = {.f32 = square_f32, .f64 = square_f64};
    ew_tensor *base = ew_in(call, 0), *exponent = ew_in(call, 1), *out = ew_out(call, 0);
    if (!out) return EDGE_OK;
    bool squares = ew_count(exponent) == 1 && ew_get(exponent, 0) == 2;
    if (squares && EW_FLOATS & EW_T(base->dtype)) return ew_run_kernels(call, 1, &square, NULL);
    ew_view views[2];
    ew_view_of(&views[0], base, out);
    ew_view_of(&views[1], exponent, out);
    ew_walk walk = {.call = call, .views = views, .count = 2, .out = out};
    pick_power(&walk, base->dtype, exponent->dtype);
    ew_walk_run(&walk);
    return EDGE_OK;
}

size_t ew_workspace_variadic(const ew_call *call) { return (size_t)call->in_count * sizeof(ew_view); }

static edge_status run_variadic(ew_call *call, const ew_kernels *kernels, const ew_kernels *last) {
    static const ew_kernels none = {0};
    ew_tensor *out = ew_out(call, 0);
    if (!out) return EDGE_OK;
    ew_view *views = call->workspace;
    for (int k = 0; k < call->in_count; k++) ew_view_of(&views[k], ew_in(call, k), out);
    edge_dtype work = ew_work_dtype(out->dtype);
    ew_params params = {.alpha = call->in_count};
    ew_walk_run(&(ew_walk){.call = call, .views = views, .count = call->in_count, .fold = true, .work = work,
                           .result = work, .kernel = ew_pick_kernel(kernels, work),
                           .last = ew_pick_kernel(last ? last : &none, work), .params = &params, .out = out});
    return EDGE_OK;
}

static const ew_kernels add_kernels = {add_f32, add_f64, add_s64, NULL};

edge_status ew_run_max(ew_call *call) { return run_variadic(call, &ew_max_kernels, NULL); }

edge_status ew_run_min(ew_call *call) { return run_variadic(call, &ew_min_kernels, NULL); }

edge_status ew_run_sum(ew_call *call) { return run_variadic(call, &add_kernels, NULL); }

edge_status ew_run_mean(ew_call *call) {
    static const ew_kernels divide = {.f32 = divide_f32, .f64 = divide_f64};
    return run_variadic(call, &add_kernels, &divide);
}
