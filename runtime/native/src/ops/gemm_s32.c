#include "linear.h"

#include "gemm_tile.h"

/* Sums of EW_TILE_DEPTH products of two differences of bytes stay below 2^24, so that float32 holds them exactly. */
EW_DEFINE_TILE(tile, float)
_Static_assert(EW_TILE_DEPTH * 255 * 255 < 1 << 24, "sums of a tile are exact");

enum { BLOCK_ROWS = 64, FEW_ROWS = 4, LANES = EW_TILE_COLUMNS };

#define GRAIN (1 << 18)

typedef struct task {
    ew_gemm_8 g;
    int64_t panels;
} task;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Signed and unsigned bytes differ by 128 when their top bits are flipped, and zero points do as well. */
static uint8_t flip(bool is_signed) { return is_signed ? 0x80 : 0; }

static int16_t zero_at(const uint8_t *zero, int64_t step, int64_t i, bool is_signed) {
    return (int16_t)((zero ? zero[i * step] : 0) ^ flip(is_signed));
}

/* Zero points of up to 16 columns of b. */
static void read_zeros(const ew_gemm_8 *g, int64_t j, int64_t columns, int16_t zeros[LANES]) {
    for (int64_t k = 0; k < LANES; k++)
        zeros[k] = k < columns ? zero_at(g->b_zero, g->b_zero_step, j + k, g->b_signed) : 0;
}

/* 16 columns of b from j on minus their zero points; behind the last column whatever. */
static void pack_b(const ew_gemm_8 *g, int64_t p, int64_t depth, int64_t j, float *panel) {
    int64_t columns = smaller(g->n - j, LANES);
    uint8_t bytes[LANES] = {0}, top = flip(g->b_signed);
    int16_t zeros[LANES];
    read_zeros(g, j, columns, zeros);
    for (int64_t q = 0; q < depth; q++) {
        const uint8_t *from = g->b + (p + q) * g->b_row + j;
        if (columns < LANES) from = memcpy(bytes, from, (size_t)columns);
        for (int k = 0; k < LANES; k++) panel[q * LANES + k] = (float)((from[k] ^ top) - zeros[k]);
    }
}

static void pack_a(const ew_gemm_8 *g, int64_t i, int64_t p, int64_t depth, float *rows) {
    uint8_t top = flip(g->a_signed);
    for (int64_t r = 0; r < EW_TILE_ROWS; r++, rows += EW_TILE_DEPTH) {
        int64_t row = smaller(i + r, g->m - 1), q = 0;
        int16_t zero = zero_at(g->a_zero, g->a_zero_step, row, g->a_signed);
        const uint8_t *from = g->a + row * g->a_row + p;
        for (; q + LANES <= depth; q += LANES)
            for (int k = 0; k < LANES; k++) rows[q + k] = (float)((from[q + k] ^ top) - zero);
        for (; q < depth; q++) rows[q] = (float)((from[q] ^ top) - zero);
    }
}

static void store(const ew_gemm_8 *g, int64_t i, int64_t j, bool add, float from[EW_TILE_ROWS][EW_TILE_COLUMNS]) {
    int64_t rows = smaller(g->m - i, EW_TILE_ROWS), columns = smaller(g->n - j, EW_TILE_COLUMNS);
    for (int64_t r = 0; r < rows; r++) {
        uint32_t *to = (uint32_t *)(void *)g->c + (i + r) * g->c_row + j;
        for (int64_t k = 0; k < columns; k++) to[k] = (add ? to[k] : 0) + (uint32_t)(int32_t)from[r][k];
    }
}

/* Few rows of a, where packing costs more than it saves: 16 columns of one row at once. */
static void combine_rows(const ew_gemm_8 *g, int64_t i, int64_t j) {
    int64_t columns = smaller(g->n - j, LANES);
    uint8_t bytes[LANES] = {0}, top = flip(g->b_signed);
    int16_t zeros[LANES], zero = zero_at(g->a_zero, g->a_zero_step, i, g->a_signed);
    uint32_t sums[LANES] = {0};
    read_zeros(g, j, columns, zeros);
    for (int64_t p = 0; p < g->k; p++) {
        int16_t scale = (int16_t)((g->a[i * g->a_row + p] ^ flip(g->a_signed)) - zero);
        const uint8_t *from = g->b + p * g->b_row + j;
        if (columns < LANES) from = memcpy(bytes, from, (size_t)columns);
        for (int k = 0; k < LANES; k++) sums[k] += (uint32_t)(scale * (int16_t)((from[k] ^ top) - zeros[k]));
    }
    memcpy(g->c + i * g->c_row + j, sums, (size_t)columns * sizeof *sums);
}

static void multiply_panel(const ew_gemm_8 *g, int64_t begin, int64_t end, int64_t j) {
    float panel[EW_TILE_DEPTH * EW_TILE_COLUMNS], rows[EW_TILE_ROWS * EW_TILE_DEPTH], c[EW_TILE_ROWS][EW_TILE_COLUMNS];
    const float *const a[EW_TILE_ROWS] = {rows, rows + EW_TILE_DEPTH, rows + 2 * EW_TILE_DEPTH,
                                          rows + 3 * EW_TILE_DEPTH};
    for (int64_t p = 0; p < g->k; p += EW_TILE_DEPTH) {
        int64_t depth = smaller(g->k - p, EW_TILE_DEPTH);
        pack_b(g, p, depth, j, panel);
        for (int64_t i = begin; i < end; i += EW_TILE_ROWS) {
            pack_a(g, i, p, depth, rows);
            tile(depth, a, 1, panel, EW_TILE_COLUMNS, c);
            store(g, i, j, p > 0, c);
        }
    }
}

static void run_tasks(void *context, int64_t begin, int64_t end) {
    const task *t = context;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = i / t->panels * BLOCK_ROWS, column = i % t->panels * EW_TILE_COLUMNS;
        if (t->g.m >= FEW_ROWS)
            multiply_panel(&t->g, row, smaller(row + BLOCK_ROWS, t->g.m), column);
        else
            for (int64_t k = 0; k < t->g.m; k++) combine_rows(&t->g, k, column);
    }
}

void ew_gemm_s32(const ew_call *call, const ew_gemm_8 *g) {
    task t = {.g = *g, .panels = (g->n + EW_TILE_COLUMNS - 1) / EW_TILE_COLUMNS};
    if (g->m <= 0 || g->n <= 0) return;
    if (g->k <= 0) {
        ew_fill_rows(g->c, g->c_row, g->m, g->n, NULL, sizeof *g->c);
        return;
    }
    int64_t work = smaller(g->m, BLOCK_ROWS) * EW_TILE_COLUMNS * g->k;
    ew_parallel(call, (g->m + BLOCK_ROWS - 1) / BLOCK_ROWS * t.panels, 1 + GRAIN / work, run_tasks, &t);
}
