#include "sequence.h"

edge_status ew_seq_need(const ew_call *call, int required) {
    for (int i = 0; i < required; i++) {
        if (!ew_in(call, i)) {
            return ew_fail(EDGE_INVALID_MODEL, "input %d is missing, the first %d inputs are required", i, required);
        }
    }
    return EDGE_OK;
}

edge_status ew_seq_expect(const ew_tensor *t, const char *name, edge_dtype dtype, int rank, const int64_t *dims) {
    if (!t) return EDGE_OK;
    if (t->dtype != dtype) {
        return ew_fail(EDGE_INVALID_MODEL, "%s has dtype %s, expected %s", name, ew_dtype_name(t->dtype),
                       ew_dtype_name(dtype));
    }
    if (t->rank != rank) {
        return ew_fail(EDGE_INVALID_MODEL, "%s has rank %d, expected %d", name, (int)t->rank, rank);
    }
    for (int i = 0; i < rank; i++) {
        if (t->dims[i] != dims[i]) {
            return ew_fail(EDGE_INVALID_MODEL, "dimension %d of %s is %lld, expected %lld", i, name,
                           (long long)t->dims[i], (long long)dims[i]);
        }
    }
    return EDGE_OK;
}

edge_status ew_seq_choice(const ew_call *call, const char *attribute, const char *otherwise, const char *const *names,
                      int *choice) {
    const char *given = ew_attr_string(call->node, attribute, otherwise);
    for (int i = 0; names[i]; i++) {
        if (!strcmp(given, names[i])) {
            *choice = i;
            return EDGE_OK;
        }
    }
    return ew_fail(EDGE_INVALID_MODEL, "%s is \"%.40s\", which opset %d does not have; \"%s\" would be one", attribute,
                   given, call->node->opset, names[0]);
}

edge_status ew_seq_integer(const ew_call *call, const char *attribute, int64_t otherwise, int64_t low, int64_t high,
                       int64_t *value) {
    *value = ew_attr_int(call->node, attribute, otherwise);
    if (*value >= low && *value <= high) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "%s is %lld, expected %lld to %lld", attribute, (long long)*value,
                   (long long)low, (long long)high);
}
