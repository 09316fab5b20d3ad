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

/* Half of the weights are zeros, whole blocks among them. */
static void sparse(const edge_kernel *kernel, float *out) {
    enum { ROWS = 7, COUNT = 39, DEPTH = 24 };
    static float x[DEPTH * COUNT], w[ROWS * DEPTH], bias[ROWS], value[(ROWS + 1) * DEPTH], work[EDGE_SPMM_FLOATS];
    static int32_t start[ROWS + 1];
    static uint16_t index[ROWS * DEPTH];
    fill(x, DEPTH * COUNT, 27);
    fill(w, ROWS * DEPTH, 28);
    fill(bias, ROWS, 29);
    for (int i = 0; i < ROWS * DEPTH; i++)
        if (i % 2 || i % DEPTH % 3 == 0) w[i] = 0;
    x[2 * COUNT + 5] = NAN;
    edge_spmm_pack_f32(kernel, ROWS, DEPTH, w, DEPTH, 1, start, index, value);
    edge_spmm_f32 job = {.depth = DEPTH, .x_row = COUNT, .c_row = COUNT, .bias = bias, .low = -1, .high = 1,
                         .start = start, .index = index, .value = value};
    ((edge_spmm_f32_run *)kernel->run)(&job, 0, ROWS, COUNT, x, out, NULL, work);
}

