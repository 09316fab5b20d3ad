/* Products of rows with sparse weights.  Few rows are multiplied as they lie; more are turned, some at a time, so that the
 * values of neighbouring rows lie side by side, and so are the results. */
#include "../session.h"
#include "fused.h"

enum {
    SLICE = 64,     /* depths, and outputs, that are turned at once */
    MOST_TILE = 64, /* rows */
    PADDING = 32,   /* rows by which the last tile may be longer than what it has */
    SMALL = 65536   /* multiplications below which a thread is not worth waking */
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

int64_t ew_sparse_blocks(const ew_sparse *s, int64_t outputs) {
    int64_t side = s->kernel->nr;
    return s->start[(least(outputs, s->outputs) + side - 1) / side];
}

int64_t ew_sparse_work(const ew_sparse *s) { return ew_sparse_blocks(s, s->outputs) + (s->outputs + 3) / 4; }

int64_t ew_sparse_output(const ew_sparse *s, int64_t work) {
    int64_t low = 0, high = (s->outputs + 3) / 4;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (ew_sparse_blocks(s, middle * 4) + middle < work) low = middle + 1;
        else high = middle;
    }
    return least(low * 4, s->outputs);
}

edge_status ew_infer_sparse_linear(ew_call *call) {
    const ew_sparse *s = call->node->detail;
    return ew_linear_shape(call, s->depth, s->outputs, EDGE_F32);
}

typedef struct product {
    const ew_sparse *sparse;
    edge_spmm_f32 job;
    int64_t rows, tile; /* rows of a tile, but for the last one */
    const float *x, *add;
    float *y, *turned; /* tile after tile, each [depth][rows] */
} product;

/* ---- few rows ---- */

static void run_few(void *context, int64_t begin, int64_t end) {
    const product *p = context;
    int64_t first = ew_sparse_output(p->sparse, begin), last = ew_sparse_output(p->sparse, end);
    ((edge_spmv_f32_run *)p->sparse->few->run)(&p->job, first, last, p->rows, p->x, p->y, p->add);
    for (int64_t row = 0; row < p->rows && p->sparse->map; row++) {
        float *y = p->y + row * p->sparse->outputs + first;
        p->sparse->map(y, y, last - first);
    }
}

/* ---- tiles of rows ---- */

/* Rows of a tile that are there, and those that it has. */
static int64_t rows_of(const product *p, int64_t tile) { return least(p->tile, p->rows - tile * p->tile); }
static int64_t width_of(const product *p, int64_t rows) {
    return rows < p->tile ? edge_spmm_tile(p->sparse->kernel, rows) : rows;
}

/* Some columns of some rows, of which the last one is there several times. */
static void turn(const float *x, int64_t x_row, int64_t rows, int64_t columns, float *y, int64_t width) {
    edge_turn_f32(rows, columns, x, x_row, y, width);
    for (int64_t i = rows; i < width; i++) edge_turn_f32(1, columns, x + (rows - 1) * x_row, x_row, y + i, width);
}

static void turn_slices(void *context, int64_t begin, int64_t end) {
    const product *p = context;
    int64_t depth = p->job.depth, slices = (depth + SLICE - 1) / SLICE;
    for (int64_t i = begin; i < end; i++) {
        int64_t tile = i / slices, first = i % slices * SLICE, row = tile * p->tile;
        int64_t rows = rows_of(p, tile), width = width_of(p, rows);
        turn(p->x + row * depth + first, depth, rows, least(SLICE, depth - first), p->turned + row * depth + first * width, width);
    }
}

/* Outputs [begin, end) of a tile. */
static void multiply(const product *p, int64_t tile, int64_t begin, int64_t end) {
    const ew_sparse *s = p->sparse;
    float found[SLICE * MOST_TILE] __attribute__((aligned(64))), added[SLICE * MOST_TILE] __attribute__((aligned(64)));
    int64_t row = tile * p->tile, rows = rows_of(p, tile), width = width_of(p, rows);
    edge_spmm_f32 job = p->job;
    job.x_row = job.c_row = job.add_row = width;
    for (int64_t first = begin, count; first < end; first += count) {
        count = least(SLICE, end - first);
        job.start = s->start + first / s->kernel->nr;
        job.bias = s->bias ? s->bias + first : NULL;
        int64_t at = row * s->outputs + first;
        if (p->add) turn(p->add + at, s->outputs, rows, count, added, width);
        ((edge_spmm_f32_run *)s->kernel->run)(&job, 0, count, width, p->turned + row * job.depth, found, p->add ? added : NULL,
                                              NULL);
        if (s->map) s->map(found, found, count * width);
        edge_turn_f32(count, rows, found, width, p->y + at, s->outputs);
    }
}

/* Outputs of tiles by their share of the work of all. */
static void run_tiles(void *context, int64_t begin, int64_t end) {
    const product *p = context;
    int64_t each = ew_sparse_work(p->sparse);
    while (begin < end) {
        int64_t from = begin % each, to = least(each, from + end - begin);
        multiply(p, begin / each, ew_sparse_output(p->sparse, from), ew_sparse_output(p->sparse, to));
        begin += to - from;
    }
}

/* Rows for which there is room to be turned before any of them is multiplied: as many as the second cache holds. */
static int64_t room_for(const ew_sparse *s, int64_t rows) { return ew_tile(s->depth * (int64_t)sizeof(float), rows); }

/* All rows, or whole tiles of them. */
static int64_t rows_at_once(const ew_sparse *s, int64_t rows) {
    int64_t room = room_for(s, rows), tile = edge_spmm_tile(s->kernel, room);
    return room < rows ? room / tile * tile : rows;
}

size_t ew_workspace_sparse_linear(const ew_call *call) {
    const ew_sparse *s = call->node->detail;
    const ew_tensor *x = ew_in(call, 0);
    int64_t rows = ew_span(x, 0, x->rank - 1);
    return rows <= s->few->mr ? 0 : (size_t)(room_for(s, rows) + PADDING) * (size_t)s->depth * sizeof(float);
}

edge_status ew_run_sparse_linear(ew_call *call) {
    const ew_sparse *s = call->node->detail;
    const ew_tensor *x = ew_in(call, 0), *add = ew_in(call, 2);
    int64_t rows = ew_span(x, 0, x->rank - 1), work = ew_sparse_work(s), side = s->kernel->nr;
    product p = {.sparse = s,
                 .job = {s->depth, s->depth, s->outputs, s->outputs, s->bias, s->low, s->high, s->start, s->index, s->value},
                 .rows = rows,
                 .x = x->data,
                 .add = add ? add->data : NULL,
                 .y = ew_out(call, 0)->data,
                 .turned = call->workspace};
    if (rows <= s->few->mr) {
        if (rows) ew_parallel(call, work, 1 + SMALL / (rows * side), run_few, &p);
        return EDGE_OK;
    }
    int64_t most = rows_at_once(s, rows);
    for (int64_t left = rows; left > 0; left -= p.rows) {
        p.rows = least(left, most);
        p.tile = edge_spmm_tile(s->kernel, p.rows);
        int64_t tiles = (p.rows + p.tile - 1) / p.tile;
        ew_parallel(call, tiles * ((s->depth + SLICE - 1) / SLICE), 1 + SMALL / (SLICE * p.tile), turn_slices, &p);
        ew_parallel(call, tiles * work, 1 + SMALL / (p.tile * side), run_tiles, &p);
        p.x += p.rows * s->depth;
        p.y += p.rows * s->outputs;
        if (add) p.add += p.rows * s->outputs;
    }
    return EDGE_OK;
}
