/* What infer checks before it looks at shapes. */
#include "movement.h"

edge_status ew_move_need(const ew_call *call, int inputs, int outputs) {
    for (int i = 0; i < inputs; i++)
        if (!ew_in(call, i)) return ew_fail(EDGE_INVALID_MODEL, "input %d is missing, %d are needed", i, inputs);
    for (int i = 0; i < outputs; i++)
        if (!ew_out(call, i)) return ew_fail(EDGE_INVALID_MODEL, "output %d is missing, %d are needed", i, outputs);
    return EDGE_OK;
}

edge_status ew_move_need_index(const ew_call *call, int i) {
    edge_dtype dtype = ew_in(call, i)->dtype;
    if (dtype == EDGE_S32 || dtype == EDGE_S64) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "input %d is %s, expected int32 or int64", i, ew_dtype_name(dtype));
}

edge_status ew_move_need_dtype(const ew_call *call, int i, edge_dtype dtype) {
    if (ew_in(call, i)->dtype == dtype) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "input %d is %s, expected %s", i, ew_dtype_name(ew_in(call, i)->dtype),
                   ew_dtype_name(dtype));
}

edge_status ew_move_need_one(const ew_call *call, int i) {
    int64_t count = ew_count(ew_in(call, i));
    if (count == 1) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "input %d has %lld elements, expected one", i, (long long)count);
}

edge_status ew_move_dtype_attribute(const ew_node *node, const char *name, edge_dtype otherwise, edge_dtype *dtype) {
    int64_t given = ew_attr_int(node, name, otherwise);
    if (given < 0 || given > 31 || !ew_dtype_bytes((edge_dtype)given))
        return ew_fail(EDGE_UNSUPPORTED, "%s %lld is no dtype of this engine", name, (long long)given);
    *dtype = (edge_dtype)given;
    return EDGE_OK;
}

size_t ew_move_workspace(int64_t count, size_t bytes) {
    size_t total;
    const bool fits = (uint64_t)count <= SIZE_MAX && ew_mul((size_t)count, bytes, &total);
    return fits ? total : SIZE_MAX;
}