/* Windows that are read as they lie, of either stride, and a wider one. */
static void depthwise_plane(const edge_kernel *kernel, float *out) {
    enum { HEIGHT = 6, WIDTH = 14, SIDE = 5 };
    static float x[HEIGHT * WIDTH], weights[SIDE * SIDE], work[1024];
    const float bias = 0.5f;
    fill(x, HEIGHT * WIDTH, 30);
    fill(weights, SIDE * SIDE, 31);
    x[WIDTH + 5] = NAN;
    for (int64_t i = 0; i < 3; i++, out += HEIGHT * WIDTH) {
        int64_t side = i < 2 ? 3 : SIDE, stride = 1 + i % 2;
        edge_depthwise_plane_f32 job = {HEIGHT, WIDTH, HEIGHT / stride, WIDTH / stride, side, side, stride, stride, 1, 1,
                                        side / 2, side / 2, -1, 1};
        ((edge_depthwise_plane_f32_run *)kernel->run)(&job, 1, weights, &bias, x, HEIGHT * WIDTH, out, HEIGHT * WIDTH, work);
    }
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

static void range(const edge_kernel *kernel, float *out) {
    float x[67];
    fill(x, 67, 13);
    x[30] = NAN;
    ((edge_range_f32 *)kernel->run)(x, 67, &out[0], &out[1]);
}

static void few_by_many(const edge_kernel *kernel, float *out) {
    enum { COUNT = 7, DEPTH = 67 };
    static float x[DEPTH], rows[COUNT * DEPTH];
    fill(x, DEPTH, 22);
    fill(rows, COUNT * DEPTH, 23);
    ((edge_dots_f32 *)kernel->run)(x, rows, DEPTH, COUNT, DEPTH, out); /* dots and mix are of one type */
}

static void fill_bytes(uint8_t *bytes, size_t count, unsigned seed) {
    float value;
    for (size_t i = 0; i < count; i++) {
        fill(&value, 1, seed + (unsigned)i);
        bytes[i] = (uint8_t)(int)(value * 127);
    }
}

static void to_floats(const uint8_t *bytes, size_t count, float *out) {
    for (size_t i = 0; i < count; i++) out[i] = bytes[i];
}

/* One row with weights of 4 bits, two with those of 8. */
static void product_of_words(const edge_kernel *kernel, float *out) {
    enum { COLUMNS = 19, DEPTH = 40, GROUPS = 5 };
    static float a[2 * DEPTH], scale[GROUPS * COLUMNS], scales[GROUPS * 64];
    static uint8_t b[DEPTH * COLUMNS];
    static int32_t words[DEPTH / 4 * 64];
    const float *rows[2] = {a, a + DEPTH};
    fill(a, 2 * DEPTH, 24);
    fill(scale, GROUPS * COLUMNS, 25);
    for (int i = 0; i < GROUPS * COLUMNS; i++) scale[i] *= 0.01f;
    fill_bytes(b, sizeof b, 26);
    edge_gemm_pack_f32(kernel, COLUMNS, GROUPS, scale, COLUMNS, 1, scales);
    for (int bits = 4; bits <= 8; bits += 4, out += 2 * COLUMNS) {
        edge_gemm_pack_grouped(kernel, COLUMNS, DEPTH, bits, (const int8_t *)b, COLUMNS, 1, words);
        edge_gemm_grouped job = {{.n = COLUMNS, .depth = DEPTH, .taps = 1, .c_row = COLUMNS, .low = -1, .high = 1},
                                 words, scales, DEPTH / GROUPS, bits};
        ((edge_gemm_grouped_run *)kernel->run)(&job, bits / 4, rows, out, NULL);
    }
}

static const float SCALES[64] = {0.01f, 0.02f, 0.03f, 0.04f, 0.05f, 0.06f, 0.07f, 0.08f, 0.09f, 0.1f, 0.11f,
                                 0.12f, 0.13f, 0.14f, 0.15f, 0.16f, 0.17f, 0.18f, 0.19f, 0.2f,  0.21f};
static const edge_rescale BYTES = {.scale = SCALES, .a_zero = 5, .zero = 100, .low = 3, .high = 250};
static const edge_grid GRID = {0.013f, 7, 1}, OTHER = {0.021f, 90, 0};

/* Every third block of weights is of zeros. */
static void product_of_bytes(const edge_kernel *kernel, float *out) {
    enum { ROWS = 7, COLUMNS = 19, DEPTH = 35 };
    static uint8_t a[ROWS * DEPTH], b[DEPTH * COLUMNS], y[ROWS * COLUMNS];
    static int32_t packed[(DEPTH + 9) * 16];
    const uint8_t *rows[ROWS];
    fill_bytes(a, sizeof a, 14);
    fill_bytes(b, sizeof b, 15);
    for (int i = 0; i < DEPTH * COLUMNS; i++)
        if ((i / COLUMNS / 4 + i % COLUMNS / 4) % 3 == 0) b[i] = 0;
    for (int i = 0; i < ROWS; i++) rows[i] = a + i * DEPTH;
    if (kernel->format == EDGE_DENSE) edge_gemm_pack_s8(kernel, COLUMNS, DEPTH, 1, (const int8_t *)b, COLUMNS, 1, packed);
    else edge_gemm_pack_blocks_s8(COLUMNS, DEPTH, 1, (const int8_t *)b, 0, COLUMNS, 1, packed);
    edge_gemm_s8 job = {.n = COLUMNS, .depth = DEPTH, .taps = 1, .b = packed, .out = BYTES, .c_row = COLUMNS};
    ((edge_gemm_s8_run *)kernel->run)(&job, ROWS, rows, y, NULL);
    to_floats(y, sizeof y, out);
}

static void depthwise_of_bytes(const edge_kernel *kernel, float *out) {
    enum { CHANNELS = 11, WIDTH = 13 };
    static uint8_t image[3 * WIDTH * CHANNELS], weights[9 * CHANNELS], packed[64 + 12 * 16], zeros[CHANNELS], y[WIDTH * CHANNELS];
    fill_bytes(image, sizeof image, 16);
    fill_bytes(weights, sizeof weights, 17);
    for (int i = 0; i < CHANNELS; i++) zeros[i] = 5;
    edge_depthwise_pack_s8(kernel, CHANNELS, 3, 3, (const int8_t *)weights, packed);
    const uint8_t *lines[3] = {image, image + WIDTH * CHANNELS, image + 2 * WIDTH * CHANNELS};
    edge_depthwise_s8 job = {CHANNELS, WIDTH, WIDTH, 3, 3, 1, 1, 1, packed, zeros, BYTES};
    ((edge_depthwise_s8_run *)kernel->run)(&job, lines, y);
    to_floats(y, sizeof y, out);
}

static void quantize(const edge_kernel *kernel, float *out) {
    float x[67];
    uint8_t y[67];
    fill(x, 67, 18);
    x[30] = NAN;
    ((edge_quantize_s8 *)kernel->run)(&GRID, x, y, 67);
    to_floats(y, 67, out);
}

static void dequantize(const edge_kernel *kernel, float *out) {
    uint8_t x[67];
    fill_bytes(x, 67, 19);
    ((edge_dequantize_s8 *)kernel->run)(&GRID, x, out, 67);
}

static void add_bytes(const edge_kernel *kernel, float *out) {
    const edge_add_s8_job job = {GRID, OTHER, {0.0337f, 60, 0}, 0, 255};
    uint8_t a[67], b[67], y[67];
    fill_bytes(a, 67, 20);
    fill_bytes(b, 67, 21);
    ((edge_add_s8_run *)kernel->run)(&job, a, b, y, 67);
    to_floats(y, 67, out);
}

typedef void run(const edge_kernel *kernel, float *out);

static run *const OF_FLOATS[] = {
    [EDGE_GEMM] = product,       [EDGE_DEPTHWISE] = depthwise, [EDGE_SOFTMAX] = map, [EDGE_LAYER_NORM] = layer_norm,
    [EDGE_EXP] = map,            [EDGE_ERF] = map,             [EDGE_GELU] = map,    [EDGE_TANH] = map,
    [EDGE_SIGMOID] = map,        [EDGE_SILU] = map,            [EDGE_MAX] = combine, [EDGE_ADD] = combine,
    [EDGE_RANGE] = range,        [EDGE_DOTS] = few_by_many,  [EDGE_MIX] = few_by_many, [EDGE_GEMM_GROUPED] = product_of_words,
    [EDGE_SPMM] = sparse,        [EDGE_DEPTHWISE_PLANE] = depthwise_plane,
};
static run *const OF_BYTES[] = {
    [EDGE_GEMM] = product_of_bytes, [EDGE_DEPTHWISE] = depthwise_of_bytes, [EDGE_ADD] = add_bytes,
    [EDGE_QUANTIZE] = quantize,     [EDGE_DEQUANTIZE] = dequantize,
};

static int is_right(const edge_kernel *kernel) {
    static float found[MOST], wanted[MOST];
    run *const test = (kernel->dtype == EDGE_KERNEL_F32 ? OF_FLOATS : OF_BYTES)[kernel->op];
    if (!test) return 0;
    fill(found, MOST, 12);
    fill(wanted, MOST, 12);
    test(kernel, found);
    test(edge_kernel_find(kernel->op, kernel->dtype, kernel->format, EDGE_ISA_SCALAR), wanted);
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
