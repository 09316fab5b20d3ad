#include "linear.h"

/* Products of less than this many multiplications are given to threads whole. */
#define SMALL_PRODUCT (1 << 20)

static int64_t batch_dim(const ew_tensor *t, int axis, int batch_rank) {
    int own = axis - (batch_rank - (t->rank - 2));
    return own < 0 || t->rank < 2 ? 1 : t->dims[own];
}

static edge_status read_batch(const ew_tensor *a, const ew_tensor *b, ew_matmul *mm) {
    int64_t a_step = 1, b_step = 1;
    mm->batches = 1;
    for (int axis = mm->batch_rank - 1; axis >= 0; axis--) {
        int64_t p = batch_dim(a, axis, mm->batch_rank), q = batch_dim(b, axis, mm->batch_rank);
        if (p != q && p != 1 && q != 1)
            return ew_fail(EDGE_SHAPE_MISMATCH, "matrices in batches of %lld and %lld do not broadcast", (long long)p,
                           (long long)q);
        mm->batch[axis] = p == 1 ? q : p;
        mm->a_step[axis] = p == 1 ? 0 : a_step;
        mm->b_step[axis] = q == 1 ? 0 : b_step;
        a_step *= p;
        b_step *= q;
        mm->batches *= mm->batch[axis];
    }
    return EDGE_OK;
}

edge_status ew_matmul_read(const ew_tensor *a, const ew_tensor *b, ew_matmul *mm) {
    if (a->rank < 1 || b->rank < 1)
        return ew_fail(EDGE_SHAPE_MISMATCH, "matrices of rank %d and %d, both must be at least 1", a->rank, b->rank);
    int rank = a->rank > b->rank ? a->rank : b->rank;
    int64_t b_depth = b->dims[b->rank > 1 ? b->rank - 2 : 0];
    *mm = (ew_matmul){.m = a->rank > 1 ? a->dims[a->rank - 2] : 1,
                      .n = b->rank > 1 ? b->dims[b->rank - 1] : 1,
                      .k = a->dims[a->rank - 1],
                      .batch_rank = rank > 2 ? rank - 2 : 0};
    if (mm->k != b_depth)
        return ew_fail(EDGE_SHAPE_MISMATCH, "a matrix with rows of %lld times one with columns of %lld",
                       (long long)mm->k, (long long)b_depth);
    return read_batch(a, b, mm);
}

edge_status ew_matmul_shape(const ew_matmul *mm, const ew_tensor *a, const ew_tensor *b, edge_dtype dtype,
                            ew_tensor *y) {
    int64_t dims[EDGE_MAX_RANK];
    int rank = mm->batch_rank;
    memcpy(dims, mm->batch, (size_t)rank * sizeof *dims);
    if (a->rank > 1) dims[rank++] = mm->m;
    if (b->rank > 1) dims[rank++] = mm->n;
    return ew_shape(y, dtype, rank, dims);
}

void ew_matmul_pick(const ew_matmul *mm, int64_t number, int64_t *a, int64_t *b) {
    *a = *b = 0;
    for (int axis = mm->batch_rank - 1; axis >= 0; axis--) {
        int64_t index = number % mm->batch[axis];
        number /= mm->batch[axis];
        *a += index * mm->a_step[axis];
        *b += index * mm->b_step[axis];
    }
}

edge_status ew_infer_matmul(ew_call *call) {
    EW_TRY(ew_require(call, 2));
    EW_TRY(ew_like_first(call, 1));
    const ew_tensor *a = ew_in(call, 0), *b = ew_in(call, 1);
    ew_matmul mm;
    EW_TRY(ew_matmul_read(a, b, &mm));
    return ew_matmul_shape(&mm, a, b, a->dtype, ew_out(call, 0));
}

typedef struct product {
    ew_matmul mm;
    edge_dtype dtype;
    const uint8_t *a, *b;
    uint8_t *y;
} product;

static void multiply(const product *p, const ew_call *call, int64_t begin, int64_t end) {
    const ew_matmul *mm = &p->mm;
    int64_t size = (int64_t)ew_dtype_bytes(p->dtype), a, b;
    for (int64_t i = begin; i < end; i++) {
        ew_matmul_pick(mm, i, &a, &b);
        ew_gemm g = {.m = mm->m,
                     .n = mm->n,
                     .k = mm->k,
                     .a = p->a + a * mm->m * mm->k * size,
                     .a_row = mm->k,
                     .a_col = 1,
                     .b = p->b + b * mm->k * mm->n * size,
                     .b_row = mm->n,
                     .b_col = 1,
                     .c = p->y + i * mm->m * mm->n * size,
                     .c_row = mm->n};
        ew_gemm_any(call, p->dtype, &g);
    }
}

static void multiply_here(void *context, int64_t begin, int64_t end) { multiply(context, NULL, begin, end); }

/* One matrix b for all batches: the rows of all of them are one matrix a. */
static void join_batches(ew_matmul *mm) {
    for (int axis = 0; axis < mm->batch_rank; axis++)
        if (mm->b_step[axis] || mm->batch[axis] == 0) return;
    mm->m *= mm->batches;
    mm->batches = 1;
    mm->batch_rank = 0;
}

static edge_status run_wide(ew_call *call) {
    product p = {.dtype = ew_in(call, 0)->dtype,
                 .a = ew_in(call, 0)->data,
                 .b = ew_in(call, 1)->data,
                 .y = ew_out(call, 0)->data};
    EW_TRY(ew_matmul_read(ew_in(call, 0), ew_in(call, 1), &p.mm));
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    join_batches(&p.mm);
    int64_t each = p.mm.m * p.mm.n;
    each =
        p.mm.k > 0 && each < SMALL_PRODUCT ? each * (p.mm.k < SMALL_PRODUCT ? p.mm.k : SMALL_PRODUCT) : SMALL_PRODUCT;
    if (p.mm.batches > 1 && each < SMALL_PRODUCT)
        ew_parallel(call, p.mm.batches, 1 + SMALL_PRODUCT / 4 / (each > 0 ? each : 1), multiply_here, &p);
    else
        multiply(&p, call, 0, p.mm.batches);
    return EDGE_OK;
}

size_t ew_workspace_matmul(const ew_call *call) { return ew_half_workspace(call, 0); }

edge_status ew_run_matmul(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, 0, run_wide) : run_wide(call);
}
