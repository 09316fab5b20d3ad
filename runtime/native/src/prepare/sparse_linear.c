/* Products of rows whose weights are mostly zeros. */
#include <math.h>

#include "prepare.h"

/* Measured on Zen 3 (AVX2, and for all others) and Zen 4 (AVX-512), as all costs here in multiplications of a dense product of
 * many rows. */
typedef struct costs {
    double least; /* the rows that a dense product costs at least: its weights are read */
    double wait;  /* of a block with rows as they lie, for what it reads of them */
} costs;

static costs costs_of(const edge_kernel *kernel) {
    return kernel->isa == EDGE_ISA_AVX512VNNI ? (costs){3, 20} : (costs){4, 22};
}

static double dense_cost(const ew_blocks *s, double rows) {
    return (double)s->outputs * (double)s->depth * fmax(rows, costs_of(s->kernel).least);
}

/* As they lie: blocks wait for what they read of each row, and groups for their sums. */
static double cost_of_few(const ew_blocks *s, double rows) {
    double wait = costs_of(s->kernel).wait, each = s->kernel->nr == 1 ? wait * rows : wait + 8 * rows;
    return each * (double)s->blocks + 300 * (double)((s->outputs + s->kernel->nr - 1) / s->kernel->nr);
}

/* Places of a tile that take as long as those that it has: sums of few vectors wait for each other. */
static double places_of(const ew_blocks *s, int64_t tile) {
    double least = s->kernel->mr / (s->kernel->nr == 1 ? 4.0 : 2.0), own = (double)tile;
    return own > least ? own : least;
}

/* In tiles: besides blocks and sums, values are turned, there and back. */
static double cost_of_tiles(const ew_blocks *s, int64_t rows) {
    enum { TURN = 8 };
    int64_t tile = edge_spmm_tile(s->kernel, rows), rest = rows % tile;
    double places = (double)(rows / tile) * places_of(s, tile), each = s->kernel->nr == 1 ? 2.9 : 5.5;
    if (rest) places += places_of(s, edge_spmm_tile(s->kernel, rest));
    return (each * (double)s->blocks + 3 * (double)s->outputs) * places + (double)(TURN * (s->depth + s->outputs) * rows);
}

/* Of that of dense weights. */
static double share_of(const ew_blocks *s, const edge_kernel *few, int64_t rows) {
    double cost = rows <= few->mr ? cost_of_few(s, (double)rows) : cost_of_tiles(s, rows);
    return cost / dense_cost(s, (double)rows);
}

#define SURE 0.97 /* of the cost of dense weights */

/* The largest of fewer rows. */
static double share_below(const ew_blocks *s, const edge_kernel *few, int64_t rows) {
    enum { MANY = 9 }; /* from here on a row costs the less the more there are */
    double most = 0;
    for (int64_t r = 1; r < rows && r < MANY; r++) most = fmax(most, share_of(s, few, r));
    return most;
}

/* The better of both formats for the most rows, where it is better than dense weights, also for fewer if there may be. */
static bool find(ew_preparer *p, const ew_node *node, ew_blocks *best, const edge_kernel **few) {
    const ew_tensor *x = ew_tensor_of(p, node->inputs[0]), *weights = ew_tensor_of(p, node->inputs[1]);
    int64_t rows = ew_span(x, 0, x->rank - 1);
    ew_packing packing = ew_packing_of(node, weights, false, false);
    bool turned = packing.kind == EW_PACK_TURNED, found = false;
    double least = SURE;
    for (edge_kernel_format format = EDGE_BLOCKS_1X1; format <= EDGE_BLOCKS_4X1; format++) {
        ew_blocks s = {.weights = weights->data, .outputs = packing.outputs, .depth = packing.depth,
                       .row = turned ? packing.depth : 1, .column = turned ? 1 : packing.outputs};
        const edge_kernel *of_few = edge_kernel_find(EDGE_SPMV, EDGE_KERNEL_F32, format, p->session->isa);
        if (!of_few || !ew_count_blocks(p, format, &s)) continue;
        double share = share_of(&s, of_few, rows), most = x->dynamic ? fmax(share, share_below(&s, of_few, rows)) : share;
        ew_tell_cost(p, fmin(p->sparse_cost > 0 ? p->sparse_cost : most, most));
        if (share >= least || most >= SURE) continue;
        least = share;
        *best = s;
        *few = of_few;
        found = true;
    }
    return found;
}

edge_status ew_emit_sparse_linear(ew_preparer *p, const ew_chain *chain, bool *done) {
    const ew_node *head = &p->from->nodes[chain->head];
    int inputs[3] = {head->inputs[0], head->inputs[1], chain->add};
    const edge_kernel *few = NULL;
    ew_blocks s;
    if (ew_is_image(head) || chain->grouped || ew_seems_dense(ew_tensor_of(p, inputs[1])) || !find(p, head, &s, &few))
        return EDGE_OK;
    ew_sparse *detail = ew_arena_get(&p->session->arena, sizeof *detail);
    if (!detail) return EDGE_NO_MEMORY;
    EW_TRY(ew_pack_blocks(p, &s, inputs[1], detail));
    detail->few = few;
    detail->low = chain->low;
    detail->high = chain->high;
    detail->map = chain->map;
    EW_TRY(ew_join_bias(p, chain, s.outputs, false, &detail->bias));
    for (int i = 0; i < 3; i++) EW_TRY(ew_plain(p, inputs[i]));
    p->plain[chain->result] = true;
    ew_node *node;
    EW_TRY(ew_emit(p, ew_find_op(EW_FUSED_DOMAIN, "SparseLinear", 1), head, inputs, 3, &chain->result, 1, &node));
    node->detail = detail;
    *done = true;
    return EDGE_OK;
}
