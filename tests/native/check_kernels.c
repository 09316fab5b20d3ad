/* Runs every fp32 row of the table of kernels beside the scalar row of its op and names those that differ: for machines
 * without Python.  Sizes are odd, some values are NaN, and memory is misaligned and lies among NaN, then once more
 * directly before a page that ends the program when it is touched (WebAssembly has no such pages). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef __wasm__
#include <sys/mman.h>
#endif

#include "edge_kernels.h"

enum { ROOM = 1 << 15, MARGIN = 64, OPERANDS = 8, PAGE_BYTES = 1 << 16 };

static float *rooms[OPERANDS];
static int before_a_page;
static int8_t whole[1 << 16]; /* small weights */
static const char *current;
static long checked, failed;

#ifdef __wasm__
static int make_rooms(void) {
    for (int i = 0; i < OPERANDS; i++)
        if (!(rooms[i] = malloc(ROOM * sizeof(float)))) return 0;
    return 1;
}
#else
static int make_rooms(void) {
    size_t bytes = ROOM * sizeof(float);
    for (int i = 0; i < OPERANDS; i++) {
        char *all = mmap(NULL, bytes + PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all + bytes, PAGE_BYTES, PROT_NONE)) return 0;
        rooms[i] = (float *)(void *)all;
    }
    return 1;
}
#endif

static float drawn(void) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state / 536870912.0f;
}

/* Memory of one operand. */
static float *at(int number, int64_t count) {
    float *all = rooms[number];
    for (int i = 0; i < ROOM; i++) all[i] = NAN;
    return before_a_page ? all + ROOM - count : all + MARGIN + 1;
}

/* One value in about `rare` is NaN; 0: none. */
static float *filled(int number, int64_t count, int rare) {
    float *values = at(number, count);
    for (int64_t i = 0; i < count; i++) values[i] = rare && i % rare == rare / 2 ? NAN : drawn();
    return values;
}

/* Both rooms as a whole: nothing around the results may have changed. */
static void compare(int found_in, int wanted_in, double bound, const char *what, int64_t size) {
    const float *found = rooms[found_in], *wanted = rooms[wanted_in];
    checked++;
    for (int64_t i = 0; i < ROOM; i++) {
        double a = (double)found[i], b = (double)wanted[i];
        if (isnan(a) == isnan(b) && (isnan(a) || a == b || fabs(a - b) <= bound * (1 + fabs(b)))) continue;
        printf("%s, %lld %s: %g instead of %g, %lld floats from the beginning of the room\n", current, (long long)size,
               what, a, b, (long long)i);
        failed++;
        return;
    }
}

static void check_gemm(const edge_kernel *k, const edge_kernel *scalar, int64_t rows, int64_t n, int64_t depth,
                       int64_t taps, int rare) {
    const edge_kernel *kernels[2] = {k, scalar};
    const float *pointers[64 * 4];
    float *a = filled(0, rows * taps * (depth + 3) - 3, rare), *b = filled(1, taps * depth * n, 0);
    float *bias = filled(2, n, 0), *add = filled(3, rows * (n + 5) - 5, 0);
    for (int64_t i = 0; i < rows * taps; i++) pointers[i] = a + i * (depth + 3);
    for (int form = 0; form < 3; form++) {
        for (int which = 0; which < 2; which++) {
            float *packed = at(4, (int64_t)edge_gemm_packed_f32(kernels[which], n, taps * depth));
            float *c = at(5 + which, rows * (n + 7) - 7);
            edge_gemm_pack_f32(kernels[which], n, taps * depth, b, n, 1, packed);
            edge_gemm_f32 job = {.n = n, .depth = depth, .taps = taps, .b = packed, .c_row = n + 7, .add_row = n + 5,
                                 .bias = form ? bias : NULL, .low = form > 1 ? -1.5f : -INFINITY,
                                 .high = form > 1 ? 2.5f : INFINITY};
            ((edge_gemm_f32_run *)kernels[which]->run)(&job, rows, pointers, c, form > 1 ? add : NULL);
        }
        compare(5, 6, 1e-6 * (double)(4 + taps * depth), "columns", n);
    }
}

