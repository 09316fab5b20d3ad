/* Constant, ConstantOfShape. */
#include "movement.h"

/* Where the value of a Constant lies. */
typedef struct constant {
    edge_dtype dtype;
    int rank;
    const int64_t *dims;
    const void *data;
    size_t count;
} constant;

/* The attribute if it is there and has this type. */
static const ew_attribute *typed(const ew_node *node, const char *name, int type) {
    const ew_attribute *a = ew_attr(node, name);
    return a && (int)a->type == type ? a : NULL;
}

static edge_status read_constant(const ew_node *node, constant *c) {
    const ew_attribute *a;
    if ((a = typed(node, "value", EW_ATTR_TENSOR)))
        *c = (constant){a->tensor.dtype, a->tensor.rank, a->tensor.shape, a->tensor.data, 0};
    else if ((a = typed(node, "value_float", EW_ATTR_FLOAT)))
        *c = (constant){EDGE_F32, 0, NULL, &a->f, 0};
    else if ((a = typed(node, "value_int", EW_ATTR_INT)))
        *c = (constant){EDGE_S64, 0, NULL, &a->i, 0};
    else if ((a = typed(node, "value_floats", EW_ATTR_FLOATS)))
        *c = (constant){EDGE_F32, 1, NULL, a->floats, a->count};
    else if ((a = typed(node, "value_ints", EW_ATTR_INTS)))
        *c = (constant){EDGE_S64, 1, NULL, a->ints, a->count};
    else
        return ew_fail(EDGE_UNSUPPORTED, "there is no attribute value, value_float, value_floats, value_int or "
                                         "value_ints; others are not supported");
    return EDGE_OK;
}

edge_status ew_infer_constant(ew_call *call) {
    EW_TRY(ew_move_need(call, 0, 1));
    constant c;
    EW_TRY(read_constant(call->node, &c));
    const int64_t length = (int64_t)c.count;
    return ew_shape(ew_out(call, 0), c.dtype, c.rank, c.dims ? c.dims : &length);
}

edge_status ew_run_constant(ew_call *call) {
    constant c;
    EW_TRY(read_constant(call->node, &c));
    const size_t bytes = ew_bytes(ew_out(call, 0));
    if (bytes) memcpy(ew_out(call, 0)->data, c.data, bytes);
    return EDGE_OK;
}

edge_status ew_infer_constant_of_shape(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    int64_t dims[EDGE_MAX_RANK];
    int rank;
    EW_TRY(ew_ints(call, 0, dims, EDGE_MAX_RANK, &rank));
    const ew_attribute *value = typed(call->node, "value", EW_ATTR_TENSOR);
    if (value && value->tensor.bytes != ew_dtype_bytes(value->tensor.dtype))
        return ew_fail(EDGE_INVALID_MODEL, "the attribute value has %zu bytes, expected one element",
                       value->tensor.bytes);
    return ew_shape(ew_out(call, 0), value ? value->tensor.dtype : EDGE_F32, rank, dims);
}

edge_status ew_run_constant_of_shape(ew_call *call) {
    const ew_tensor *out = ew_out(call, 0);
    const ew_attribute *value = typed(call->node, "value", EW_ATTR_TENSOR);
    const float zero = 0;
    ew_move_fill(out->data, ew_count(out), ew_dtype_bytes(out->dtype), value ? value->tensor.data : &zero);
    return EDGE_OK;
}
