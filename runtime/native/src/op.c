#include "op.h"

#include <stdio.h>

edge_status ew_run_none(ew_call *call) {
    (void)call;
    return EDGE_OK;
}

#define OF_MODELS "ai.onnx.ml"
#define OF_OURS "edgewright.fused"

#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace)                                         \
    edge_status infer(ew_call *);                                                                                      \
    edge_status run(ew_call *);                                                                                        \
    size_t workspace(const ew_call *);                                                                                 \
    _Static_assert(sizeof(domain) == sizeof "" || sizeof(domain) == sizeof OF_MODELS ||                                \
                   sizeof(domain) == sizeof OF_OURS, "domain_of does not know it");
#include "ops.inc"
#undef EW_OP

/* Rows, and where their names are: nothing in them has to be relocated. */
enum {
#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace) ROW_##name##_##first,
#include "ops.inc"
#undef EW_OP
    OP_COUNT
};

static const struct names {
#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace) char name##_##first[sizeof #name];
#include "ops.inc"
#undef EW_OP
} NAMES = {
#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace) #name,
#include "ops.inc"
#undef EW_OP
};

static const ew_op OPS[] = {
#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace)                                         \
    {offsetof(struct names, name##_##first), sizeof(domain) - 1, first, last, flags, dtypes},
#include "ops.inc"
#undef EW_OP
};

edge_status ew_op_infer(ew_call *call) {
    switch (call->node->op - OPS) {
#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace)                                         \
    case ROW_##name##_##first: return infer(call);
#include "ops.inc"
#undef EW_OP
    default: return EDGE_OK;
    }
}

edge_status ew_op_run(ew_call *call) {
    switch (call->node->op - OPS) {
#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace)                                         \
    case ROW_##name##_##first: return run(call);
#include "ops.inc"
#undef EW_OP
    default: return EDGE_OK;
    }
}

#define ew_no_workspace(call) 0 /* so that no function of this name is needed */
size_t ew_op_workspace(const ew_call *call) {
    switch (call->node->op - OPS) {
#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace)                                         \
    case ROW_##name##_##first: return workspace(call);
#include "ops.inc"
#undef EW_OP
    default: return 0;
    }
}

static const char *name_of(const ew_op *op) { return (const char *)&NAMES + op->name; }

static const char *domain_of(const ew_op *op) {
    return op->domain == 0 ? "" : op->domain == sizeof OF_MODELS - 1 ? OF_MODELS : OF_OURS;
}

const ew_op *ew_find_op(const char *domain, const char *name, int version) {
    for (size_t i = 0; i < (size_t)OP_COUNT; i++) {
        const ew_op *op = &OPS[i];
        if (version >= op->first && version <= op->last && strcmp(name_of(op), name) == 0 &&
            strcmp(domain_of(op), domain) == 0)
            return op;
    }
    return NULL;
}

const char *edge_operator(size_t row) {
    static _Thread_local char text[256];
    if (row >= (size_t)OP_COUNT) return NULL;
    const ew_op *op = &OPS[row];
    if (op->flags & EW_INTERNAL) return NULL; /* these rows are the last ones */
    int length = snprintf(text, sizeof text, "%s:%s:%d-%d:", domain_of(op), name_of(op), op->first, op->last);
    for (int dtype = 1; dtype <= EDGE_U64; dtype++)
        if (op->dtypes & EW_T(dtype))
            length += snprintf(text + length, sizeof text - (size_t)length, "%s,", ew_dtype_name((edge_dtype)dtype));
    if (text[length - 1] == ',') text[length - 1] = 0;
    return text;
}

int64_t ew_span(const ew_tensor *t, int begin, int end) {
    int64_t product = 1;
    for (int i = begin; i < end; i++) product *= t->dims[i];
    return product;
}

int64_t ew_count(const ew_tensor *t) { return ew_span(t, 0, t->rank); }

size_t ew_bytes(const ew_tensor *t) { return (size_t)ew_count(t) * ew_dtype_bytes(t->dtype); }

edge_status ew_shape(ew_tensor *t, edge_dtype dtype, int rank, const int64_t *dims) {
    if (rank < 0 || rank > EDGE_MAX_RANK)
        return ew_fail(EDGE_UNSUPPORTED, "a result has %d axes, at most %d are possible", rank, EDGE_MAX_RANK);
    int64_t checked[EDGE_MAX_RANK];
    /* Products of any of the dims must fit, also when another one is zero. */
    size_t bytes = ew_dtype_bytes(dtype);
    if (!bytes)
        return ew_fail(EDGE_UNSUPPORTED, "a result has ONNX dtype %d, which the engine does not have", (int)dtype);
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of a result would have length %lld", i, (long long)dims[i]);
        if (dims[i] && (!ew_mul(bytes, (uint64_t)dims[i], &bytes) || bytes > PTRDIFF_MAX / 2))
            return ew_fail(EDGE_NO_MEMORY, "a result is larger than memory can be");
        checked[i] = dims[i];
    }
    t->dtype = dtype;
    t->rank = rank;
    memcpy(t->dims, checked, (size_t)rank * sizeof *checked);
    return EDGE_OK;
}

edge_status ew_same(ew_tensor *out, const ew_tensor *like) {
    return ew_shape(out, like->dtype, like->rank, like->dims);
}

edge_status ew_broadcast(ew_tensor *out, ew_tensor *const *in, int count) {
    int rank = 0;
    for (int i = 0; i < count; i++) rank = in[i]->rank > rank ? in[i]->rank : rank;
    int64_t dims[EDGE_MAX_RANK];
    for (int axis = 0; axis < rank; axis++) {
        dims[axis] = 1;
        for (int i = 0; i < count; i++) {
            int own = axis - (rank - in[i]->rank);
            if (own < 0 || in[i]->dims[own] == 1) continue;
            if (dims[axis] != 1 && dims[axis] != in[i]->dims[own])
                return ew_fail(EDGE_SHAPE_MISMATCH, "shapes do not broadcast: lengths %lld and %lld on axis %d of %d",
                               (long long)dims[axis], (long long)in[i]->dims[own], axis, rank);
            dims[axis] = in[i]->dims[own];
        }
    }
    return ew_shape(out, out->dtype ? out->dtype : in[0]->dtype, rank, dims);
}

edge_status ew_axis(int64_t axis, int rank, int *result) {
    if (axis < -rank || axis >= rank)
        return ew_fail(EDGE_INVALID_MODEL, "axis %lld is outside [%d, %d)", (long long)axis, -rank, rank);
    *result = (int)(axis < 0 ? axis + rank : axis);
    return EDGE_OK;
}

int64_t ew_get_int(const ew_tensor *t, int64_t i) {
    if (ew_is_small(t->dtype)) return ew_small_at(t->dtype, t->data, (size_t)i);
    switch (t->dtype) {
    case EDGE_S8: return ((const int8_t *)t->data)[i];
    case EDGE_U8:
    case EDGE_BOOL: return ((const uint8_t *)t->data)[i];
    case EDGE_S16: return ((const int16_t *)t->data)[i];
    case EDGE_U16: return ((const uint16_t *)t->data)[i];
    case EDGE_S32: return ((const int32_t *)t->data)[i];
    case EDGE_U32: return ((const uint32_t *)t->data)[i];
    case EDGE_S64: return ((const int64_t *)t->data)[i];
    case EDGE_U64: return (int64_t)((const uint64_t *)t->data)[i];
    default: {
        double value = ew_get(t, i);
        if (!(value > -9223372036854775808.0)) return value != value ? 0 : INT64_MIN;
        return value < 9223372036854775808.0 ? (int64_t)value : INT64_MAX;
    }
    }
}

double ew_get(const ew_tensor *t, int64_t i) {
    switch (t->dtype) {
    case EDGE_F32: return (double)((const float *)t->data)[i];
    case EDGE_F64: return ((const double *)t->data)[i];
    case EDGE_F16: return (double)ew_f16_to_f32(((const uint16_t *)t->data)[i]);
    case EDGE_U64: return (double)((const uint64_t *)t->data)[i];
    default: return (double)ew_get_int(t, i);
    }
}

edge_status ew_ints(const ew_call *call, int i, int64_t *values, int max, int *count) {
    const ew_tensor *t = ew_in(call, i);
    if (!t) return ew_fail(EDGE_INVALID_MODEL, "input %d is missing", i);
    if (t->dtype != EDGE_S32 && t->dtype != EDGE_S64)
        return ew_fail(EDGE_INVALID_MODEL, "input %d must be int32 or int64, it is %s", i, ew_dtype_name(t->dtype));
    if (!ew_known(call, t))
        return ew_fail(
            EDGE_UNSUPPORTED,
            "the shape of the result depends on the value of input %d; fix that input when the session is made", i);
    int64_t n = ew_count(t);
    if (t->rank > 1 || n > max)
        return ew_fail(EDGE_INVALID_MODEL, "input %d must be a list of at most %d numbers", i, max);
    for (int64_t k = 0; k < n; k++) values[k] = ew_get_int(t, k);
    *count = (int)n;
    return EDGE_OK;
}

edge_status ew_axes(const ew_call *call, int i, int rank, int axes[EDGE_MAX_RANK], int *count) {
    int64_t values[EDGE_MAX_RANK];
    const int64_t *from = values;
    *count = -1;
    if (ew_in(call, i)) {
        EW_TRY(ew_ints(call, i, values, EDGE_MAX_RANK, count));
    } else {
        from = ew_attr_ints(call->node, "axes", count);
        if (*count > EDGE_MAX_RANK) return ew_fail(EDGE_INVALID_MODEL, "more than %d axes", EDGE_MAX_RANK);
    }
    unsigned seen = 0;
    for (int k = 0; k < *count; k++) {
        EW_TRY(ew_axis(from[k], rank, &axes[k]));
        if (seen & 1u << axes[k]) return ew_fail(EDGE_INVALID_MODEL, "axis %d is listed twice", axes[k]);
        seen |= 1u << axes[k];
    }
    return EDGE_OK;
}