static void check_gemms(const edge_kernel *k, const edge_kernel *scalar) {
    static const int64_t columns[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 31, 33, 49};
    for (int64_t rows = 1; rows <= 2 * k->mr + 1; rows++)
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) check_gemm(k, scalar, rows, columns[i], 5, 1, 0);
    for (int64_t depth = 1; depth <= 19; depth++)
        for (int64_t taps = 1; taps <= 3; taps++)
            for (int rare = 0; rare <= 40; rare += 40) check_gemm(k, scalar, k->mr + 2, k->nr + 3, depth, taps, rare);
}

static void check_grouped(const edge_kernel *k, const edge_kernel *scalar, int64_t rows, int64_t n, int64_t depth,
                          int64_t group, int32_t bits) {
    const edge_kernel *kernels[2] = {k, scalar};
    const float *pointers[64];
    int64_t words = (depth * bits + 31) / 32;
    float *a = filled(0, rows * (depth + 3) - 3, 0), *scale = filled(1, depth / group * n, 0);
    float *bias = filled(2, n, 0), *add = filled(3, rows * (n + 5) - 5, 0);
    for (int64_t i = 0; i < rows; i++) pointers[i] = a + i * (depth + 3);
    for (int64_t i = 0; i < depth * n; i++) whole[i] = (int8_t)(drawn() * (bits == 4 ? 2 : 32));
    for (int form = 0; form < 2; form++) {
        for (int which = 0; which < 2; which++) {
            const edge_kernel *at_work = kernels[which];
            float *b = at(4, (int64_t)edge_gemm_packed_f32(at_work, n, words));
            float *scales = at(7, (int64_t)edge_gemm_packed_f32(at_work, n, depth / group));
            float *c = at(5 + which, rows * (n + 7) - 7);
            edge_gemm_pack_grouped(at_work, n, depth, bits, whole, n, 1, (int32_t *)(void *)b);
            edge_gemm_pack_f32(at_work, n, depth / group, scale, n, 1, scales);
            edge_gemm_grouped job = {{.n = n, .depth = depth, .taps = 1, .c_row = n + 7, .add_row = n + 5,
                                      .bias = form ? bias : NULL, .low = form ? -9.5f : -INFINITY,
                                      .high = form ? 12.5f : INFINITY},
                                     (const int32_t *)(const void *)b, scales, group, bits};
            ((edge_gemm_grouped_run *)at_work->run)(&job, rows, pointers, c, form ? add : NULL);
        }
        compare(5, 6, 1e-5 * (double)(4 + depth), "columns of small weights", n);
    }
}

static void check_all_grouped(const edge_kernel *k, const edge_kernel *scalar) {
    static const int64_t columns[] = {1, 4, 5, 8, 9, 16, 17, 32, 35};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        for (int32_t bits = 4; bits <= 8; bits += 4) {
            for (int64_t rows = 1; rows <= 3; rows++) {
                check_grouped(k, scalar, rows, columns[i], 7, 7, bits);
                check_grouped(k, scalar, rows, columns[i], 48, 16, bits);
            }
            check_grouped(k, scalar, 1, columns[i], 1030, 1030, bits);
            check_grouped(k, scalar, 2, columns[i], 536, 8, bits);
        }
}

