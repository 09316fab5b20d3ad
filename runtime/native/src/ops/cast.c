/* Conversions between dtypes, and the operators that are nothing else. */
#include "elementwise.h"
#include "edge_math.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "elementwise.inc"
#undef EW_OP

int64_t ew_to_s64(double x) {
    if (x != x) return 0;
    if (x >= 9223372036854775808.0) return INT64_MAX;
    return x < -9223372036854775808.0 ? INT64_MIN : (int64_t)x;
}

static uint64_t to_unsigned(double x) {
    if (x >= 18446744073709551616.0) return UINT64_MAX;
    return x > 0 ? (uint64_t)x : (uint64_t)ew_to_s64(x);
}

/* A float that is inexact with its last bit set: rounding it again gives what rounding x once gives. */
static uint16_t f64_to_f16(double x) {
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if (x == x && (double)f != x) {
        bool away = (f > 0 && (double)f > x) || (f < 0 && (double)f < x);
        bits = (bits - away) | 1u;
        memcpy(&f, &bits, 4);
    }
    return ew_narrow_half(f);
}

#define CONVERT(name, S, D, expression)                                                    \
    static void name(const void *from, void *to, int n) {                                  \
        const S *a = from;                                                                 \
        D *y = to;                                                                         \
        for (int i = 0; i < n; i += EW_LANES, a += EW_LANES, y += EW_LANES) EW_EACH_LANE { \
                S x = a[j];                                                                \
                y[j] = (D)(expression);                                                    \
            }                                                                              \
    }

/* Rare: the smallest. */
#define CONVERT_RARELY(name, S, D, expression)            \
    static void name(const void *from, void *to, int n) { \
        const S *a = from;                                \
        D *y = to;                                        \
        EW_PLAIN for (int i = 0; i < n; i++) {            \
            S x = a[i];                                   \
            y[i] = (D)(expression);                       \
        }                                                 \
    }

