/* softmax(scale q k + mask) v, a block of rows of the scores at a time: inputs q [.., m, d], k [.., d, t] (transposed),
 * v [.., t, e] and mask, absent or broadcast to [.., m, t].  All leading axes of q, k and v are alike.
 *
 * Dao et al. 2022, "FlashAttention", section 3.1, for why the scores never leave the cache; here a block is whole
 * rows, so that the softmax needs no second pass. */
#include <math.h>

#include "../session.h"
#include "fused.h"

enum { BLOCK = EW_BLOCK_ROWS };

typedef struct job {
    const ew_attention_detail *detail;
    const edge_kernel *gemm;
    edge_softmax_f32 *softmax;
    edge_combine_f32 *add;
    const ew_tensor *q, *mask;
    const float *k, *v;
    float *y, *scores, *packed;
    size_t k_floats, v_floats;
    int64_t batches, m, d, t, e, blocks; /* blocks of rows of one batch */
    int64_t mask_step[EDGE_MAX_RANK];
    bool mask_is_row; /* a whole row of the mask for each row of the scores */
} job;

static void read_sizes(const ew_call *call, job *j) {
    const ew_tensor *q = ew_in(call, 0), *k = ew_in(call, 1), *v = ew_in(call, 2);
    int rank = q->rank;
    *j = (job){.detail = (const ew_attention_detail *)call->node->detail,
               .q = q,
               .mask = ew_in(call, 3),
               .batches = ew_span(q, 0, rank - 2),
               .m = q->dims[rank - 2],
               .d = q->dims[rank - 1],
               .t = k->dims[rank - 1],
               .e = v->dims[rank - 1]};
    j->gemm = j->detail->fused.kernel;
    j->blocks = (j->m + BLOCK - 1) / BLOCK;
    j->k_floats = edge_gemm_packed_f32(j->gemm, j->t, j->d);
    j->v_floats = edge_gemm_packed_f32(j->gemm, j->e, j->t);
}

edge_status ew_infer_fused_attention(ew_call *call) {
    const ew_tensor *q = ew_in(call, 0), *k = ew_in(call, 1), *v = ew_in(call, 2), *mask = ew_in(call, 3);
    int rank = q->rank;
    for (int i = 0; i < rank - 2; i++)
        if (k->dims[i] != q->dims[i] || v->dims[i] != q->dims[i])
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of queries, keys and values differs", i);
    if (k->dims[rank - 2] != q->dims[rank - 1] || v->dims[rank - 2] != k->dims[rank - 1])
        return ew_fail(EDGE_SHAPE_MISMATCH, "queries, keys and values do not fit");
    int64_t dims[EDGE_MAX_RANK];
    memcpy(dims, q->dims, sizeof dims);
    dims[rank - 1] = k->dims[rank - 1];
    for (int i = 0; mask && i < mask->rank; i++)
        if (mask->dims[i] != 1 && mask->dims[i] != dims[rank - mask->rank + i])
            return ew_fail(EDGE_SHAPE_MISMATCH, "the mask does not broadcast to the scores");
    dims[rank - 1] = v->dims[rank - 1];
    return ew_shape(ew_out(call, 0), EDGE_F32, rank, dims);
}

/* Packed keys and values of every batch, and a block of scores for every block of rows. */
size_t ew_workspace_fused_attention(const ew_call *call) {
    job j;
    read_sizes(call, &j);
    size_t floats = (size_t)j.batches * (j.k_floats + j.v_floats + (size_t)(j.blocks * BLOCK * j.t));
    return floats * sizeof(float);
}

static void pack(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++) {
        float *packed = j->packed + (size_t)i * (j->k_floats + j->v_floats);
        edge_gemm_pack_f32(j->gemm, j->t, j->d, j->k + i * j->d * j->t, j->t, 1, packed);
        edge_gemm_pack_f32(j->gemm, j->e, j->t, j->v + i * j->t * j->e, j->e, 1, packed + j->k_floats);
    }
}

