/* A product of two computed matrices: b is packed in every run. */
#include <math.h>

#include "fused.h"

typedef struct job {
    ew_matmul mm;
    const edge_kernel *kernel;
    const float *a, *b;
    float *packed, *y;
    size_t packed_floats; /* of one matrix b */
} job;

static int64_t b_matrices(const ew_tensor *b) { return ew_span(b, 0, b->rank - 2); }

size_t ew_workspace_fused_matmul(const ew_call *call) {
    const ew_tensor *b = ew_in(call, 1);
    size_t floats = edge_gemm_packed_f32(ew_detail(call)->kernel, b->dims[b->rank - 1], b->dims[b->rank - 2]);
    return floats * (size_t)b_matrices(b) * sizeof(float);
}

static void pack(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++)
        edge_gemm_pack_f32(j->kernel, j->mm.n, j->mm.k, j->b + i * j->mm.k * j->mm.n, j->mm.n, 1,
                           j->packed + (size_t)i * j->packed_floats);
}

/* Rows of all products, one after the other. */
static void multiply(void *context, int64_t begin, int64_t end) {
    enum { BLOCK = EW_BLOCK_ROWS };
    const job *j = context;
    const float *rows[BLOCK];
    while (begin < end) {
        int64_t number = begin / j->mm.m, row = begin % j->mm.m, count = j->mm.m - row, a, b;
        count = count > end - begin ? end - begin : count;
        count = count > BLOCK ? BLOCK : count;
        ew_matmul_pick(&j->mm, number, &a, &b);
        for (int64_t r = 0; r < count; r++) rows[r] = j->a + (a * j->mm.m + row + r) * j->mm.k;
        edge_gemm_f32 g = {.n = j->mm.n,
                           .depth = j->mm.k,
                           .taps = 1,
                           .b = j->packed + (size_t)b * j->packed_floats,
                           .c_row = j->mm.n,
                           .low = -INFINITY,
                           .high = INFINITY};
        ((edge_gemm_f32_run *)j->kernel->run)(&g, count, rows, j->y + begin * j->mm.n, NULL);
        begin += count;
    }
}

edge_status ew_run_fused_matmul(ew_call *call) {
    job j = {.kernel = ew_detail(call)->kernel,
             .a = ew_in(call, 0)->data,
             .b = ew_in(call, 1)->data,
             .packed = call->workspace,
             .y = ew_out(call, 0)->data};
    EW_TRY(ew_matmul_read(ew_in(call, 0), ew_in(call, 1), &j.mm));
    j.packed_floats = edge_gemm_packed_f32(j.kernel, j.mm.n, j.mm.k);
    int64_t each = j.mm.n * j.mm.k;
    ew_parallel(call, b_matrices(ew_in(call, 1)), 1 + 65536 / (each + 1), pack, &j);
    ew_parallel(call, j.mm.batches * j.mm.m, 1 + 65536 / (each + 1), multiply, &j);
    return EDGE_OK;
}
