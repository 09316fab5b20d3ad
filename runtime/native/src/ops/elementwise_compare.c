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
/* f32 is compared as f64. */
EW_RARE2(equal_f64, double, uint8_t, u == v)
EW_RARE2(equal_s64, int64_t, uint8_t, u == v)
EW_RARE2(less_f64, double, uint8_t, u < v)
EW_RARE2(less_s64, int64_t, uint8_t, u < v)
EW_RARE2(less_u64, uint64_t, uint8_t, u < v)
EW_RARE2(less_or_equal_f64, double, uint8_t, u <= v)
EW_RARE2(less_or_equal_s64, int64_t, uint8_t, u <= v)
EW_RARE2(less_or_equal_u64, uint64_t, uint8_t, u <= v)

EW_RARE2(bitwise_and_s64, uint64_t, uint64_t, u & v)
EW_RARE2(bitwise_or_s64, uint64_t, uint64_t, u | v)
EW_RARE2(bitwise_xor_s64, uint64_t, uint64_t, u ^ v)

static const ew_kernels equal = {.f64 = equal_f64, .s64 = equal_s64};
static const ew_kernels less = {.f64 = less_f64, .s64 = less_s64, .u64 = less_u64};
static const ew_kernels less_or_equal = {
    .f64 = less_or_equal_f64, .s64 = less_or_equal_s64, .u64 = less_or_equal_u64};

edge_status ew_run_equal(ew_call *call) { return ew_run_truth(call, 2, &equal, false, NULL); }

edge_status ew_run_less(ew_call *call) { return ew_run_truth(call, 2, &less, false, NULL); }

edge_status ew_run_less_or_equal(ew_call *call) { return ew_run_truth(call, 2, &less_or_equal, false, NULL); }

edge_status ew_run_greater(ew_call *call) { return ew_run_truth(call, 2, &less, true, NULL); }

edge_status ew_run_greater_or_equal(ew_call *call) { return ew_run_truth(call, 2, &less_or_equal, true, NULL); }

edge_status ew_run_and(ew_call *call) { return ew_run_stored(call, 2, and_bool); }

edge_status ew_run_or(ew_call *call) { return ew_run_stored(call, 2, or_bool); }

edge_status ew_run_xor(ew_call *call) { return ew_run_stored(call, 2, xor_bool); }

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
