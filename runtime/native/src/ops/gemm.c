#include "linear.h"

typedef struct sizes {
    bool a_turned, b_turned;
    int64_t m, n, k;
} sizes;

static edge_status read_sizes(const ew_call *call, sizes *s) {
    const ew_tensor *a = ew_in(call, 0), *b = ew_in(call, 1);
    if (a->rank != 2 || b->rank != 2)
        return ew_fail(EDGE_SHAPE_MISMATCH, "matrices of rank %d and %d, both must be 2", a->rank, b->rank);
    s->a_turned = ew_attr_int(call->node, "transA", 0) != 0;
    s->b_turned = ew_attr_int(call->node, "transB", 0) != 0;
    s->m = a->dims[s->a_turned];
    s->k = a->dims[!s->a_turned];
    s->n = b->dims[!s->b_turned];
    if (s->k != b->dims[s->b_turned])
        return ew_fail(EDGE_SHAPE_MISMATCH, "a matrix with rows of %lld times one with columns of %lld",
                       (long long)s->k, (long long)b->dims[s->b_turned]);
    return EDGE_OK;
}

static edge_status check_c(const ew_call *call, const sizes *s) {
    const ew_tensor *c = ew_in(call, 2);
    if (!c) return EDGE_OK;
    const int64_t to[2] = {s->m, s->n};
    bool fits = c->rank <= 2;
    for (int i = 0; fits && i < c->rank; i++) fits = c->dims[i] == 1 || c->dims[i] == to[2 - c->rank + i];
    return fits ? EDGE_OK
                : ew_fail(EDGE_SHAPE_MISMATCH, "input 2 does not broadcast to [%lld, %lld]", (long long)s->m,
                          (long long)s->n);
}

edge_status ew_infer_gemm(ew_call *call) {
    sizes s;
    EW_TRY(ew_require(call, 2));
    EW_TRY(ew_like_first(call, 1));
    EW_TRY(ew_like_first(call, 2));
    EW_TRY(read_sizes(call, &s));
    EW_TRY(check_c(call, &s));
    return ew_shape(ew_out(call, 0), ew_in(call, 0)->dtype, 2, (int64_t[]){s.m, s.n});
}

/* y = alpha y + beta c; c_row and c_col are 0 where c is broadcast. */
typedef struct sum {
    const ew_tensor *c;
    ew_tensor *y;
    double alpha, beta;
    int64_t m, n, c_row, c_col;
} sum;

#define ADD_FLOATS(type)                                                            \
    static void add_##type(const sum *s) {                                          \
        const type alpha = (type)s->alpha, beta = (type)s->beta;                    \
        for (int64_t i = 0; i < s->m; i++) {                                        \
            type *restrict y = (type *)s->y->data + i * s->n;                       \
            const type *c = s->c ? (const type *)s->c->data + i * s->c_row : NULL;  \
            for (int64_t j = 0; alpha != 1 && j < s->n; j++) y[j] *= alpha;         \
            for (int64_t j = 0; c && j < s->n; j++) y[j] += beta * c[j * s->c_col]; \
        }                                                                           \
    }
ADD_FLOATS(float)
ADD_FLOATS(double)

static uint64_t saturated(double value, edge_dtype dtype) {
    bool is_wide = ew_dtype_bytes(dtype) == 8, is_signed = dtype == EDGE_S32 || dtype == EDGE_S64;
    double high = is_wide ? 18446744073709551616.0 : 4294967296.0, low = 0;
    if (is_signed) {
        high /= 2;
        low = -high;
    }
    if (!(value > low)) return is_signed && value == value ? (uint64_t)(is_wide ? INT64_MIN : INT32_MIN) : 0;
    if (value >= high) return (is_wide ? UINT64_MAX : UINT32_MAX) >> is_signed;
    return value < 0 ? (uint64_t)(int64_t)value : (uint64_t)value;
}

static void add_integers(const sum *s) {
    edge_dtype dtype = s->y->dtype;
    bool is_exact = s->alpha == 1 && (!s->c || s->beta == 1);
    for (int64_t i = 0; i < s->m * s->n; i++) {
        int64_t at = s->c ? i / s->n * s->c_row + i % s->n * s->c_col : 0;
        uint64_t value = is_exact
                             ? (uint64_t)ew_get_int(s->y, i) + (s->c ? (uint64_t)ew_get_int(s->c, at) : 0)
                             : saturated(s->alpha * ew_get(s->y, i) + (s->c ? s->beta * ew_get(s->c, at) : 0), dtype);
        if (ew_dtype_bytes(dtype) == 8)
            ((uint64_t *)s->y->data)[i] = value;
        else
            ((uint32_t *)s->y->data)[i] = (uint32_t)value;
    }
}

static void add_c(const ew_call *call, const sizes *s) {
    double beta = (double)ew_attr_float(call->node, "beta", 1);
    const ew_tensor *c = beta != 0 ? ew_in(call, 2) : NULL;
    sum t = {.c = c,
             .y = ew_out(call, 0),
             .alpha = (double)ew_attr_float(call->node, "alpha", 1),
             .beta = beta,
             .m = s->m,
             .n = s->n};
    if (c && c->rank > 0 && c->dims[c->rank - 1] != 1) t.c_col = 1;
    if (c && c->rank > 1 && c->dims[0] != 1) t.c_row = c->dims[1];
    if (!c && t.alpha == 1) return;
    if (t.y->dtype == EDGE_F32)
        add_float(&t);
    else if (t.y->dtype == EDGE_F64)
        add_double(&t);
    else
        add_integers(&t);
}

static edge_status run_wide(ew_call *call) {
    const ew_tensor *a = ew_in(call, 0), *b = ew_in(call, 1);
    ew_tensor *y = ew_out(call, 0);
    sizes s;
    EW_TRY(read_sizes(call, &s));
    ew_gemm g = {.m = s.m, .n = s.n, .k = s.k, .a = a->data, .b = b->data, .c = y->data, .c_row = s.n};
    g.a_row = s.a_turned ? 1 : s.k;
    g.a_col = s.a_turned ? s.m : 1;
    g.b_row = s.b_turned ? 1 : s.n;
    g.b_col = s.b_turned ? s.k : 1;
    ew_gemm_any(call, y->dtype, &g);
    add_c(call, &s);
    return EDGE_OK;
}

size_t ew_workspace_gemm(const ew_call *call) { return ew_half_workspace(call, 0); }

edge_status ew_run_gemm(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, 0, run_wide) : run_wide(call);
}
