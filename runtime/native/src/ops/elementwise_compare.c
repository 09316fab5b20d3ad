/* Operators of truth: comparisons, logic, bits, and the choice that depends on them. */
#include "elementwise.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "elementwise.inc"
#undef EW_OP

edge_status ew_infer_compare(ew_call *call) {
    EW_TRY(ew_expect(call, 2, 2, 1));
    EW_TRY(ew_expect_one_dtype(call, 0, 2));
    return ew_infer_broadcast(call, EDGE_BOOL, 2);
}

edge_status ew_infer_where(ew_call *call) {
    EW_TRY(ew_expect(call, 3, 3, 1));
    EW_TRY(ew_expect_one_dtype(call, 1, 3));
    return ew_infer_broadcast(call, ew_in(call, 1)->dtype, 3);
}

EW_KERNEL2(and_bool, uint8_t, uint8_t, (u != 0) & (v != 0))
EW_KERNEL2(or_bool, uint8_t, uint8_t, (u != 0) | (v != 0))
EW_KERNEL2(xor_bool, uint8_t, uint8_t, (u != 0) ^ (v != 0))
EW_KERNEL2(equal_f32, float, uint8_t, u == v)
EW_KERNEL2(equal_f64, double, uint8_t, u == v)
EW_KERNEL2(equal_s64, int64_t, uint8_t, u == v)
EW_KERNEL2(less_f32, float, uint8_t, u < v)
EW_KERNEL2(less_f64, double, uint8_t, u < v)
EW_KERNEL2(less_s64, int64_t, uint8_t, u < v)
EW_KERNEL2(less_u64, uint64_t, uint8_t, u < v)
EW_KERNEL2(less_or_equal_f32, float, uint8_t, u <= v)
EW_KERNEL2(less_or_equal_f64, double, uint8_t, u <= v)
EW_KERNEL2(less_or_equal_s64, int64_t, uint8_t, u <= v)
EW_KERNEL2(less_or_equal_u64, uint64_t, uint8_t, u <= v)
EW_KERNEL2(greater_f32, float, uint8_t, u > v)
EW_KERNEL2(greater_f64, double, uint8_t, u > v)
EW_KERNEL2(greater_s64, int64_t, uint8_t, u > v)
EW_KERNEL2(greater_u64, uint64_t, uint8_t, u > v)
EW_KERNEL2(greater_or_equal_f32, float, uint8_t, u >= v)
EW_KERNEL2(greater_or_equal_f64, double, uint8_t, u >= v)
EW_KERNEL2(greater_or_equal_s64, int64_t, uint8_t, u >= v)
EW_KERNEL2(greater_or_equal_u64, uint64_t, uint8_t, u >= v)

EW_KERNEL2(bitwise_and_s64, uint64_t, uint64_t, u & v)
EW_KERNEL2(bitwise_or_s64, uint64_t, uint64_t, u | v)
EW_KERNEL2(bitwise_xor_s64, uint64_t, uint64_t, u ^ v)

#define COMPARISON(name, ...)                                                     \
    edge_status ew_run_##name(ew_call *call) {                                    \
        static const ew_kernels kernels = {__VA_ARGS__};                          \
        edge_dtype work = ew_work_dtype(ew_in(call, 0)->dtype);                   \
        return ew_run_truth(call, 2, work, ew_pick_kernel(&kernels, work), NULL); \
    }
COMPARISON(equal, equal_f32, equal_f64, equal_s64, NULL)
COMPARISON(less, less_f32, less_f64, less_s64, less_u64)
COMPARISON(less_or_equal, less_or_equal_f32, less_or_equal_f64, less_or_equal_s64, less_or_equal_u64)
COMPARISON(greater, greater_f32, greater_f64, greater_s64, greater_u64)
COMPARISON(greater_or_equal, greater_or_equal_f32, greater_or_equal_f64, greater_or_equal_s64, greater_or_equal_u64)

edge_status ew_run_and(ew_call *call) { return ew_run_truth(call, 2, 0, and_bool, NULL); }

edge_status ew_run_or(ew_call *call) { return ew_run_truth(call, 2, 0, or_bool, NULL); }

edge_status ew_run_xor(ew_call *call) { return ew_run_truth(call, 2, 0, xor_bool, NULL); }

#define BITWISE(name)                                          \
    edge_status ew_run_##name(ew_call *call) {                 \
        static const ew_kernels kernels = {.s64 = name##_s64}; \
        return ew_run_kernels(call, 2, &kernels, NULL);        \
    }
BITWISE(bitwise_and)
BITWISE(bitwise_or)
BITWISE(bitwise_xor)

#define WHERE(T)                                                                                          \
    static void where_##T(const void *const *in, void *out, int n, const ew_params *params) {             \
        const uint8_t *c = in[0];                                                                         \
        const T *a = in[1], *b = in[2];                                                                   \
        T *y = out;                                                                                       \
        (void)params;                                                                                     \
        for (int i = 0; i < n; i += EW_LANES, a += EW_LANES, b += EW_LANES, c += EW_LANES, y += EW_LANES) \
            EW_EACH_LANE {                                                                                \
                T mask = (T)((T)0 - (T)(c[j] != 0)), u = a[j], v = b[j];                                  \
                y[j] = (T)((u & mask) | (v & (T)~mask));                                                  \
            }                                                                                             \
    }
WHERE(uint8_t)
WHERE(uint16_t)
WHERE(uint32_t)
WHERE(uint64_t)

edge_status ew_run_where(ew_call *call) {
    ew_tensor *out = ew_out(call, 0);
    if (!out) return EDGE_OK;
    ew_view views[3];
    for (int k = 0; k < 3; k++) ew_view_of(&views[k], ew_in(call, k), out);
    size_t bytes = ew_dtype_bytes(out->dtype);
    ew_kernel kernel = bytes == 1   ? where_uint8_t
                       : bytes == 2 ? where_uint16_t
                       : bytes == 4 ? where_uint32_t
                                    : where_uint64_t;
    ew_walk_run(&(ew_walk){.call = call, .views = views, .count = 3, .kernel = kernel, .out = out});
    return EDGE_OK;
}
