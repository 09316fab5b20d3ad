/* softmax(scale q k + mask) v, a block of rows of the scores at a time.
 *
 * Dao et al. 2022, "FlashAttention", section 3.1, for why the scores never leave the cache; here a block is whole
 * rows, so that the softmax needs no second pass.  A few rows, as in the steps of a decoder, read keys and values where
 * they lie; for more, both are packed. */
#include <math.h>

#include "../session.h"
#include "fused.h"

enum { BLOCK = EW_BLOCK_ROWS, FEW = 4 };

/* A tensor in the order of the matrix: lengths of its axes, and how far it is from one to the next, in floats. */
typedef struct matrix {
    const float *data;
    int64_t dims[EDGE_MAX_RANK], step[EDGE_MAX_RANK];
} matrix;

typedef struct job {
    const ew_attention_detail *detail;
    edge_gemm_f32_run *gemm;
    edge_softmax_f32 *softmax;
    edge_combine_f32 *add;
    edge_dots_f32 *dots;
    edge_mix_f32 *mix;
    matrix q, k, v, y, mask;
    float *packed; /* NULL: keys and values are read where they lie */
    size_t k_floats, v_floats;
    int64_t m, d, t, e;            /* q [m, d], k [d, t], v [t, e] */
    int64_t batches, rows, blocks; /* rows of a block; blocks of one batch */
    bool mask_is_row;              /* a whole row of the mask for each row of the scores */
} job;

/* A state has room for more positions than it holds. */
static void view(const ew_tensor *t, const int *order, const ew_state_spec *state, matrix *m) {
    int64_t step = 1, at[EDGE_MAX_RANK];
    for (int axis = t->rank - 1; axis >= 0; axis--) {
        at[axis] = step;
        step *= state && axis == state->axis ? state->max_length : t->dims[axis];
    }
    m->data = t->data;
    for (int i = 0; i < t->rank; i++) {
        m->dims[i] = t->dims[order[i]];
        m->step[i] = at[order[i]];
    }
}

/* The mask has the axes of the scores, from the last on. */
static void view_mask(const ew_tensor *t, int rank, matrix *m) {
    int64_t step = 1;
    *m = (matrix){.data = t->data};
    for (int i = rank - 1; i >= 0; i--) {
        int axis = i - (rank - t->rank);
        m->dims[i] = axis < 0 ? 1 : t->dims[axis];
        m->step[i] = m->dims[i] == 1 ? 0 : step;
        step *= m->dims[i];
    }
}

/* An axis of length 1 is the same for all. */
static void broadcast(matrix *m, int rank, const int64_t *leading) {
    for (int i = 0; i < rank - 2; i++)
        if (m->dims[i] != leading[i]) m->step[i] = 0;
}

/* Sizes and steps; `leading` are the lengths of the axes before the matrices. */
static void read_sizes(const ew_call *call, job *j, int64_t *leading) {
    const ew_attention_detail *d = call->node->detail;
    int rank = d->rank;
    *j = (job){.detail = d, .batches = 1};
    view(ew_in(call, 0), d->q, NULL, &j->q);
    view(ew_in(call, 1), d->k, d->k_state, &j->k);
    view(ew_in(call, 2), d->v, d->v_state, &j->v);
    for (int i = 0; i < rank - 2; i++) {
        leading[i] = j->q.dims[i] != 1 ? j->q.dims[i] : j->k.dims[i] != 1 ? j->k.dims[i] : j->v.dims[i];
        j->batches *= leading[i];
    }
    j->m = j->q.dims[rank - 2];
    j->d = j->q.dims[rank - 1];
    j->t = j->k.dims[rank - 1];
    j->e = j->v.dims[rank - 1];
    int64_t room = EW_MOST_SCORES / (j->t ? j->t : 1);
    j->rows = room < BLOCK ? room : BLOCK;
    j->blocks = (j->m + j->rows - 1) / j->rows;
    j->k_floats = edge_gemm_packed_f32(d->gemm, j->t, j->d);
    j->v_floats = edge_gemm_packed_f32(d->gemm, j->e, j->t);
}

