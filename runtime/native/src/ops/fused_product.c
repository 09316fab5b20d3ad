#include "fused.h"

enum { POINTERS = 1024, SCRATCH = 8192 };

/* Multiplications below which a thread is not worth waking. */
#define SMALL 65536

/* As many rows as there is room for; the engine fuses no convolution of which not even one fits (prepare/fuse.c). */
static int64_t block_rows(const ew_product *p) {
    int64_t tile = p->fused->kernel->mr, room = POINTERS / p->taps;
    if (p->needs_scratch && room > SCRATCH / (p->taps * p->depth)) room = SCRATCH / (p->taps * p->depth);
    if (room > EW_BLOCK_ROWS) room = EW_BLOCK_ROWS;
    return room < tile ? room : room / tile * tile;
}

static void run_rows(void *context, int64_t begin, int64_t end) {
    const ew_product *p = context;
    const ew_fused *f = p->fused;
    const float *a[POINTERS];
    float scratch[SCRATCH];
    edge_gemm_f32 g = {.n = f->outputs,
                       .depth = p->depth,
                       .taps = p->taps,
                       .b = f->weights,
                       .bias = f->bias,
                       .c_row = f->outputs,
                       .add_row = f->outputs,
                       .low = f->low,
                       .high = f->high};
    int64_t block = block_rows(p);
    for (int64_t row = begin; row < end; row += block) {
        int64_t count = end - row < block ? end - row : block;
        p->fill(p, row, count, a, scratch);
        float *c = p->c + row * f->outputs;
        ((edge_gemm_f32_run *)f->kernel->run)(&g, count, a, c, p->add ? p->add + row * f->outputs : NULL);
        if (f->map) f->map(c, c, count * f->outputs);
    }
}

/* Few rows: panels of columns apart. */
static void run_panels(void *context, int64_t begin, int64_t end) {
    const ew_product *p = context;
    const ew_fused *f = p->fused;
    const float *a[POINTERS];
    float scratch[SCRATCH];
    int64_t nr = f->kernel->nr, first = begin * nr, last = end * nr < f->outputs ? end * nr : f->outputs;
    p->fill(p, 0, p->rows, a, scratch);
    edge_gemm_f32 g = {.n = last - first,
                       .depth = p->depth,
                       .taps = p->taps,
                       .b = f->weights + first * p->taps * p->depth,
                       .bias = f->bias ? f->bias + first : NULL,
                       .c_row = f->outputs,
                       .add_row = f->outputs,
                       .low = f->low,
                       .high = f->high};
    ((edge_gemm_f32_run *)f->kernel->run)(&g, p->rows, a, p->c + first, p->add ? p->add + first : NULL);
    for (int64_t r = 0; f->map && r < p->rows; r++)
        f->map(p->c + r * f->outputs + first, p->c + r * f->outputs + first, last - first);
}

void ew_run_product(const ew_call *call, const ew_product *p) {
    int64_t tile = p->fused->kernel->mr, each = p->fused->outputs * p->taps * p->depth;
    if (p->rows < 2 * tile && p->rows <= block_rows(p)) {
        int64_t panels = (p->fused->outputs + p->fused->kernel->nr - 1) / p->fused->kernel->nr;
        int64_t cost = p->rows * p->taps * p->depth * p->fused->kernel->nr;
        ew_parallel(call, panels, 1 + SMALL / (cost + 1), run_panels, (void *)(uintptr_t)p);
        return;
    }
    int64_t grain = 1 + SMALL / (each + 1);
    ew_parallel(call, p->rows, grain < tile ? tile : grain, run_rows, (void *)(uintptr_t)p);
}