static void check_sparse(const edge_kernel *k, const edge_kernel *scalar, int64_t count, int64_t n, int64_t depth,
                         int rare) {
    const edge_kernel *kernels[2] = {k, scalar};
    static int32_t start[64];
    static uint16_t index[4096];
    float *x = filled(0, depth * (count + 3) - 3, rare), *w = filled(1, depth * n, 0);
    float *bias = filled(2, n, 0), *add = filled(3, n * (count + 5) - 5, 0);
    for (int64_t i = 0; i < depth * n; i++)
        if (drawn() < 0.2f) w[i] = 0;
    for (int form = 0; form < 3; form++) {
        for (int which = 0; which < 2; which++) {
            const edge_kernel *at_work = kernels[which];
            int64_t work = depth * at_work->mr < EDGE_SPMM_FLOATS ? depth * at_work->mr : EDGE_SPMM_FLOATS;
            float *value = at(4, edge_spmm_blocks(at_work, n, depth, w, depth, 1) * at_work->nr);
            edge_spmm_pack_f32(at_work, n, depth, w, depth, 1, start, index, value);
            edge_spmm_f32 job = {.depth = depth, .x_row = count + 3, .c_row = count + 7, .add_row = count + 5,
                                 .bias = form ? bias : NULL, .low = form > 1 ? -1.5f : -INFINITY,
                                 .high = form > 1 ? 2.5f : INFINITY, .start = start, .index = index, .value = value};
            ((edge_spmm_f32_run *)at_work->run)(&job, 0, n, count, x, at(5 + which, n * (count + 7) - 7),
                                                form > 1 ? add : NULL, at(7, work));
        }
        compare(5, 6, 1e-6 * (double)(4 + depth), "values of a sparse product", count);
    }
}

static void check_few(const edge_kernel *k, const edge_kernel *scalar, int64_t rows, int64_t n, int64_t depth, int rare) {
    const edge_kernel *kernels[2] = {k, scalar};
    static int32_t start[64];
    static uint16_t index[4096];
    float *x = filled(0, rows * (depth + 3) - 3, rare), *w = filled(1, depth * n, 0);
    float *bias = filled(2, n, 0), *add = filled(3, rows * (n + 5) - 5, 0);
    for (int64_t i = 0; i < depth * n; i++)
        if (drawn() < 0.2f) w[i] = 0;
    for (int form = 0; form < 3; form++) {
        for (int which = 0; which < 2; which++) {
            const edge_kernel *at_work = kernels[which];
            float *value = at(4, edge_spmm_blocks(at_work, n, depth, w, 1, n) * at_work->nr);
            edge_spmm_pack_f32(at_work, n, depth, w, 1, n, start, index, value);
            edge_spmm_f32 job = {.depth = depth, .x_row = depth + 3, .c_row = n + 7, .add_row = n + 5,
                                 .bias = form ? bias : NULL, .low = form > 1 ? -1.5f : -INFINITY,
                                 .high = form > 1 ? 2.5f : INFINITY, .start = start, .index = index, .value = value};
            ((edge_spmv_f32_run *)at_work->run)(&job, 0, n, rows, x, at(5 + which, rows * (n + 7) - 7),
                                                form > 1 ? add : NULL);
        }
        compare(5, 6, 1e-6 * (double)(4 + depth), "columns of few rows", n);
    }
}

static void check_all_few(const edge_kernel *k, const edge_kernel *scalar) {
    static const int64_t columns[] = {1, 3, 4, 5, 8, 19};
    for (int64_t rows = 1; rows <= 9; rows++)
        for (int64_t depth = 1; depth <= 19; depth++)
            check_few(k, scalar, rows, columns[(rows + depth) % 6], depth, depth % 2 ? 40 : 0);
}

static void check_all_sparse(const edge_kernel *k, const edge_kernel *scalar) {
    static const int64_t rows[] = {1, 3, 4, 5, 8, 19};
    for (int64_t count = 1; count <= 2 * k->mr + 1; count++) check_sparse(k, scalar, count, rows[count % 6], 7, 0);
    for (int64_t depth = 1; depth <= 19; depth++)
        for (int rare = 0; rare <= 40; rare += 40) check_sparse(k, scalar, k->mr + 2, 13, depth, rare);
    if (k->mr <= 32) check_sparse(k, scalar, k->mr / 2, 3, 1030, 0); /* so deep that not all fits at once */
}

