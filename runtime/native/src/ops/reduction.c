#include "reduction.h"

void ew_split_dims(const ew_tensor *t, const bool reduced[EDGE_MAX_RANK], ew_split *split) {
    *split = (ew_split){.inner = 1, .inner_reduced = true, .kept_count = 1, .reduced_count = 1};
    int64_t stride = 1;
    int groups = 0;
    bool last = true;
    for (int i = t->rank - 1; i >= 0; i--) {
        int64_t dim = t->dims[i];
        if (dim == 1) continue;
        bool merged = groups && last == reduced[i];
        ew_dims *group = reduced[i] ? &split->reduced : &split->kept;
        *(reduced[i] ? &split->reduced_count : &split->kept_count) *= dim;
        if (groups == 0 || (groups == 1 && merged)) {
            split->inner *= dim;
            split->inner_reduced = reduced[i];
        } else if (merged) {
            group->dims[group->rank - 1] *= dim;
        } else {
            group->dims[group->rank] = dim;
            group->strides[group->rank++] = stride;
        }
        if (!merged) groups++;
        last = reduced[i];
        stride *= dim;
    }
}

ew_position ew_position_at(const ew_dims *dims, int64_t index) {
    ew_position position = {0};
    for (int i = 0; i < dims->rank; i++) {
        position.index[i] = index % dims->dims[i];
        position.offset += position.index[i] * dims->strides[i];
        index /= dims->dims[i];
    }
    return position;
}

bool ew_next_position(const ew_dims *dims, ew_position *position) {
    for (int i = 0; i < dims->rank; i++) {
        position->offset += dims->strides[i];
        if (++position->index[i] < dims->dims[i]) return true;
        position->offset -= dims->strides[i] * dims->dims[i];
        position->index[i] = 0;
    }
    return false;
}

edge_status ew_reduction_axis(const ew_call *call, int64_t otherwise, int *axis) {
    int64_t given = ew_attr_int(call->node, "axis", otherwise);
    int rank = ew_in(call, 0)->rank;
    EW_TRY(ew_axis(given, rank ? rank : 1, axis));
    return EDGE_OK;
}

edge_status ew_needs(const ew_call *call, int inputs, int outputs) {
    for (int i = 0; i < inputs; i++)
        if (!ew_in(call, i)) return ew_fail(EDGE_INVALID_MODEL, "input %d is missing, %d inputs are needed", i, inputs);
    if (!ew_out(call, 0)) return ew_fail(EDGE_INVALID_MODEL, "output 0 is missing");
    for (int i = outputs; i < call->out_count; i++)
        if (ew_out(call, i)) return ew_fail(EDGE_INVALID_MODEL, "output %d does not exist, outputs are %d", i, outputs);
    return EDGE_OK;
}

edge_status ew_needs_vector(const ew_call *call, int i, int64_t length, edge_dtype dtype) {
    const ew_tensor *t = ew_in(call, i);
    if (t->rank != 1 || t->dims[0] != length)
        return ew_fail(EDGE_INVALID_MODEL, "input %d must have shape [%lld]", i, (long long)length);
    if (dtype ? t->dtype != dtype : !(EW_T(t->dtype) & EW_FLOATS))
        return ew_fail(EDGE_INVALID_MODEL, "input %d must be %s, it is %s", i, dtype ? ew_dtype_name(dtype) : "a float",
                       ew_dtype_name(t->dtype));
    return EDGE_OK;
}

edge_status ew_stash_type(const ew_call *call, edge_dtype *dtype) {
    int64_t type = ew_attr_int(call->node, "stash_type", EDGE_F32);
    if (type != EDGE_F16 && type != EDGE_F32 && type != EDGE_F64)
        return ew_fail(EDGE_UNSUPPORTED, "stash_type %lld is none of float16, float32 and float64", (long long)type);
    *dtype = (edge_dtype)type;
    return EDGE_OK;
}

double ew_load_double(const void *data, edge_dtype dtype, int64_t index) {
    if (dtype == EDGE_F32) return ((const float *)data)[index];
    if (dtype == EDGE_F64) return ((const double *)data)[index];
    return ew_f16_to_f32(((const uint16_t *)data)[index]);
}

void ew_store_double(void *data, edge_dtype dtype, int64_t index, double value) {
    if (dtype == EDGE_F32)
        ((float *)data)[index] = (float)value;
    else if (dtype == EDGE_F64)
        ((double *)data)[index] = value;
    else
        ((uint16_t *)data)[index] = ew_f32_to_f16((float)value);
}

void ew_load_doubles(double *to, const void *from, edge_dtype dtype, int64_t first, int64_t n) {
    if (dtype == EDGE_F32)
        for (int64_t i = 0; i < n; i++) to[i] = ((const float *)from)[first + i];
    else
        for (int64_t i = 0; i < n; i++) to[i] = ew_load_double(from, dtype, first + i);
}

void ew_store_doubles(void *to, edge_dtype dtype, int64_t first, const double *from, int64_t n) {
    if (dtype == EDGE_F32)
        for (int64_t i = 0; i < n; i++) ((float *)to)[first + i] = (float)from[i];
    else
        for (int64_t i = 0; i < n; i++) ew_store_double(to, dtype, first + i, from[i]);
}

#define LOAD(tag, type)                                                                  \
    case tag:                                                                            \
        for (int64_t i = 0; i < n; i++) to[i] = (int64_t)((const type *)from)[first + i]; \
        break;

void ew_load_integers(int64_t *to, const void *from, edge_dtype dtype, int64_t first, int64_t n) {
    switch (dtype) {
        LOAD(EDGE_S8, int8_t)
        LOAD(EDGE_U16, uint16_t)
        LOAD(EDGE_S16, int16_t)
        LOAD(EDGE_U32, uint32_t)
        LOAD(EDGE_S32, int32_t)
        LOAD(EDGE_S64, int64_t)
        LOAD(EDGE_U64, uint64_t)
        default:
            for (int64_t i = 0; i < n; i++) to[i] = ((const uint8_t *)from)[first + i];
    }
}
