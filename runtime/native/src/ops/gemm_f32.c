#include "linear.h"

#include "gemm_tile.h"

EW_DEFINE_TILE(tile, float)

enum {
    BLOCK_ROWS = 64, /* rows of a that are used with one panel of b: 64 x 256 floats stay in a cache */
    WIDE = 256,      /* columns at once where a has one row */
    FEW_ROWS = 4     /* below this, packing b costs more than it saves */
};

/* How many multiplications are worth another thread. */
#define GRAIN (1 << 18)

typedef struct task {
    ew_gemm g;
    int64_t width; /* columns of a panel */
    int64_t panels;
} task;

static const float *a_at(const ew_gemm *g, int64_t i, int64_t p) {
    return (const float *)g->a + i * g->a_row + p * g->a_col;
}
static const float *b_at(const ew_gemm *g, int64_t p, int64_t j) {
    return (const float *)g->b + p * g->b_row + j * g->b_col;
}
static float *c_at(const ew_gemm *g, int64_t i, int64_t j) { return (float *)g->c + i * g->c_row + j; }

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows of b from p on, 16 columns from j on, zeros behind the last column. */
static void pack(const ew_gemm *g, int64_t p, int64_t depth, int64_t j, float *panel) {
    int64_t columns = smaller(g->n - j, EW_TILE_COLUMNS);
    for (int64_t q = 0; q < depth; q++) {
        const float *from = b_at(g, p + q, j);
        float *to = panel + q * EW_TILE_COLUMNS;
        if (g->b_col == 1 && columns == EW_TILE_COLUMNS) {
            memcpy(to, from, EW_TILE_COLUMNS * sizeof *to);
            continue;
        }
        for (int64_t k = 0; k < columns; k++) to[k] = from[k * g->b_col];
        for (int64_t k = columns; k < EW_TILE_COLUMNS; k++) to[k] = 0;
    }
}

static void store(const ew_gemm *g, int64_t i, int64_t j, bool add, float from[EW_TILE_ROWS][EW_TILE_COLUMNS]) {
    int64_t rows = smaller(g->m - i, EW_TILE_ROWS), columns = smaller(g->n - j, EW_TILE_COLUMNS);
    for (int64_t r = 0; r < rows; r++) {
        float *to = c_at(g, i + r, j);
        if (!add)
            memcpy(to, from[r], (size_t)columns * sizeof *to);
        else
            for (int64_t k = 0; k < columns; k++) to[k] += from[r][k];
    }
}

static void multiply_panel(const ew_gemm *g, int64_t begin, int64_t end, int64_t j) {
    float panel[EW_TILE_DEPTH * EW_TILE_COLUMNS], c[EW_TILE_ROWS][EW_TILE_COLUMNS];
    bool in_place = g->b_col == 1 && g->n - j >= EW_TILE_COLUMNS && end - begin <= FEW_ROWS;
    for (int64_t p = 0; p < g->k; p += EW_TILE_DEPTH) {
        int64_t depth = smaller(g->k - p, EW_TILE_DEPTH);
        if (!in_place) pack(g, p, depth, j, panel);
        const float *b = in_place ? b_at(g, p, j) : panel;
        for (int64_t i = begin; i < end; i += EW_TILE_ROWS) {
            const float *rows[EW_TILE_ROWS];
            for (int r = 0; r < EW_TILE_ROWS; r++) rows[r] = a_at(g, smaller(i + r, g->m - 1), p);
            tile(depth, rows, g->a_col, b, in_place ? g->b_row : EW_TILE_COLUMNS, c);
            store(g, i, j, g->accumulate || p, c);
        }
    }
}

void ew_add_scaled_f32(float *y, const float *x, float scale, int64_t count) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        tile_lanes y0 = tile_load(y + i) + scale * tile_load(x + i);
        tile_lanes y1 = tile_load(y + i + 4) + scale * tile_load(x + i + 4);
        memcpy(y + i, &y0, sizeof y0);
        memcpy(y + i + 4, &y1, sizeof y1);
    }
    for (; i < count; i++) y[i] += scale * x[i];
}