static void check_plane(const edge_kernel *k, const edge_kernel *scalar, int64_t side, int64_t stride, int64_t dilation,
                        int64_t height, int64_t width) {
    enum { CHANNELS = 2 };
    const edge_kernel *kernels[2] = {k, scalar};
    int64_t reach = (side - 1) * dilation, pad = reach / 2, x_step = height * width + 3;
    int64_t out_height = (height + 2 * pad - reach - 1) / stride + 1, out_width = (width + 2 * pad - reach - 1) / stride + 1;
    if (height + 2 * pad <= reach || width + 2 * pad <= reach) return;
    int64_t y_step = out_height * out_width + 5;
    float *image = filled(0, CHANNELS * x_step - 3, 40), *weights = filled(1, CHANNELS * side * side, 0);
    float *bias = filled(2, CHANNELS, 0);
    edge_depthwise_plane_f32 job = {height, width,  out_height, out_width, side, side,  stride, stride,
                                    dilation, dilation, pad, pad, -3.0f, 4.0f};
    for (int which = 0; which < 2; which++)
        ((edge_depthwise_plane_f32_run *)kernels[which]->run)(&job, CHANNELS, weights, bias, image, x_step,
                                                              at(5 + which, CHANNELS * y_step - 5), y_step,
                                                              at(7, (int64_t)edge_plane_floats(&job)));
    compare(5, 6, 2e-6 * (double)(4 + side * side), "columns of a plane", width);
}

static void check_planes(const edge_kernel *k, const edge_kernel *scalar) {
    for (int64_t width = 1; width <= 70; width++)
        for (int64_t side = 1; side <= 5; side += 2)
            for (int64_t stride = 1; stride <= 3; stride++)
                check_plane(k, scalar, side, stride, 1 + width % 3 / 2, 1 + width % 5, width);
}

static void check_depthwise(const edge_kernel *k, const edge_kernel *scalar, int64_t channels, int64_t side,
                            int64_t stride, int64_t dilation, int64_t width, int rare) {
    const edge_kernel *kernels[2] = {k, scalar};
    int64_t reach = (side - 1) * dilation, pad = reach / 2, out_width = (width + 2 * pad - reach - 1) / stride + 1;
    if (out_width < 1) return;
    float *image = filled(0, side * width * channels, rare), *weights = filled(1, side * side * channels, 0);
    float *bias = filled(2, channels, 0), *zeros = at(3, channels);
    const float *lines[8] = {0};
    memset(zeros, 0, (size_t)channels * sizeof *zeros);
    for (int64_t i = 1; i < side; i++) lines[i] = image + i * width * channels; /* the first lies outside */
    if (side == 1) lines[0] = image;
    edge_depthwise_f32 job = {channels, width, out_width, side, side,  stride, dilation,
                              pad,      weights, bias,    zeros, -3.0f, 4.0f};
    for (int which = 0; which < 2; which++)
        ((edge_depthwise_f32_run *)kernels[which]->run)(&job, lines, at(5 + which, out_width * channels));
    compare(5, 6, 2e-6 * (double)(4 + side * side), "channels", channels);
}

static void check_depthwises(const edge_kernel *k, const edge_kernel *scalar) {
    for (int64_t channels = 1; channels <= 41; channels += 1 + channels / 9)
        for (int64_t side = 1; side <= 7; side += 2)
            for (int64_t stride = 1; stride <= 2; stride++)
                for (int64_t width = 1; width <= 11; width += 2)
                    for (int rare = 0; rare <= 50; rare += 50)
                        check_depthwise(k, scalar, channels, side, stride, 1 + (width == 11), width, rare);
}