static bool broadcasts(const matrix *m, int rank, const int64_t *leading) {
    for (int i = 0; i < rank - 2; i++)
        if (m->dims[i] != 1 && m->dims[i] != leading[i]) return false;
    return true;
}

static bool mask_fits(const ew_call *call, const job *j, const int64_t *leading) {
    matrix mask;
    int rank = j->detail->rank;
    if (!ew_in(call, 3)) return true;
    view_mask(ew_in(call, 3), rank, &mask);
    return broadcasts(&mask, rank, leading) && (mask.dims[rank - 2] == 1 || mask.dims[rank - 2] == j->m) &&
           (mask.dims[rank - 1] == 1 || mask.dims[rank - 1] == j->t);
}

edge_status ew_infer_fused_attention(ew_call *call) {
    const ew_attention_detail *d = call->node->detail;
    int64_t leading[EDGE_MAX_RANK], dims[EDGE_MAX_RANK];
    job j;
    read_sizes(call, &j, leading);
    bool alike = broadcasts(&j.q, d->rank, leading) && broadcasts(&j.k, d->rank, leading) && broadcasts(&j.v, d->rank, leading);
    if (!alike || j.k.dims[d->rank - 2] != j.d || j.v.dims[d->rank - 2] != j.t || j.t > EW_MOST_SCORES ||
        !mask_fits(call, &j, leading))
        return ew_fail(EDGE_SHAPE_MISMATCH, "queries [%lld, %lld], keys [%lld, %lld], values [%lld, %lld] and their mask do not match",
                       (long long)j.m, (long long)j.d, (long long)j.k.dims[d->rank - 2], (long long)j.t,
                       (long long)j.v.dims[d->rank - 2], (long long)j.e);
    for (int i = 0; i < d->rank; i++)
        dims[d->y[i]] = i < d->rank - 2 ? leading[i] : i == d->rank - 2 ? j.m : j.e;
    return ew_shape(ew_out(call, 0), EDGE_F32, d->rank, dims);
}

/* Whether rows of keys and values can be read where they lie: they must be in one piece. */
static bool reads_in_place(const job *j) {
    int rank = j->detail->rank;
    return j->m <= FEW && (j->k.step[rank - 2] == 1 || j->d == 1) && (j->v.step[rank - 1] == 1 || j->e == 1);
}

/* Packed keys and values of every batch: fewer rows may need it where more do not. */
size_t ew_workspace_fused_attention(const ew_call *call) {
    int64_t leading[EDGE_MAX_RANK];
    job j;
    read_sizes(call, &j, leading);
    return reads_in_place(&j) ? 0 : (size_t)j.batches * (j.k_floats + j.v_floats) * sizeof(float);
}

/* Where a batch begins. */
static int64_t begin_of(const job *j, const matrix *m, int64_t batch) {
    int64_t at = 0;
    for (int axis = j->detail->rank - 3; axis >= 0; axis--) {
        int64_t length = j->y.dims[axis];
        at += batch % length * m->step[axis];
        batch /= length;
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
        edge_gemm_pack_f32(d->gemm, j->t, j->d, j->k.data + begin_of(j, &j->k, i), j->k.step[row], j->k.step[column], packed);
        scale(packed, j->k_floats, d->scale);
        edge_gemm_pack_f32(d->gemm, j->e, j->t, j->v.data + begin_of(j, &j->v, i), j->v.step[row], j->v.step[column],
                           packed + j->k_floats);
    }
}

/* Scores to weights. */
static void weigh(const job *j, int64_t batch, int64_t row, float *scores) {
    if (j->mask.data) {
        const float *mask = j->mask.data + begin_of(j, &j->mask, batch) + row * j->mask.step[j->detail->rank - 2];
        if (j->mask_is_row) j->add(scores, mask, scores, j->t);
        else
            for (int64_t i = 0; i < j->t; i++) scores[i] += *mask;
    }
    j->softmax(scores, scores, j->t);
    if (j->detail->nan_to_zero && scores[0] != scores[0]) memset(scores, 0, (size_t)j->t * sizeof *scores);
}