static void add_mask(const job *j, int64_t batch, int64_t row, float *scores) {
    const float *mask = j->mask->data;
    int rank = j->q->rank;
    for (int axis = rank - 3; axis >= 0; axis--) {
        mask += batch % j->q->dims[axis] * j->mask_step[axis];
        batch /= j->q->dims[axis];
    }
    mask += row * j->mask_step[rank - 2];
    if (j->mask_is_row) j->add(scores, mask, scores, j->t);
    else
        for (int64_t i = 0; i < j->t; i++) scores[i] += *mask;
}

/* One block of rows of one batch. */
static void attend(const job *j, int64_t batch, int64_t first) {
    int64_t count = j->m - first < BLOCK ? j->m - first : BLOCK;
    const float *rows[BLOCK] = {NULL}, *packed = j->packed + (size_t)batch * (j->k_floats + j->v_floats);
    float *scores = j->scores + (batch * j->blocks * BLOCK + first) * j->t;
    const float *q = (const float *)j->q->data + (batch * j->m + first) * j->d;
    for (int64_t r = 0; r < count; r++) rows[r] = q + r * j->d;
    edge_gemm_f32 g = {
        .n = j->t, .depth = j->d, .taps = 1, .b = packed, .c_row = j->t, .low = -INFINITY, .high = INFINITY};
    ((edge_gemm_f32_run *)j->gemm->run)(&g, count, rows, scores, NULL);
    for (int64_t r = 0; r < count; r++) {
        float *row = scores + r * j->t;
        rows[r] = row;
        for (int64_t i = 0; i < j->t; i++) row[i] *= j->detail->scale;
        if (j->mask) add_mask(j, batch, first + r, row);
        j->softmax(row, row, j->t);
        if (j->detail->nan_to_zero && row[0] != row[0]) memset(row, 0, (size_t)j->t * sizeof *row);
    }
    g = (edge_gemm_f32){.n = j->e,
                        .depth = j->t,
                        .taps = 1,
                        .b = packed + j->k_floats,
                        .c_row = j->e,
                        .low = -INFINITY,
                        .high = INFINITY};
    ((edge_gemm_f32_run *)j->gemm->run)(&g, count, rows, j->y + (batch * j->m + first) * j->e, NULL);
}

static void attend_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++) attend(j, i / j->blocks, i % j->blocks * BLOCK);
}

static void set_mask(job *j) {
    int rank = j->q->rank;
    int64_t step = 1;
    for (int i = j->mask->rank - 1; i >= 0; i--) {
        j->mask_step[rank - j->mask->rank + i] = j->mask->dims[i] == 1 ? 0 : step;
        step *= j->mask->dims[i];
    }
    j->mask_is_row = j->mask_step[rank - 1] == 1 || j->t == 1;
}

edge_status ew_run_fused_attention(ew_call *call) {
    job j;
    read_sizes(call, &j);
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    edge_isa isa = call->session->isa;
    j.softmax = (edge_softmax_f32 *)edge_kernel_find(EDGE_SOFTMAX, EDGE_KERNEL_F32, EDGE_DENSE, isa)->run;
    j.add = (edge_combine_f32 *)edge_kernel_find(EDGE_ADD, EDGE_KERNEL_F32, EDGE_DENSE, isa)->run;
    j.k = ew_in(call, 1)->data;
    j.v = ew_in(call, 2)->data;
    j.y = ew_out(call, 0)->data;
    j.packed = call->workspace;
    j.scores = j.packed + (size_t)j.batches * (j.k_floats + j.v_floats);
    if (j.mask) set_mask(&j);
    ew_parallel(call, j.batches, 1 + 65536 / (j.t * (j.d + j.e) + 1), pack, &j);
    ew_parallel(call, j.batches * j.blocks, 1 + 65536 / (BLOCK * j.t * (j.d + j.e) + 1), attend_blocks, &j);
    return EDGE_OK;
}