static void check_rows(const edge_kernel *k, const edge_kernel *scalar) {
    static const float odd[] = {0, -0.0f, 1e-38f, 1e-45f, 88, 89, -87, -104, 1e30f, -1e30f, INFINITY, -INFINITY, NAN};
    const edge_kernel *kernels[2] = {k, scalar};
    for (int64_t count = 1; count <= 70; count++)
        for (int mode = 0; mode < 3; mode++) { /* plain; some NaN; odd values */
            float *x = filled(0, count, mode == 1 ? 9 : 0), *y = filled(1, count, mode == 1 ? 13 : 0);
            if (mode == 2)
                for (int64_t i = 0; i < count; i++) x[i] = odd[(size_t)i % (sizeof odd / sizeof *odd)];
            for (int which = 0; which < 2; which++) {
                float *out = at(5 + which, k->op == EDGE_RANGE ? 2 : count);
                edge_any_kernel *run = kernels[which]->run;
                if (k->op == EDGE_SOFTMAX) ((edge_softmax_f32 *)run)(x, out, count);
                else if (k->op == EDGE_LAYER_NORM) ((edge_layer_norm_f32 *)run)(x, y, y, 1e-5f, out, count);
                else if (k->op == EDGE_MAX || k->op == EDGE_ADD) ((edge_combine_f32 *)run)(x, y, out, count);
                else if (k->op == EDGE_RANGE) ((edge_range_f32 *)run)(x, count, out, out + 1);
                else ((edge_map_f32 *)run)(x, out, count);
            }
            double bound = k->op == EDGE_LAYER_NORM ? 2e-5 : 2e-6;
            compare(5, 6, bound, mode ? "odd values" : "values", count);
        }
}

static void check_few_by_many(const edge_kernel *k, const edge_kernel *scalar) {
    const edge_kernel *kernels[2] = {k, scalar};
    for (int64_t count = 0; count <= 9; count++)
        for (int64_t depth = 1; depth <= 150; depth += 1 + depth / 9) {
            int dots = k->op == EDGE_DOTS;
            int64_t row = depth + 3;
            float *x = filled(0, dots ? depth : count, 0), *rows = filled(1, count ? (count - 1) * row + depth : 0, 0);
            for (int which = 0; which < 2; which++) {
                float *out = at(5 + which, dots ? count : depth);
                /* dots and mix are of one type */
                ((edge_dots_f32 *)kernels[which]->run)(x, rows, row, count, depth, out);
            }
            compare(5, 6, 1e-4, dots ? "products" : "sums", depth);
        }
}

/* How many rows were checked. */
static long check_table(void) {
    const edge_kernel *k;
    long rows = 0;
    for (size_t row = 0; (k = edge_kernel_row(row)); row++) {
        const edge_kernel *scalar = edge_kernel_find(k->op, k->dtype, k->format, EDGE_ISA_SCALAR);
        if (k->dtype != EDGE_KERNEL_F32 || k == scalar || !edge_isa_usable(k->isa)) continue;
        current = k->name;
        rows++;
        if (k->op == EDGE_GEMM) check_gemms(k, scalar);
        else if (k->op == EDGE_GEMM_GROUPED) check_all_grouped(k, scalar);
        else if (k->op == EDGE_SPMM) check_all_sparse(k, scalar);
        else if (k->op == EDGE_SPMV) check_all_few(k, scalar);
        else if (k->op == EDGE_DEPTHWISE) check_depthwises(k, scalar);
        else if (k->op == EDGE_DEPTHWISE_PLANE) check_planes(k, scalar);
        else if (k->op == EDGE_DOTS || k->op == EDGE_MIX) check_few_by_many(k, scalar);
        else check_rows(k, scalar);
    }
    return rows;
}

int main(void) {
    long rows = 0;
    if (!make_rooms()) return fprintf(stderr, "no memory\n"), 2;
    for (before_a_page = 0; before_a_page < 2; before_a_page++) rows = check_table();
    printf("%ld rows, %ld checks, %ld failed\n", rows, checked, failed);
    return failed != 0;
}
