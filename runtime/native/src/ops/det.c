#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

edge_status ew_infer_det(ew_call *call) {
    EW_TRY(ew_needs(call, 1, 1));
    const ew_tensor *x = ew_in(call, 0);
    if (x->rank < 2 || x->dims[x->rank - 1] != x->dims[x->rank - 2])
        return ew_fail(EDGE_INVALID_MODEL, "the last two axes of input 0 must be those of a square matrix");
    return ew_shape(ew_out(call, 0), x->dtype, x->rank - 2, x->dims);
}

size_t ew_workspace_det(const ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    size_t n = (size_t)x->dims[x->rank - 1], bytes;
    return ew_mul(n, n, &bytes) && ew_mul(bytes, sizeof(double), &bytes) ? bytes : SIZE_MAX;
}

static int64_t pivot_of(const double *a, int64_t n, int64_t column) {
    int64_t best = column;
    for (int64_t i = column + 1; i < n; i++)
        if (fabs(a[i * n + column]) > fabs(a[best * n + column])) best = i;
    return best;
}

static void swap_rows(double *a, int64_t n, int64_t i, int64_t k) {
    for (int64_t j = 0; j < n; j++) {
        double kept = a[i * n + j];
        a[i * n + j] = a[k * n + j];
        a[k * n + j] = kept;
    }
}

/* Gaussian elimination with row pivots, in place. */
static double determinant(double *a, int64_t n) {
    double product = 1;
    for (int64_t k = 0; k < n; k++) {
        int64_t pivot = pivot_of(a, n, k);
        if (pivot != k) {
            swap_rows(a, n, pivot, k);
            product = -product;
        }
        double head = a[k * n + k];
        product *= head;
        if (head == 0) return 0;
        for (int64_t i = k + 1; i < n; i++) {
            double factor = a[i * n + k] / head;
            for (int64_t j = k + 1; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
        }
    }
    return product;
}

edge_status ew_run_det(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    ew_tensor *y = ew_out(call, 0);
    int64_t n = x->dims[x->rank - 1], matrices = ew_count(y);
    double *a = call->workspace;
    for (int64_t m = 0; m < matrices; m++) {
        for (int64_t i = 0; i < n * n; i++) a[i] = ew_load_double(x->data, x->dtype, m * n * n + i);
        ew_store_double(y->data, y->dtype, m, determinant(a, n));
    }
    return EDGE_OK;
}