/* One row of a, contiguous rows of b. */
static void combine_rows(const ew_gemm *g, int64_t begin, int64_t end) {
    float sum[WIDE];
    int64_t count = end - begin;
    for (int64_t j = 0; j < count; j++) sum[j] = g->accumulate ? *c_at(g, 0, begin + j) : 0;
    for (int64_t p = 0; p < g->k; p++) ew_add_scaled_f32(sum, b_at(g, p, begin), *a_at(g, 0, p), count);
    memcpy(c_at(g, 0, begin), sum, (size_t)count * sizeof *sum);
}

static float dot(const float *a, const float *b, int64_t count) {
    tile_lanes s0 = {0}, s1 = s0, s2 = s0, s3 = s0;
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) {
        s0 += tile_load(a + i) * tile_load(b + i);
        s1 += tile_load(a + i + 4) * tile_load(b + i + 4);
        s2 += tile_load(a + i + 8) * tile_load(b + i + 8);
        s3 += tile_load(a + i + 12) * tile_load(b + i + 12);
    }
    s0 += s1 + (s2 + s3);
    float sum = (s0[0] + s0[1]) + (s0[2] + s0[3]);
    for (; i < count; i++) sum += a[i] * b[i];
    return sum;
}

/* Few rows of a, contiguous columns of b. */
static void dot_columns(const ew_gemm *g, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; j++) {
        for (int64_t i = 0; i < g->m; i++) {
            float sum = dot(a_at(g, i, 0), b_at(g, 0, j), g->k), *c = c_at(g, i, j);
            *c = g->accumulate ? *c + sum : sum;
        }
    }
}

static bool is_dots(const ew_gemm *g) { return g->a_col == 1 && g->b_row == 1 && g->m < FEW_ROWS; }
static bool is_one_row(const ew_gemm *g) { return g->m == 1 && g->b_col == 1; }

static void run_tasks(void *context, int64_t begin, int64_t end) {
    const task *t = context;
    const ew_gemm *g = &t->g;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i / t->panels * BLOCK_ROWS, column = i % t->panels * t->width;
        if (is_dots(g))
            dot_columns(g, column, smaller(column + t->width, g->n));
        else if (is_one_row(g))
            combine_rows(g, column, smaller(column + t->width, g->n));
        else
            multiply_panel(g, row, smaller(row + BLOCK_ROWS, g->m), column);
    }
}

/* A column is a row of the transposed product. */
static ew_gemm turned(const ew_gemm *g) {
    return (ew_gemm){.m = 1,
                     .n = g->m,
                     .k = g->k,
                     .a = g->b,
                     .a_row = g->b_col,
                     .a_col = g->b_row,
                     .b = g->a,
                     .b_row = g->a_col,
                     .b_col = g->a_row,
                     .c = g->c,
                     .c_row = g->m,
                     .accumulate = g->accumulate};
}

void ew_gemm_f32(const ew_call *call, const ew_gemm *g) {
    task t = {.g = g->n == 1 && g->c_row == 1 ? turned(g) : *g};
    if (t.g.m <= 0 || t.g.n <= 0) return;
    if (t.g.k <= 0) {
        if (!t.g.accumulate) ew_fill_rows(t.g.c, t.g.c_row, t.g.m, t.g.n, NULL, sizeof(float));
        return;
    }
    t.width = !is_dots(&t.g) && is_one_row(&t.g) ? WIDE : EW_TILE_COLUMNS;
    t.panels = (t.g.n + t.width - 1) / t.width;
    int64_t blocks = is_dots(&t.g) ? 1 : (t.g.m + BLOCK_ROWS - 1) / BLOCK_ROWS;
    int64_t work = smaller(t.g.m, BLOCK_ROWS) * t.width * t.g.k;
    if (call)
        ew_parallel(call, blocks * t.panels, 1 + GRAIN / work, run_tasks, &t);
    else
        run_tasks(&t, 0, blocks * t.panels);
}
