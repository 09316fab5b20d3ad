/* Products of 8 bits whose weights are mostly zeros: which blocks of them hold anything, and whether that is faster. */
#include <math.h>

#include "edge_blocks.h"
#include "prepare.h"

/* Weights as their packer reads them, and the blocks that hold anything. */
typedef struct matrix {
    const int8_t *data;
    const ew_packing *packing;
    int64_t tap, row, column; /* steps */
    int64_t blocks;
} matrix;

static matrix matrix_of(const ew_tensor *weights, const ew_packing *g) {
    matrix m = {.data = weights->data, .packing = g, .tap = 1};
    m.row = g->kind == EW_PACK_LINEAR ? g->outputs : g->taps;
    m.column = g->kind == EW_PACK_LINEAR ? 1 : g->depth * g->taps;
    return m;
}

static int64_t fours_of(const matrix *m) { return m->packing->taps * ((m->packing->depth + 3) / 4); }

/* Whether few zeros are among some of the weights. */
static bool seems_dense(const ew_tensor *weights) {
    enum { RUNS = 8, RUN = 256, FEW = 4 };
    int64_t count = ew_count(weights), run = count < RUN ? count : RUN, zeros = 0;
    for (int64_t i = 0; i < RUNS; i++)
        for (int64_t j = 0; j < run; j++) zeros += ((const int8_t *)weights->data)[(count - run) / RUNS * i + j] == 0;
    return zeros * FEW < RUNS * run;
}

/* ---- costs, in multiplications of a dense product of many rows ---- */

/* Measured on Zen 3 (AVX2) and Zen 4 (AVX-512); on ARM by the instructions of the inner loops. */
typedef struct costs {
    double block;        /* of a multiplication of a block */
    double few;          /* the rows that a tile of up to FEW costs as much as */
    double tile;         /* to a multiple of which other rows are filled up */
    double least;        /* the rows that dense weights cost at least */
    double side_by_side; /* values of a row that are laid there, for each output, for as much as a multiplication */
} costs;

enum { FEW = 4 };

static costs costs_of(const edge_kernel *kernel) {
    switch (kernel->isa) {
    case EDGE_ISA_AVX512VNNI: return (costs){1.05, 9.4, 16, 2.7, 190};
    case EDGE_ISA_NEON:
    case EDGE_ISA_NEON_DOT: return (costs){1.4, 4.6, kernel->mr, 2, 24};
    default: return (costs){1.05, 4.6, kernel->mr, 2, 24};
    }
}

/* Rows that a kernel computes, and what goes with each. */
static double tall_rows(const costs *cost, double rows) {
    double rest = fmod(rows, cost->tile);
    return rows - rest + (rest > FEW ? cost->tile : rest > 0 ? cost->few : 0);
}

/* Of what dense weights cost; sums have to be begun and stored, of blocks each four columns apart. */
static double share_of(const costs *cost, const matrix *m, int64_t rows) {
    enum { WEIGHTS = 16, DENSE_SUM = 35, SUM = 55 };
    double depth = (double)(m->packing->taps * m->packing->depth), outputs = (double)m->packing->outputs;
    double sum = SUM + depth / cost->side_by_side, dense = fmax((double)rows, cost->least) * outputs * (depth + DENSE_SUM);
    return tall_rows(cost, (double)rows) * cost->block * (WEIGHTS * (double)m->blocks + outputs * sum) / dense;
}

/* The largest, also of fewer rows if there may be. */
static double most_share(const edge_kernel *kernel, const matrix *m, int64_t rows, bool fewer) {
    costs cost = costs_of(kernel);
    double most = share_of(&cost, m, rows);
    for (int64_t r = 1; fewer && r < rows && r < 2 * kernel->mr; r++) most = fmax(most, share_of(&cost, m, r));
    return most;
}

/* ---- packing ---- */

static edge_status fill(const void *context, void *into) {
    const matrix *m = context;
    const ew_packing *g = m->packing;
    edge_gemm_pack_blocks_s8(g->outputs, g->depth, g->taps, m->data, m->tap, m->row, m->column, into);
    return EDGE_OK;
}

/* What was packed may come from a file: nothing in it may lead a kernel outside. */
static bool is_sound(const matrix *m, const void *packed) {
    const int32_t *counts = packed;
    if (counts[0] != (m->packing->outputs + 3) / 4 || counts[1] != m->blocks) return false;
    edge_blocks b = edge_blocks_of(packed);
    if (b.start[0] != 0 || b.start[b.groups] != m->blocks) return false;
    for (int64_t g = 0; g < b.groups; g++)
        if (b.start[g] > b.start[g + 1]) return false;
    for (int64_t i = 0; i < m->blocks; i++)
        if (b.index[i] >= fours_of(m)) return false;
    return true;
}

/* Dense weights of 8 bits have taps in theirs. */
static uint32_t code_of(const matrix *m) { return (uint32_t)EW_PACKING_VERSION << 24 | 1 << 3 | (uint32_t)m->packing->kind; }

static edge_status pack(ew_preparer *p, const matrix *m, int value, const void **packed) {
    edge_session *session = p->session;
    const ew_graph *model = session->model_graph;
    size_t bytes = edge_gemm_blocks_bytes_s8(m->packing->outputs, m->blocks);
    if (value < model->value_count && model->values[value].has_data)
        return ew_weights_get(session->weights, model->values[value].tensor.data, code_of(m), bytes, fill, m, packed);
    void *own = ew_arena_get_dirty(&session->arena, bytes);
    *packed = own;
    return own ? fill(m, own) : EDGE_NO_MEMORY;
}

#define SURE 0.97 /* of the cost of dense weights */

edge_status ew_pack_sparse_s8(ew_preparer *p, int value, const ew_packing *packing, const ew_tensor *result, ew_fused *f) {
    const ew_tensor *weights = ew_tensor_of(p, value);
    matrix m = matrix_of(weights, packing);
    const edge_kernel *kernel = edge_kernel_find(EDGE_GEMM, EDGE_KERNEL_S8, EDGE_BLOCKS_4X4, p->session->isa);
    int64_t rows = ew_count(result) / packing->outputs;
    if (weights->dtype != EDGE_S8 || !kernel || fours_of(&m) > EDGE_BLOCKS_MOST_FOURS || seems_dense(weights)) return EDGE_OK;
    m.blocks = edge_gemm_blocks_s8(packing->outputs, packing->depth, packing->taps, m.data, m.tap, m.row, m.column);
    double share = most_share(kernel, &m, rows, result->dynamic);
    ew_tell_cost(p, share);
    if (share >= SURE) return EDGE_OK;
    EW_TRY(pack(p, &m, value, &f->weights));
    if (!is_sound(&m, f->weights)) return ew_fail(EDGE_INVALID_MODEL, "packed weights of '%s' are damaged", p->from->values[value].name);
    f->kernel = kernel;
    return EDGE_OK;
}
