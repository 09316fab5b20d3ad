/* The kernels of this module against plain code: some browsers compile instructions that they compute wrongly. */
#include <math.h>
#include <stdlib.h>

#include "edge_kernels.h"
#include "edgewright.h"

enum { MOST = 4096 };

/* Values between -1 and 1 that do not repeat. */
static void fill(float *values, size_t count, unsigned seed) {
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u; /* Knuth's generator, TAOCP 2, 3.3.4 */
        values[i] = (float)(int)seed * 0x1p-31f;
    }
}

static int agree(const float *found, const float *wanted, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (isnan(found[i]) && isnan(wanted[i])) continue;
        if (!(fabsf(found[i] - wanted[i]) <= 1e-5f * (1 + fabsf(wanted[i])))) return 0;
    }
    return 1;
}

/* More rows than a tile, more columns than a panel and not a multiple of either, a sum of 96 products. */
static void product(const edge_kernel *kernel, float *out) {
    enum { ROWS = 7, COLUMNS = 19, DEPTH = 96 };
    static float a[ROWS * DEPTH], b[DEPTH * COLUMNS], packed[DEPTH * 64];
    const float *rows[ROWS];
    fill(a, ROWS * DEPTH, 1);
    fill(b, DEPTH * COLUMNS, 2);
    a[3 * DEPTH] = NAN; /* relaxed minima may lose it: what a browser makes of one is its own choice */
    for (int i = 0; i < ROWS; i++) rows[i] = a + i * DEPTH;
    edge_gemm_pack_f32(kernel, COLUMNS, DEPTH, b, COLUMNS, 1, packed);
    edge_gemm_f32 job = {.n = COLUMNS, .depth = DEPTH, .taps = 1, .b = packed, .c_row = COLUMNS, .low = -1,
                         .high = 1};
    ((edge_gemm_f32_run *)kernel->run)(&job, ROWS, rows, out, NULL);
}

static void depthwise(const edge_kernel *kernel, float *out) {
    enum { CHANNELS = 11, WIDTH = 13 };
    static float image[3 * WIDTH * CHANNELS], weights[9 * CHANNELS], bias[CHANNELS], zeros[CHANNELS];
    fill(image, 3 * WIDTH * CHANNELS, 3);
    fill(weights, 9 * CHANNELS, 4);
    fill(bias, CHANNELS, 5);
    const float *lines[3] = {image, image + WIDTH * CHANNELS, image + 2 * WIDTH * CHANNELS};
    edge_depthwise_f32 job = {CHANNELS, WIDTH, WIDTH, 3, 3, 1, 1, 1, weights, bias, zeros, -1, 1};
    ((edge_depthwise_f32_run *)kernel->run)(&job, lines, out);
}

static void map(const edge_kernel *kernel, float *out) {
    float x[67];
    fill(x, 67, 6);
    if (kernel->op != EDGE_SOFTMAX) x[30] = NAN;
    ((edge_map_f32 *)kernel->run)(x, out, 67);
}

static void combine(const edge_kernel *kernel, float *out) {
    float a[67], b[67];
    fill(a, 67, 7);
    fill(b, 67, 8);
    a[30] = b[40] = NAN;
    ((edge_combine_f32 *)kernel->run)(a, b, out, 67);
}

static void layer_norm(const edge_kernel *kernel, float *out) {
    float x[67], scale[67], bias[67];
    fill(x, 67, 9);
    fill(scale, 67, 10);
    fill(bias, 67, 11);
    ((edge_layer_norm_f32 *)kernel->run)(x, scale, bias, 1e-5f, out, 67);
}

static void (*const RUN[])(const edge_kernel *, float *) = {
    [EDGE_GEMM] = product,       [EDGE_DEPTHWISE] = depthwise, [EDGE_SOFTMAX] = map, [EDGE_LAYER_NORM] = layer_norm,
    [EDGE_EXP] = map,            [EDGE_ERF] = map,             [EDGE_GELU] = map,    [EDGE_TANH] = map,
    [EDGE_SIGMOID] = map,        [EDGE_SILU] = map,            [EDGE_MAX] = combine, [EDGE_ADD] = combine,
};

static int is_right(const edge_kernel *kernel) {
    static float found[MOST], wanted[MOST];
    if (kernel->dtype != EDGE_KERNEL_F32 || kernel->op >= sizeof RUN / sizeof *RUN || !RUN[kernel->op]) return 0;
    fill(found, MOST, 12);
    fill(wanted, MOST, 12);
    RUN[kernel->op](kernel, found);
    RUN[kernel->op](edge_kernel_find(kernel->op, kernel->dtype, kernel->format, EDGE_ISA_SCALAR), wanted);
    return agree(found, wanted, MOST);
}

/* The first row of the table that computes something else than the plain kernel of its op, or that nothing here
 * tests; -1: none. */
EDGE_API int edge_self_test(void) {
    const edge_kernel *kernel;
    for (int row = 0; (kernel = edge_kernel_row((size_t)row)); row++)
        if (kernel->isa != EDGE_ISA_SCALAR && !is_right(kernel)) return row;
    return -1;
}
