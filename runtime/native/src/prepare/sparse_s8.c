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

/* What a multiplication of a block costs.  Measured with AVX2; on ARM by the instructions of the inner loops; the dense products
 * of AVX-512 take a fifth of the time of AVX2, which has the blocks. */
static double block_cost(const edge_kernel *kernel, edge_isa session) {
    if (kernel->isa == EDGE_ISA_NEON || kernel->isa == EDGE_ISA_NEON_DOT) return 1.4;
    return kernel->isa == session ? 1.05 : 5;
}

/* Rows that a kernel computes, and what goes with each: the first tile of four, or of all its rows. */
static double tall_rows(const edge_kernel *kernel, int64_t rows) {
    const double FEW = 4.6;
    int64_t rest = rows % kernel->mr;
    return (double)(rows - rest) + (rest > 4 ? (double)kernel->mr : rest ? FEW : 0);
}

/* Of what dense weights cost; sums have to be begun and stored, of blocks each four columns apart, and rows laid side by side. */
static double share_of(const edge_kernel *kernel, edge_isa session, const matrix *m, int64_t rows) {
    enum { WEIGHTS = 16, LEAST_ROWS = 2, DENSE_SUM = 35, SUM = 55, SIDE_BY_SIDE = 24 /* values for as much as a weight */ };
    double depth = (double)(m->packing->taps * m->packing->depth), outputs = (double)m->packing->outputs;
    double each = block_cost(kernel, session), sum = SUM + depth / SIDE_BY_SIDE;
    double dense = (rows > LEAST_ROWS ? (double)rows : LEAST_ROWS) * outputs * (depth + DENSE_SUM);
    return tall_rows(kernel, rows) * each * (WEIGHTS * (double)m->blocks + outputs * sum) / dense;
}

/* The largest, also of fewer rows if there may be. */
static double most_share(const edge_kernel *kernel, edge_isa session, const matrix *m, int64_t rows, bool fewer) {
    double most = share_of(kernel, session, m, rows);
    for (int64_t r = 1; fewer && r < rows && r < 2 * kernel->mr; r++) most = fmax(most, share_of(kernel, session, m, r));
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
    edge_isa isa = p->session->isa;
    const edge_kernel *kernel = edge_kernel_find(EDGE_GEMM, EDGE_KERNEL_S8, EDGE_BLOCKS_4X4, isa);
    int64_t rows = ew_count(result) / packing->outputs;
    if (weights->dtype != EDGE_S8 || !kernel || fours_of(&m) > EDGE_BLOCKS_MOST_FOURS || seems_dense(weights)) return EDGE_OK;
    m.blocks = edge_gemm_blocks_s8(packing->outputs, packing->depth, packing->taps, m.data, m.tap, m.row, m.column);
    double share = most_share(kernel, isa, &m, rows, result->dynamic);
    ew_tell_cost(p, share);
    if (share >= SURE) return EDGE_OK;
    EW_TRY(pack(p, &m, value, &f->weights));
    if (!is_sound(&m, f->weights)) return ew_fail(EDGE_INVALID_MODEL, "packed weights of '%s' are damaged", p->from->values[value].name);
    f->kernel = kernel;
    return EDGE_OK;
}