/* One block of rows of one batch, by packed keys and values. */
static void attend(const job *j, int64_t batch, int64_t first) {
    int row = j->detail->rank - 2;
    int64_t count = j->m - first < j->rows ? j->m - first : j->rows;
    float scores[EW_MOST_SCORES] __attribute__((aligned(64)));
    const float *rows[BLOCK] = {NULL}, *packed = j->packed + (size_t)batch * (j->k_floats + j->v_floats);
    const float *q = j->q.data + begin_of(j, &j->q, batch) + first * j->q.step[row];
    for (int64_t r = 0; r < count; r++) rows[r] = q + r * j->q.step[row];
    edge_gemm_f32 g = {
        .n = j->t, .depth = j->d, .taps = 1, .b = packed, .c_row = j->t, .low = -INFINITY, .high = INFINITY};
    j->gemm(&g, count, rows, scores, NULL);
    for (int64_t r = 0; r < count; r++) {
        rows[r] = scores + r * j->t;
        weigh(j, batch, first + r, scores + r * j->t);
    }
    g = (edge_gemm_f32){.n = j->e,
                        .depth = j->t,
                        .taps = 1,
                        .b = packed + j->k_floats,
                        .c_row = j->y.step[row],
                        .low = -INFINITY,
                        .high = INFINITY};
    float *y = (float *)(uintptr_t)j->y.data + begin_of(j, &j->y, batch) + first * j->y.step[row];
    j->gemm(&g, count, rows, y, NULL);
}

static void attend_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t i = begin; i < end; i++) attend(j, i / j->blocks, i % j->blocks * j->rows);
}

/* Single rows, by keys and values as they lie. */
static void attend_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int row = j->detail->rank - 2, column = j->detail->rank - 1;
    float scores[EW_MOST_SCORES] __attribute__((aligned(64)));
    for (int64_t i = begin; i < end; i++) {
        int64_t batch = i / j->m, r = i % j->m;
        float *y = (float *)(uintptr_t)j->y.data + begin_of(j, &j->y, batch) + r * j->y.step[row];
        j->dots(j->q.data + begin_of(j, &j->q, batch) + r * j->q.step[row], j->k.data + begin_of(j, &j->k, batch),
                j->k.step[column], j->t, j->d, scores);
        for (int64_t s = 0; s < j->t; s++) scores[s] *= j->detail->scale;
        weigh(j, batch, r, scores);
        j->mix(scores, j->v.data + begin_of(j, &j->v, batch), j->v.step[row], j->t, j->e, y);
    }
}

static edge_any_kernel *kernel(const ew_call *call, edge_kernel_op op) {
    return edge_kernel_find(op, EDGE_KERNEL_F32, EDGE_DENSE, call->session->isa)->run;
}

edge_status ew_run_fused_attention(ew_call *call) {
    int64_t leading[EDGE_MAX_RANK];
    job j;
    read_sizes(call, &j, leading);
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    const ew_attention_detail *d = j.detail;
    view(ew_out(call, 0), d->y, NULL, &j.y);
    if (ew_in(call, 3)) view_mask(ew_in(call, 3), d->rank, &j.mask);
    matrix *all[] = {&j.q, &j.k, &j.v};
    for (int i = 0; i < 3; i++) broadcast(all[i], d->rank, leading);
    j.mask_is_row = j.mask.step[d->rank - 1] == 1 || j.t == 1;
    j.gemm = (edge_gemm_f32_run *)d->gemm->run;
    j.softmax = (edge_softmax_f32 *)kernel(call, EDGE_SOFTMAX);
    j.add = (edge_combine_f32 *)kernel(call, EDGE_ADD);
    if (reads_in_place(&j)) {
        j.dots = (edge_dots_f32 *)kernel(call, EDGE_DOTS);
        j.mix = (edge_mix_f32 *)kernel(call, EDGE_MIX);
        ew_parallel(call, j.batches * j.m, 1 + 65536 / (j.t * (j.d + j.e) + 1), attend_rows, &j);
        return EDGE_OK;
    }
    j.packed = call->workspace;
    ew_parallel(call, j.batches, 1 + 65536 / (j.t * (j.d + j.e) + 1), pack, &j);
    ew_parallel(call, j.batches * j.blocks, 1 + 65536 / (j.rows * j.t * (j.d + j.e) + 1), attend_blocks, &j);
    return EDGE_OK;
}
