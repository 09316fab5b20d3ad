#include "linear.h"

/* Zero points or scales: one value, or one for each row of a (column of b), perhaps for each matrix. */
typedef struct lanes {
    const ew_tensor *values;
    int64_t step, matrix_step;
} lanes;

static edge_status bad_lanes(int input, int64_t length, const char *of) {
    return ew_fail(EDGE_SHAPE_MISMATCH, "input %d must be one value or %lld values, one for each %s", input,
                   (long long)length, of);
}

/* axis: the axis of the matrix, -2 for rows or -1 for columns. */
static edge_status read_lanes(const ew_call *call, int input, const ew_tensor *matrix, int axis, lanes *l) {
    const ew_tensor *t = ew_in(call, input);
    const char *of = axis == -2 ? "row" : "column";
    *l = (lanes){.values = t};
    if (!t || ew_count(t) == 1) return EDGE_OK;
    int64_t length = matrix->rank > 1 ? matrix->dims[matrix->rank + axis] : 1;
    l->step = 1;
    if (t->rank == 1) return t->dims[0] == length ? EDGE_OK : bad_lanes(input, length, of);
    if (t->rank != matrix->rank) return bad_lanes(input, length, of);
    l->matrix_step = length;
    for (int i = 0; i < t->rank; i++)
        if (t->dims[i] != (i < t->rank - 2 || i == t->rank + axis ? matrix->dims[i] : 1))
            return bad_lanes(input, length, of);
    return EDGE_OK;
}

static const uint8_t *zeros_of(const lanes *l, int64_t matrix) {
    return l->values ? (const uint8_t *)l->values->data + matrix * l->matrix_step : NULL;
}

typedef struct product {
    ew_matmul mm;
    const ew_tensor *a, *b;
    lanes a_zero, b_zero, a_scale, b_scale;
} product;

static edge_status read_product(const ew_call *call, int a, int b, int a_zero, int b_zero, product *p) {
    *p = (product){.a = ew_in(call, a), .b = ew_in(call, b)};
    if (!ew_is_8_bit(p->b->dtype))
        return ew_fail(EDGE_INVALID_MODEL, "input %d is %s, it must be uint8 or int8", b, ew_dtype_name(p->b->dtype));
    EW_TRY(ew_matmul_read(p->a, p->b, &p->mm));
    EW_TRY(read_lanes(call, a_zero, p->a, -2, &p->a_zero));
    EW_TRY(read_lanes(call, b_zero, p->b, -1, &p->b_zero));
    if ((p->a_zero.values && p->a_zero.values->dtype != p->a->dtype) ||
        (p->b_zero.values && p->b_zero.values->dtype != p->b->dtype))
        return ew_fail(EDGE_INVALID_MODEL, "inputs %d and %d must have the dtypes of inputs %d and %d", a_zero, b_zero,
                       a, b);
    return EDGE_OK;
}

/* Rows [begin, end) of one product, without where the result goes. */
static ew_gemm_8 rows_of(const product *p, int64_t a, int64_t b, int64_t begin, int64_t end) {
    const ew_matmul *mm = &p->mm;
    ew_gemm_8 g = {.m = end - begin,
                   .n = mm->n,
                   .k = mm->k,
                   .a_row = mm->k,
                   .a_zero = zeros_of(&p->a_zero, a),
                   .a_zero_step = p->a_zero.step,
                   .a_signed = p->a->dtype == EDGE_S8,
                   .b_row = mm->n,
                   .b_zero = zeros_of(&p->b_zero, b),
                   .b_zero_step = p->b_zero.step,
                   .b_signed = p->b->dtype == EDGE_S8,
                   .c_row = mm->n};
    g.a = (const uint8_t *)p->a->data + (a * mm->m + begin) * mm->k;
    g.b = (const uint8_t *)p->b->data + b * mm->k * mm->n;
    if (g.a_zero) g.a_zero += begin * p->a_zero.step;
    return g;
}

edge_status ew_infer_matmul_integer(ew_call *call) {
    product p;
    EW_TRY(ew_require(call, 2));
    EW_TRY(read_product(call, 0, 1, 2, 3, &p));
    return ew_matmul_shape(&p.mm, p.a, p.b, EDGE_S32, ew_out(call, 0));
}