#define FROM_INTEGERS(CONVERT, D, to) \
    CONVERT(u8_##to, uint8_t, D, x)   \
    CONVERT(s8_##to, int8_t, D, x)    \
    CONVERT(u16_##to, uint16_t, D, x) \
    CONVERT(s16_##to, int16_t, D, x)  \
    CONVERT(u32_##to, uint32_t, D, x) \
    CONVERT(s32_##to, int32_t, D, x)  \
    CONVERT(bool_##to, uint8_t, D, x != 0)

FROM_INTEGERS(CONVERT, float, f32)
CONVERT_RARELY(u64_f32, uint64_t, float, x)
CONVERT(s64_f32, int64_t, float, x)
CONVERT(f16_f32, uint16_t, float, ew_widen_half(x))
CONVERT(f64_f32, double, float, x)

FROM_INTEGERS(CONVERT_RARELY, double, f64)
CONVERT_RARELY(u64_f64, uint64_t, double, x)
CONVERT_RARELY(s64_f64, int64_t, double, x)
CONVERT_RARELY(f16_f64, uint16_t, double, ew_widen_half(x))
CONVERT(f32_f64, float, double, x)

FROM_INTEGERS(CONVERT_RARELY, int64_t, s64)
CONVERT_RARELY(f16_s64, uint16_t, int64_t, ew_to_s64(ew_widen_half(x)))
CONVERT_RARELY(f32_s64, float, int64_t, ew_to_s64(x))
CONVERT_RARELY(f64_s64, double, int64_t, ew_to_s64(x))

CONVERT_RARELY(f16_u64, uint16_t, uint64_t, to_unsigned(ew_widen_half(x)))
CONVERT_RARELY(f32_u64, float, uint64_t, to_unsigned(x))
CONVERT_RARELY(f64_u64, double, uint64_t, to_unsigned(x))

CONVERT_RARELY(f16_truth, uint16_t, uint8_t, (x & 0x7fff) != 0)
CONVERT_RARELY(f32_truth, float, uint8_t, x != 0)
CONVERT_RARELY(f64_truth, double, uint8_t, x != 0)
CONVERT_RARELY(i8_truth, uint8_t, uint8_t, x != 0)
CONVERT_RARELY(i16_truth, uint16_t, uint8_t, x != 0)
CONVERT_RARELY(i32_truth, uint32_t, uint8_t, x != 0)
CONVERT_RARELY(i64_truth, uint64_t, uint8_t, x != 0)

CONVERT_RARELY(i64_i8, uint64_t, uint8_t, x)
CONVERT_RARELY(i64_i16, uint64_t, uint16_t, x)
CONVERT_RARELY(i64_i32, uint64_t, uint32_t, x)
CONVERT(f32_f16, float, uint16_t, ew_narrow_half(x))
CONVERT_RARELY(f64_f16, double, uint16_t, f64_to_f16(x))

#define INTEGERS_TO(to)                                                                     \
    [EDGE_U8] = u8_##to, [EDGE_S8] = s8_##to, [EDGE_U16] = u16_##to, [EDGE_S16] = s16_##to, \
    [EDGE_U32] = u32_##to, [EDGE_S32] = s32_##to, [EDGE_BOOL] = bool_##to

static const ew_convert to_f32[EDGE_U64 + 1] = {
    INTEGERS_TO(f32), [EDGE_U64] = u64_f32, [EDGE_S64] = s64_f32, [EDGE_F16] = f16_f32, [EDGE_F64] = f64_f32};
static const ew_convert to_f64[EDGE_U64 + 1] = {
    INTEGERS_TO(f64), [EDGE_U64] = u64_f64, [EDGE_S64] = s64_f64, [EDGE_F16] = f16_f64, [EDGE_F32] = f32_f64};
static const ew_convert to_s64[EDGE_U64 + 1] = {
    INTEGERS_TO(s64), [EDGE_F16] = f16_s64, [EDGE_F32] = f32_s64, [EDGE_F64] = f64_s64};
static const ew_convert to_u64[EDGE_U64 + 1] = {
    INTEGERS_TO(s64), [EDGE_F16] = f16_u64, [EDGE_F32] = f32_u64, [EDGE_F64] = f64_u64};
static const ew_convert to_truth[EDGE_U64 + 1] = {
    [EDGE_F16] = f16_truth, [EDGE_F32] = f32_truth, [EDGE_F64] = f64_truth, [EDGE_U8] = i8_truth,
    [EDGE_S8] = i8_truth, [EDGE_U16] = i16_truth, [EDGE_S16] = i16_truth, [EDGE_U32] = i32_truth,
    [EDGE_S32] = i32_truth, [EDGE_U64] = i64_truth, [EDGE_S64] = i64_truth, [EDGE_BOOL] = i8_truth};

edge_dtype ew_work_dtype(edge_dtype stored) {
    switch (stored) {
    case EDGE_F16:
    case EDGE_F32: return EDGE_F32;
    case EDGE_F64: return EDGE_F64;
    case EDGE_U64: return EDGE_U64;
    default: return EDGE_S64;
    }
}

ew_convert ew_to_work(edge_dtype stored, edge_dtype work) {
    switch (work) {
    case EDGE_F32: return to_f32[stored];
    case EDGE_F64: return to_f64[stored];
    case EDGE_U64: return to_u64[stored];
    case EDGE_BOOL: return to_truth[stored];
    default: return to_s64[stored];
    }
}

ew_convert ew_from_work(edge_dtype work, edge_dtype stored) {
    if (stored == EDGE_F16) return work == EDGE_F64 ? f64_f16 : f32_f16;
    if (stored == EDGE_F32) return to_f32[work];
    if (stored == EDGE_F64) return to_f64[work];
    switch (ew_dtype_bytes(stored)) {
    case 1: return i64_i8;
    case 2: return i64_i16;
    case 4: return i64_i32;
    default: return NULL;
    }
}

static edge_status infer_to(ew_call *call, int64_t to) {
    edge_dtype dtype;
    ew_tensor *in = ew_in(call, 0), *out = ew_out(call, 0);
    EW_TRY(ew_dtype_of(call, to, &dtype));
    return out ? ew_shape(out, dtype, in->rank, in->dims) : EDGE_OK;
}

edge_status ew_infer_cast(ew_call *call) {
    EW_TRY(ew_expect(call, 1, 1, 1));
    return infer_to(call, ew_attr_int(call->node, "to", 0));
}

edge_status ew_infer_cast_like(ew_call *call) {
    EW_TRY(ew_expect(call, 2, 2, 1));
    return infer_to(call, ew_in(call, 1)->dtype);
}

edge_status ew_infer_bit_cast(ew_call *call) {
    EW_TRY(ew_infer_cast(call));
    edge_dtype from = ew_in(call, 0)->dtype, to = from;
    EW_TRY(ew_dtype_of(call, ew_attr_int(call->node, "to", 0), &to));
    if (ew_dtype_bytes(from) != ew_dtype_bytes(to))
        return ew_fail(EDGE_INVALID_MODEL, "BitCast from %s to %s, the widths must be the same", ew_dtype_name(from),
                       ew_dtype_name(to));
    return EDGE_OK;
}

edge_status ew_run_bit_cast(ew_call *call) {
    ew_tensor *in = ew_in(call, 0), *out = ew_out(call, 0);
    if (out && out->data != in->data) memcpy(out->data, in->data, ew_bytes(in));
    return EDGE_OK;
}

edge_status ew_run_cast(ew_call *call) {
    ew_tensor *in = ew_in(call, 0), *out = ew_out(call, 0);
    if (!out) return EDGE_OK;
    if (in->dtype == out->dtype) return ew_run_bit_cast(call);
    edge_dtype work = ew_work_dtype(out->dtype), result = work;
    if (out->dtype == EDGE_BOOL) {
        work = EDGE_BOOL;
        result = 0;
    } else if (in->dtype == EDGE_F64 && out->dtype == EDGE_F16) {
        work = result = EDGE_F64;
    }
    ew_view view;
    ew_view_of(&view, in, out);
    ew_walk_run(&(ew_walk){.call = call, .views = &view, .count = 1, .work = work, .result = result, .out = out});
    return EDGE_OK;
}
