/* CumSum, CumProd. */
#include "movement.h"

edge_status ew_infer_cumulate(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    EW_TRY(ew_move_need_index(call, 1));
    EW_TRY(ew_move_need_one(call, 1));
    return ew_same(ew_out(call, 0), ew_in(call, 0));
}

/* One block [size, inner] of the input; step is the elements from a row to the next one that is added. */
typedef struct line {
    int64_t size, inner, step;
    bool exclusive;
} line;

#define CUMULATE(name, type, start, operator)                                              \
    static void name(const line *l, const void *from, void *to) {                           \
        const type *in = from;                                                              \
        type *out = to;                                                                     \
        for (int64_t k = 0; k < l->inner; k++) out[k] = l->exclusive ? (type)(start) : in[k]; \
        for (int64_t i = 1; i < l->size; i++) {                                             \
            const type *last = out;                                                         \
            const type *next = l->exclusive ? in : in + l->step;                            \
            in += l->step;                                                                  \
            out += l->step;                                                                 \
            for (int64_t k = 0; k < l->inner; k++) out[k] = last[k] operator next[k];       \
        }                                                                                   \
    }

CUMULATE(sum_f32, float, 0, +)
CUMULATE(sum_f64, double, 0, +)
CUMULATE(sum_32, uint32_t, 0, +)
CUMULATE(sum_64, uint64_t, 0, +)
CUMULATE(product_f32, float, 1, *)
CUMULATE(product_f64, double, 1, *)
CUMULATE(product_32, uint32_t, 1, *)
CUMULATE(product_64, uint64_t, 1, *)

/* Sums halves in float, so that each result is rounded once. */
static void cumulate_f16(const line *l, const void *from, void *to, bool product) {
    for (int64_t k = 0; k < l->inner; k++) {
        const uint16_t *in = (const uint16_t *)from + k;
        uint16_t *out = (uint16_t *)to + k;
        float total = product;
        for (int64_t i = 0; i < l->size; i++, in += l->step, out += l->step) {
            const float before = total, value = ew_f16_to_f32(*in);
            total = product ? total * value : total + value;
            *out = ew_f32_to_f16(l->exclusive ? before : total);
        }
    }
}

static void sum_f16(const line *l, const void *from, void *to) { cumulate_f16(l, from, to, false); }

static void product_f16(const line *l, const void *from, void *to) { cumulate_f16(l, from, to, true); }

typedef void cumulate(const line *l, const void *from, void *to);

/* Signed integers wrap as unsigned ones do. */
static cumulate *choose(edge_dtype dtype, bool product) {
    switch (dtype) {
    case EDGE_F32: return product ? product_f32 : sum_f32;
    case EDGE_F64: return product ? product_f64 : sum_f64;
    case EDGE_F16: return product ? product_f16 : sum_f16;
    case EDGE_S32:
    case EDGE_U32: return product ? product_32 : sum_32;
    default: return product ? product_64 : sum_64;
    }
}

static edge_status run_cumulate(ew_call *call, bool product) {
    const ew_tensor *in = ew_in(call, 0);
    int axis;
    EW_TRY(ew_axis(ew_move_index(ew_in(call, 1), 0), in->rank, &axis));
    if (ew_count(in) == 0) return EDGE_OK;
    line l = {.size = in->dims[axis], .inner = ew_span(in, axis + 1, in->rank)};
    l.exclusive = ew_attr_int(call->node, "exclusive", 0) != 0;
    const bool reverse = ew_attr_int(call->node, "reverse", 0) != 0;
    l.step = reverse ? -l.inner : l.inner;
    const int64_t element = (int64_t)ew_dtype_bytes(in->dtype), outer = ew_span(in, 0, axis);
    cumulate *run = choose(in->dtype, product);
    for (int64_t i = 0; i < outer; i++) {
        const int64_t first = (i * l.size + (reverse ? l.size - 1 : 0)) * l.inner * element;
        run(&l, (const char *)in->data + first, (char *)ew_out(call, 0)->data + first);
    }
    return EDGE_OK;
}

edge_status ew_run_cum_sum(ew_call *call) { return run_cumulate(call, false); }

edge_status ew_run_cum_prod(ew_call *call) { return run_cumulate(call, true); }
