#include "fused.h"

enum { POINTERS = 1024, SCRATCH = 32768 /* bytes */, MAPPED = 18432 /* values */ };

/* Multiplications below which a thread is not worth waking. */
#define SMALL 65536

/* Weights beyond this come from the third cache or memory: the fewer times, the better. */
#define LARGE (256 * 1024)

/* Rows of a block, when so many are to be done: as many as there is room for, blocks of one size.  The engine fuses no
 * convolution of which not even one row fits (prepare/fuse.c). */
static int64_t block_rows(const ew_product *p, int64_t rows) {
    int64_t tap = p->taps * p->depth * ew_x_bytes(p->fused), room = POINTERS / p->taps;
    int64_t most = tap * p->fused->outputs > LARGE ? 2 * EW_BLOCK_ROWS : EW_BLOCK_ROWS;
    if (p->needs_scratch && room > SCRATCH / tap) room = SCRATCH / tap;
    if (room > most) room = most;
    int64_t blocks = (rows + room - 1) / room;
    return (rows + blocks - 1) / blocks;
}

static int64_t c_row(const ew_product *p) { return p->line ? p->c_row : p->fused->outputs; }

/* Where a row of the result begins. */
static int64_t place(const ew_product *p, int64_t row) {
    return p->line ? row / p->line * p->line_step + row % p->line * p->c_row : row * p->fused->outputs;
}

static void multiply_f32(const ew_product *p, int64_t first, int64_t columns, int64_t rows, const void **a, float *c,
                         const float *add) {
    const ew_fused *f = p->fused;
    int64_t depth = f->scale ? (p->depth * f->bits + 31) / 32 : p->taps * p->depth;
    const float *b = (const float *)f->weights + edge_gemm_packed_f32(f->kernel, first, depth);
    edge_gemm_grouped g = {{.n = columns,
                            .depth = p->depth,
                            .taps = p->taps,
                            .b = b,
                            .bias = f->bias ? f->bias + first : NULL,
                            .c_row = c_row(p),
                            .add_row = c_row(p),
                            .low = f->low,
                            .high = f->high},
                           (const int32_t *)(const void *)b, f->scale, f->group, f->bits};
    if (!f->scale) {
        ((edge_gemm_f32_run *)f->kernel->run)(&g.product, rows, (const float *const *)a, c, add);
        return;
    }
    g.scale += edge_gemm_packed_f32(f->kernel, first, p->depth / f->group);
    ((edge_gemm_grouped_run *)f->kernel->run)(&g, rows, (const float *const *)a, c, add);
}

static void multiply_s8(const ew_product *p, int64_t first, int64_t columns, int64_t rows, const void **a, void *c,
                        const float *add) {
    const ew_fused *f = p->fused;
    bool dense = f->kernel->format == EDGE_DENSE;
    edge_gemm_s8 g = {.n = columns,
                      .depth = p->depth,
                      .taps = p->taps,
                      .b = (const uint8_t *)f->weights + (dense ? edge_gemm_packed_s8(f->kernel, first, p->depth, p->taps) : 0),
                      .first = (int32_t)first,
                      .out = p->rescale,
                      .offset = f->bias ? f->bias + first : NULL,
                      .c_row = f->outputs,
                      .add_row = f->outputs,
                      .to_f32 = f->quantized->dtype == EDGE_F32};
    g.out.scale += first;
    if (g.out.bias) g.out.bias += first;
    ((edge_gemm_s8_run *)f->kernel->run)(&g, rows, (const uint8_t *const *)a, c, add);
}

/* Columns [first, first + columns) of rows that begin at `row`. */
static void multiply(const ew_product *p, int64_t first, int64_t columns, int64_t row, int64_t rows, const void **a) {
    const ew_fused *f = p->fused;
    int64_t at = place(p, row) + first;
    void *c = (uint8_t *)p->c + at * ew_y_bytes(f);
    const float *add = p->add ? p->add + at : NULL;
    if (f->quantized) multiply_s8(p, first, columns, rows, a, c, add);
    else multiply_f32(p, first, columns, rows, a, c, add);
    float *y = c;
    for (int64_t r = 0; f->map && r < rows; r++, y += c_row(p)) f->map(y, y, columns);
}

/* All columns; where a map follows, as many at a time as leave the result in the first cache for it. */
static void multiply_row(const ew_product *p, int64_t row, int64_t rows, const void **a) {
    const ew_fused *f = p->fused;
    int64_t nr = f->kernel->nr, each = f->map ? (MAPPED / rows + nr - 1) / nr * nr : f->outputs;
    for (int64_t first = 0; first < f->outputs; first += each) {
        int64_t left = f->outputs - first;
        multiply(p, first, left < each ? left : each, row, rows, a);
    }
}

static void run_rows(void *context, int64_t begin, int64_t end) {
    const ew_product *p = context;
    const void *a[POINTERS];
    uint8_t scratch[SCRATCH] __attribute__((aligned(64)));
    int64_t block = block_rows(p, end - begin);
    for (int64_t row = begin, count; row < end; row += count) {
        count = end - row < block ? end - row : block;
        if (p->line && count > p->line - row % p->line) count = p->line - row % p->line;
        p->fill(p, row, count, a, scratch);
        multiply_row(p, row, count, a);
    }
}

/* Few rows: panels of columns apart. */
static void run_panels(void *context, int64_t begin, int64_t end) {
    const ew_product *p = context;
    const void *a[POINTERS];
    uint8_t scratch[SCRATCH] __attribute__((aligned(64)));
    int64_t nr = p->fused->kernel->nr, first = begin * nr;
    int64_t last = end * nr < p->fused->outputs ? end * nr : p->fused->outputs;
    p->fill(p, 0, p->rows, a, scratch);
    multiply(p, first, last - first, 0, p->rows, a);
}

size_t ew_workspace_fused_product(const ew_call *call) {
    const ew_fused *f = ew_detail(call);
    if (!f->quantized || !f->quantized->dynamic) return 0;
    return (size_t)f->outputs * sizeof(float) + (size_t)f->quantized->line;
}

edge_rescale ew_rescale_of(const ew_call *call, const void **zeros) {
    const ew_fused *f = ew_detail(call);
    edge_rescale out = f->quantized->out;
    *zeros = f->zeros;
    if (!f->quantized->dynamic) return out;
    const ew_tensor *zero = ew_in(call, 4);
    float *scales = call->workspace, scale = *(const float *)ew_in(call, 3)->data;
    for (int64_t i = 0; i < f->outputs; i++) scales[i] = scale * out.scale[i];
    out.scale = scales;
    if (zero) out.a_zero = (int32_t)ew_get_int(zero, 0);
    *zeros = memset(scales + f->outputs, out.a_zero & 255, (size_t)f->quantized->line);
    return out;
}

void ew_run_product(const ew_call *call, const ew_product *p) {
    if (p->rows == 0) return;
    int64_t tile = p->fused->kernel->mr, each = p->fused->outputs * p->taps * p->depth;
    if (!p->line && p->rows < 2 * tile && p->rows <= block_rows(p, p->rows)) {
        int64_t panels = (p->fused->outputs + p->fused->kernel->nr - 1) / p->fused->kernel->nr;
        int64_t cost = p->rows * p->taps * p->depth * p->fused->kernel->nr;
        ew_parallel(call, panels, 1 + SMALL / (cost + 1), run_panels, (void *)(uintptr_t)p);
        return;
    }
    int64_t grain = 1 + SMALL / (each + 1);
    ew_parallel(call, p->rows, grain < tile ? tile : grain, run_rows, (void *)(uintptr_t)p);
}
