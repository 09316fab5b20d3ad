/* softmax(scale q k + mask) v, a block of rows of the scores at a time.
 *
 * Dao et al. 2022, "FlashAttention", section 3.1, for why the scores never leave the cache; here a block is whole
 * rows, so that the softmax needs no second pass. */
#include <math.h>

#include "../session.h"
#include "fused.h"

enum { BLOCK = EW_BLOCK_ROWS };

typedef struct job {
    const ew_attention_detail *detail;
    edge_gemm_f32_run *gemm;
    edge_softmax_f32 *softmax;
    edge_combine_f32 *add;
    const ew_tensor *mask;
    const float *q, *k, *v;
    float *y, *packed;
    size_t k_floats, v_floats;
    int64_t batches, rows, blocks; /* rows of a block; blocks of one batch */
    int64_t mask_step[EDGE_MAX_RANK];
    bool mask_is_row; /* a whole row of the mask for each row of the scores */
} job;

static void read_sizes(const ew_call *call, job *j) {
    const ew_attention_detail *d = call->node->detail;
    *j = (job){.detail = d, .mask = ew_in(call, 3), .batches = 1};
    for (int i = 0; i < d->rank - 2; i++) j->batches *= d->leading[i];
    int64_t room = EW_MOST_SCORES / d->t;
    j->rows = room < BLOCK ? room : BLOCK;
    j->blocks = (d->m + j->rows - 1) / j->rows;
    j->k_floats = edge_gemm_packed_f32(d->gemm, d->t, d->d);
    j->v_floats = edge_gemm_packed_f32(d->gemm, d->e, d->t);
}

edge_status ew_infer_fused_attention(ew_call *call) {
    const ew_attention_detail *d = call->node->detail;
    return ew_shape(ew_out(call, 0), EDGE_F32, d->rank, d->dims);
}

/* Packed keys and values of every batch. */
size_t ew_workspace_fused_attention(const ew_call *call) {
    job j;
    read_sizes(call, &j);
    return (size_t)j.batches * (j.k_floats + j.v_floats) * sizeof(float);
}

/* Where a batch begins, by the steps of the leading axes. */
static int64_t begin_of(const ew_attention_detail *d, const int64_t *steps, int64_t batch) {
    int64_t at = 0;
    for (int axis = d->rank - 3; axis >= 0; axis--) {
        at += batch % d->leading[axis] * steps[axis];
        batch /= d->leading[axis];
    }
    return at;
}

/* Of packed values, whose number is a multiple of four. */
static void scale(float *values, size_t count, float factor) {
    for (size_t i = 0; i < count; i += 4)
        for (int j = 0; j < 4; j++) values[i + (size_t)j] *= factor;
}

/* The scale of the scores goes with the keys. */
static void pack(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const ew_attention_detail *d = j->detail;
    int row = d->rank - 2, column = d->rank - 1;
    for (int64_t i = begin; i < end; i++) {
        float *packed = j->packed + (size_t)i * (j->k_floats + j->v_floats);
        edge_gemm_pack_f32(d->gemm, d->t, d->d, j->k + begin_of(d, d->k, i), d->k[row], d->k[column], packed);
        scale(packed, j->k_floats, d->scale);
        edge_gemm_pack_f32(d->gemm, d->e, d->t, j->v + begin_of(d, d->v, i), d->v[row], d->v[column],
                           packed + j->k_floats);
    }
}

static void add_mask(const job *j, int64_t batch, int64_t row, float *scores) {
    const ew_attention_detail *d = j->detail;
    const float *mask = (const float *)j->mask->data + begin_of(d, j->mask_step, batch) + row * j->mask_step[d->rank - 2];
    if (j->mask_is_row) j->add(scores, mask, scores, d->t);
    else
        for (int64_t i = 0; i < d->t; i++) scores[i] += *mask;
}

/* One block of rows of one batch. */
static void attend(const job *j, int64_t batch, int64_t first) {
    const ew_attention_detail *d = j->detail;
    int64_t count = d->m - first < j->rows ? d->m - first : j->rows, q_row = d->q[d->rank - 2], y_row = d->y[d->rank - 2];
    float scores[EW_MOST_SCORES] __attribute__((aligned(64)));
    const float *rows[BLOCK] = {NULL}, *packed = j->packed + (size_t)batch * (j->k_floats + j->v_floats);
    const float *q = j->q + begin_of(d, d->q, batch) + first * q_row;
    for (int64_t r = 0; r < count; r++) rows[r] = q + r * q_row;
    edge_gemm_f32 g = {
        .n = d->t, .depth = d->d, .taps = 1, .b = packed, .c_row = d->t, .low = -INFINITY, .high = INFINITY};
    j->gemm(&g, count, rows, scores, NULL);
    for (int64_t r = 0; r < count; r++) {
        float *row = scores + r * d->t;
        rows[r] = row;
        if (j->mask) add_mask(j, batch, first + r, row);
        j->softmax(row, row, d->t);
        if (d->nan_to_zero && row[0] != row[0]) memset(row, 0, (size_t)d->t * sizeof *row);
    }
    g = (edge_gemm_f32){.n = d->e,
                        .depth = d->t,
                        .taps = 1,
                        .b = packed + j->k_floats,
                        .c_row = y_row,
                        .low = -INFINITY,
                        .high = INFINITY};
    j->gemm(&g, count, rows, j->y + begin_of(d, d->y, batch) + first * y_row, NULL);
}

static void attend_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++) attend(j, i / j->blocks, i % j->blocks * j->rows);
}

static void set_mask(job *j) {
    int rank = j->detail->rank;
    int64_t step = 1;
    for (int i = j->mask->rank - 1; i >= 0; i--) {
        j->mask_step[rank - j->mask->rank + i] = j->mask->dims[i] == 1 ? 0 : step;
        step *= j->mask->dims[i];
    }
    j->mask_is_row = j->mask_step[rank - 1] == 1 || j->detail->t == 1;
}

edge_status ew_run_fused_attention(ew_call *call) {
    job j;
    read_sizes(call, &j);
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    const ew_attention_detail *d = j.detail;
    edge_isa isa = call->session->isa;
    j.gemm = (edge_gemm_f32_run *)d->gemm->run;
    j.softmax = (edge_softmax_f32 *)edge_kernel_find(EDGE_SOFTMAX, EDGE_KERNEL_F32, EDGE_DENSE, isa)->run;
    j.add = (edge_combine_f32 *)edge_kernel_find(EDGE_ADD, EDGE_KERNEL_F32, EDGE_DENSE, isa)->run;
    j.q = ew_in(call, 0)->data;
    j.k = ew_in(call, 1)->data;
    j.v = ew_in(call, 2)->data;
    j.y = ew_out(call, 0)->data;
    j.packed = call->workspace;
    if (j.mask) set_mask(&j);
    ew_parallel(call, j.batches, 1 + 65536 / (d->t * (d->d + d->e) + 1), pack, &j);
    ew_parallel(call, j.batches * j.blocks, 1 + 65536 / (j.rows * d->t * (d->d + d->e) + 1), attend_blocks, &j);
    return EDGE_OK;
}
