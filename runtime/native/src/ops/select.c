/* NonZero, Compress. */
#include "movement.h"

/* Bits of an element that differ from zero; the sign of a floating zero does not count. */
typedef struct bits_of {
    const char *data;
    size_t element;
    uint64_t mask;
} bits_of;

static bits_of bits_begin(const ew_tensor *t) {
    bits_of b = {.data = t->data, .element = ew_dtype_bytes(t->dtype), .mask = UINT64_MAX};
    if (ew_move_is_float(t->dtype)) b.mask = ((uint64_t)1 << (8 * b.element - 1)) - 1;
    return b;
}

#define SET_BITS(type)                                     \
    {                                                      \
        type bits;                                         \
        memcpy(&bits, b->data + i * (int64_t)sizeof bits, sizeof bits); \
        return (bits & b->mask) != 0;                      \
    }

static bool is_set(const bits_of *b, int64_t i) {
    switch (b->element) {
    case 1: SET_BITS(uint8_t)
    case 2: SET_BITS(uint16_t)
    case 4: SET_BITS(uint32_t)
    default: SET_BITS(uint64_t)
    }
}

static int64_t count_set(const ew_tensor *t, int64_t length) {
    const bits_of b = bits_begin(t);
    int64_t set = 0;
    for (int64_t i = 0; i < length; i++) set += is_set(&b, i);
    return set;
}

edge_status ew_infer_non_zero(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    const int64_t dims[2] = {ew_in(call, 0)->rank, ew_count(ew_in(call, 0))};
    return ew_shape(ew_out(call, 0), EDGE_S64, 2, dims);
}

edge_status ew_run_non_zero(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    ew_tensor *out = ew_out(call, 0);
    const int64_t count = ew_count(in), found = count_set(in, count);
    out->dims[1] = found;
    const bits_of b = bits_begin(in);
    int64_t position[EDGE_MAX_RANK] = {0}, *to = out->data;
    const int last = in->rank - 1;
    if (last < 0) return EDGE_OK;
    for (int64_t i = 0; i < count; i++) {
        if (is_set(&b, i)) {
            for (int k = 0; k <= last; k++) to[k * found] = position[k];
            to++;
        }
        for (int k = last; ++position[k] == in->dims[k] && k > 0; k--) position[k] = 0;
    }
    return EDGE_OK;
}

/* Rows of so many candidates, of so many bytes. */
typedef struct candidates {
    bool flat;
    int axis;
    int64_t rows, size, unit;
} candidates;

static edge_status read_candidates(const ew_call *call, candidates *c) {
    const ew_tensor *in = ew_in(call, 0);
    const int64_t element = (int64_t)ew_dtype_bytes(in->dtype);
    *c = (candidates){.flat = !ew_attr(call->node, "axis"), .rows = 1, .size = ew_count(in), .unit = element};
    if (c->flat) return EDGE_OK;
    EW_TRY(ew_axis(ew_attr_int(call->node, "axis", 0), in->rank, &c->axis));
    c->rows = ew_span(in, 0, c->axis);
    c->size = in->dims[c->axis];
    c->unit = ew_span(in, c->axis + 1, in->rank) * element;
    return EDGE_OK;
}

edge_status ew_infer_compress(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    EW_TRY(ew_move_need_dtype(call, 1, EDGE_BOOL));
    const ew_tensor *in = ew_in(call, 0), *condition = ew_in(call, 1);
    if (condition->rank != 1)
        return ew_fail(EDGE_INVALID_MODEL, "the condition has rank %d, expected 1", (int)condition->rank);
    candidates c;
    EW_TRY(read_candidates(call, &c));
    const int64_t most = condition->dims[0] < c.size ? condition->dims[0] : c.size;
    if (c.flat) return ew_shape(ew_out(call, 0), in->dtype, 1, &most);
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < in->rank; i++) dims[i] = i == c.axis ? most : in->dims[i];
    return ew_shape(ew_out(call, 0), in->dtype, in->rank, dims);
}

edge_status ew_run_compress(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0), *condition = ew_in(call, 1);
    ew_tensor *out = ew_out(call, 0);
    candidates c;
    EW_TRY(read_candidates(call, &c));
    const int64_t most = condition->dims[0] < c.size ? condition->dims[0] : c.size;
    out->dims[c.flat ? 0 : c.axis] = count_set(condition, most);
    if (ew_count(out) == 0) return EDGE_OK;
    const bits_of wanted = bits_begin(condition);
    char *to = out->data;
    for (int64_t row = 0; row < c.rows; row++) {
        const char *from = (const char *)in->data + row * c.size * c.unit;
        for (int64_t i = 0; i < most; i++) {
            if (!is_set(&wanted, i)) continue;
            ew_move_element(to, from + i * c.unit, (size_t)c.unit);
            to += c.unit;
        }
    }
    return EDGE_OK;
}