edge_status ew_run_matmul_integer(ew_call *call) {
    product p;
    int64_t a, b;
    EW_TRY(read_product(call, 0, 1, 2, 3, &p));
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    for (int64_t i = 0; i < p.mm.batches; i++) {
        ew_matmul_pick(&p.mm, i, &a, &b);
        ew_gemm_8 g = rows_of(&p, a, b, 0, p.mm.m);
        g.c = (int32_t *)ew_out(call, 0)->data + i * p.mm.m * p.mm.n;
        ew_gemm_s32(call, &g);
    }
    return EDGE_OK;
}

enum { A, A_SCALE, A_ZERO, B, B_SCALE, B_ZERO, Y_SCALE, Y_ZERO, QLINEAR_INPUTS };

static edge_status read_qlinear(const ew_call *call, product *p) {
    EW_TRY(read_product(call, A, B, A_ZERO, B_ZERO, p));
    EW_TRY(read_lanes(call, A_SCALE, p->a, -2, &p->a_scale));
    EW_TRY(read_lanes(call, B_SCALE, p->b, -1, &p->b_scale));
    EW_TRY(ew_check_single(call, Y_SCALE, EW_T(EDGE_F32) | EW_T(EDGE_F16)));
    return ew_check_single(call, Y_ZERO, EW_T(EDGE_U8) | EW_T(EDGE_S8));
}

edge_status ew_infer_qlinear_matmul(ew_call *call) {
    product p;
    EW_TRY(ew_require(call, QLINEAR_INPUTS));
    EW_TRY(read_qlinear(call, &p));
    edge_dtype scale = ew_in(call, Y_SCALE)->dtype;
    if (ew_in(call, A_SCALE)->dtype != scale || ew_in(call, B_SCALE)->dtype != scale)
        return ew_fail(EDGE_INVALID_MODEL, "inputs %d, %d and %d must have one dtype", A_SCALE, B_SCALE, Y_SCALE);
    return ew_matmul_shape(&p.mm, p.a, p.b, ew_in(call, Y_ZERO)->dtype, ew_out(call, 0));
}

size_t ew_workspace_qlinear_matmul(const ew_call *call) {
    ew_matmul mm;
    if (ew_matmul_read(ew_in(call, A), ew_in(call, B), &mm) != EDGE_OK) return 0;
    return ew_tile_bytes(mm.n * (int64_t)sizeof(int32_t), mm.m);
}

typedef struct rows {
    const ew_call *call;
    const product *p;
    int64_t a, b, first;
    const int32_t *x;
    uint8_t *y;
} rows;

static void requantize_rows(void *context, int64_t begin, int64_t end) {
    const rows *r = context;
    const lanes *a = &r->p->a_scale, *b = &r->p->b_scale;
    int64_t n = r->p->mm.n;
    ew_requantize q = {.y_scale = (float)ew_get(ew_in(r->call, Y_SCALE), 0),
                       .b_scale = b->values,
                       .first = r->b * b->matrix_step,
                       .step = b->step,
                       .zero = ew_in(r->call, Y_ZERO)};
    for (int64_t i = begin; i < end; i++) {
        q.a_scale = (float)ew_get(a->values, r->a * a->matrix_step + (r->first + i) * a->step);
        ew_requantize_row(&q, r->x + i * n, r->y + i * n, n);
    }
}

static void run_qlinear(const ew_call *call, const product *p, int64_t number) {
    const ew_matmul *mm = &p->mm;
    rows r = {.call = call, .p = p, .x = call->workspace};
    int64_t tile = ew_tile(mm->n * (int64_t)sizeof(int32_t), mm->m);
    ew_matmul_pick(mm, number, &r.a, &r.b);
    for (; r.first < mm->m; r.first += tile) {
        int64_t end = r.first + tile < mm->m ? r.first + tile : mm->m;
        ew_gemm_8 g = rows_of(p, r.a, r.b, r.first, end);
        g.c = call->workspace;
        r.y = (uint8_t *)ew_out(call, 0)->data + (number * mm->m + r.first) * mm->n;
        ew_gemm_s32(call, &g);
        ew_parallel(call, end - r.first, 1 + 16384 / mm->n, requantize_rows, &r);
    }
}

edge_status ew_run_qlinear_matmul(ew_call *call) {
    product p;
    EW_TRY(read_qlinear(call, &p));
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    for (int64_t i = 0; i < p.mm.batches; i++) run_qlinear(call, &p, i);
    return EDGE_OK;
}
