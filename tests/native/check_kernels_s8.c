/* Runs every row for 8 bits of the table of kernels beside the scalar row of its op and names those that differ: for
 * machines without Python.  Sizes are odd, many bytes are extreme, and memory is misaligned and lies among other bytes,
 * then once more directly before a page that ends the program when it is touched (WebAssembly has no such pages). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef __wasm__
#include <sys/mman.h>
#endif

#include "edge_kernels.h"

enum { ROOM = 1 << 16, MARGIN = 67, OPERANDS = 8, PAGE_BYTES = 1 << 16, GARBAGE = 0xA5, MOST_POINTERS = 64 * 4 };

static uint8_t *rooms[OPERANDS];
static int before_a_page;
static const char *current;
static long checked, failed;

#ifdef __wasm__
static int make_rooms(void) {
    for (int i = 0; i < OPERANDS; i++)
        if (!(rooms[i] = malloc(ROOM))) return 0;
    return 1;
}
#else
static int make_rooms(void) {
    for (int i = 0; i < OPERANDS; i++) {
        char *all = mmap(NULL, ROOM + PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED || mprotect(all + ROOM, PAGE_BYTES, PROT_NONE)) return 0;
        rooms[i] = (uint8_t *)all;
    }
    return 1;
}
#endif

static uint32_t drawn(void) {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* Memory of one operand. */
static void *at(int number, int64_t bytes) {
    if (bytes + MARGIN > ROOM) abort();
    memset(rooms[number], GARBAGE, ROOM);
    return before_a_page ? rooms[number] + ROOM - bytes : rooms[number] + MARGIN;
}

/* Floats and sums are at multiples of four, as in every caller. */
static void *numbers_at(int number, int64_t count) {
    uint8_t *p = at(number, count * 4);
    return before_a_page ? p : p + 1;
}

/* Any byte; every third one is the least or the greatest; all: all are. */
static uint8_t *bytes_in(int number, int64_t count, int is_signed, int all) {
    uint8_t *values = at(number, count), least = is_signed ? 128 : 0, most = is_signed ? 127 : 255;
    for (int64_t i = 0; i < count; i++) {
        uint32_t d = drawn();
        values[i] = all || d % 3 == 0 ? (d & 64 || all > 1 ? least : most) : (uint8_t)(d >> 8);
    }
    return values;
}

static float *floats_in(int number, int64_t count, float size) {
    float *values = numbers_at(number, count);
    for (int64_t i = 0; i < count; i++) values[i] = size * (0.5f + (float)drawn() / (1 << 24));
    return values;
}

static int32_t *wholes_in(int number, int64_t count) {
    int32_t *values = numbers_at(number, count);
    for (int64_t i = 0; i < count; i++) values[i] = (int32_t)drawn() % 20001 - 10000;
    return values;
}

static void tell(const char *what, int64_t size, double found, double wanted, int64_t place) {
    printf("%s, %lld %s: %g instead of %g, %lld from the beginning of the room\n", current, (long long)size, what,
           found, wanted, (long long)place);
    failed++;
}

/* Both rooms as a whole: nothing around the results may have changed. */
static void compare_bytes(int is_signed, const char *what, int64_t size) {
    const uint8_t *found = rooms[6], *wanted = rooms[7];
    checked++;
    for (int64_t i = 0; i < ROOM; i++) {
        int a = is_signed ? (int8_t)found[i] : found[i], b = is_signed ? (int8_t)wanted[i] : wanted[i];
        if (a == b) continue;
        tell(what, size, a, b, i);
        return;
    }
}

static void compare_floats(const float *found, const float *wanted, int64_t rows, int64_t n, int64_t row,
                           int64_t size) {
    checked++;
    for (int64_t i = 0; i < (rows - 1) * row + n; i++) {
        float a = found[i], b = wanted[i];
        int inside = i % row < n;
        if (inside ? fabsf(a - b) <= 1e-5f * (1 + fabsf(b)) : !memcmp(&a, &b, sizeof a)) continue;
        tell("columns as floats", size, (double)a, (double)b, i);
        return;
    }
}

typedef struct product {
    int64_t rows, n, depth, taps;
    int a_signed, c_signed, extreme;
} product;

static edge_rescale rescale_of(int a_signed, int c_signed, const float *scale, const int32_t *bias) {
    int32_t low = c_signed ? -128 : 0, any = (int32_t)(drawn() % 256);
    return (edge_rescale){.scale = scale, .bias = bias, .a_zero = a_signed ? any - 128 : any, .a_signed = a_signed,
                          .zero = low + (int32_t)(drawn() % 256), .low = (float)low,
                          .high = (float)(low + 255 - any / 4)};
}

/* Dense or in blocks. */
static void *packed_in(int number, const edge_kernel *k, const product *p, const int8_t *b) {
    if (k->format == EDGE_DENSE) {
        void *packed = at(number, (int64_t)edge_gemm_packed_s8(k, p->n, p->depth, p->taps));
        edge_gemm_pack_s8(k, p->n, p->depth, p->taps, b, p->n, 1, packed);
        return packed;
    }
    int64_t tap = p->depth * p->n, blocks = edge_gemm_blocks_s8(p->n, p->depth, p->taps, b, tap, p->n, 1);
    void *packed = numbers_at(number, (int64_t)edge_gemm_blocks_bytes_s8(p->n, blocks) / 4);
    edge_gemm_pack_blocks_s8(p->n, p->depth, p->taps, b, tap, p->n, 1, packed);
    return packed;
}

/* Of a kernel of blocks only some are left. */
static void clear_blocks(const product *p, int8_t *b) {
    for (int64_t t = 0; t < p->taps; t++)
        for (int64_t k = 0; k < p->depth; k += 4)
            for (int64_t j = 0; j < p->n; j += 4) {
                if (drawn() % 3 == 0) continue;
                for (int64_t i = k; i < k + 4 && i < p->depth; i++)
                    memset(b + (t * p->depth + i) * p->n + j, 0, p->n - j < 4 ? (size_t)(p->n - j) : 4);
            }
}

static void check_gemm(const edge_kernel *k, const edge_kernel *scalar, const product *p) {
    const edge_kernel *kernels[2] = {k, scalar};
    const uint8_t *pointers[MOST_POINTERS];
    int64_t step = p->depth + 3, lines = p->rows * p->taps, c_row = p->n + 7, add_row = p->n + 5;
    uint8_t *a = bytes_in(0, lines * step - 3, p->a_signed, p->extreme);
    int8_t *b = (int8_t *)bytes_in(1, p->taps * p->depth * p->n, 1, p->extreme);
    float *scale = floats_in(2, p->n, p->extreme ? 1e-4f : 0.003f), *add = floats_in(4, p->rows * add_row - 5, 3);
    int32_t *bias = wholes_in(3, p->n);
    if (k->format != EDGE_DENSE) clear_blocks(p, b);
    for (int64_t i = 0; i < lines; i++) pointers[i] = a + i * step;
    edge_gemm_s8 job = {.n = p->n, .depth = p->depth, .taps = p->taps, .c_row = c_row, .add_row = add_row,
                        .out = rescale_of(p->a_signed, p->c_signed, scale, p->depth % 4 ? bias : NULL)};
    for (int form = 0; form < 3; form++) { /* bytes; floats; floats with more */
        void *c[2];
        job.to_f32 = form > 0;
        job.offset = form > 1 ? scale : NULL;
        if (form) job.out.low = form > 1 ? -1.5f : -INFINITY, job.out.high = form > 1 ? 2.5f : INFINITY;
        for (int which = 0; which < 2; which++) {
            c[which] = form ? numbers_at(6 + which, p->rows * c_row - 7) : at(6 + which, p->rows * c_row - 7);
            job.b = packed_in(5, kernels[which], p, b);
            ((edge_gemm_s8_run *)kernels[which]->run)(&job, p->rows, pointers, c[which], form > 1 ? add : NULL);
        }
        if (form) compare_floats(c[0], c[1], p->rows, p->n, c_row, p->n);
        else compare_bytes(p->c_signed, "columns", p->n);
    }
}

static void check_gemms(const edge_kernel *k, const edge_kernel *scalar) {
    static const int64_t columns[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 31, 33, 49};
    for (int64_t rows = 1; rows <= 2 * k->mr + 1; rows++)
        for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
            check_gemm(k, scalar, &(product){rows, columns[i], 21, 1, i & 1, rows & 1, 0});
    for (int64_t depth = 1; depth <= 67; depth++)
        for (int64_t taps = 1; taps <= 3; taps++)
            for (int a_signed = 0; a_signed < 2; a_signed++)
                for (int extreme = 0; extreme < 3; extreme++)
                    check_gemm(k, scalar, &(product){k->mr + 2, k->nr + 3, depth, taps, a_signed, depth & 1, extreme});
    for (int extreme = 0; extreme < 3; extreme++)
        check_gemm(k, scalar, &(product){k->mr, k->nr, 1027, 1, 1, 1, extreme});
}

typedef struct window {
    int64_t channels, height, width, stride, dilation, out_width;
    int a_signed, extreme;
} window;

static void check_depthwise(const edge_kernel *k, const edge_kernel *scalar, const window *w) {
    const edge_kernel *kernels[2] = {k, scalar};
    int64_t span = (w->width - 1) * w->dilation + 1, pad = span / 2, in_width = w->out_width * w->stride;
    const uint8_t *lines[EDGE_DEPTHWISE_MOST_HEIGHT] = {0};
    uint8_t *image = bytes_in(0, w->height * in_width * w->channels, w->a_signed, w->extreme);
    int8_t *weights = (int8_t *)bytes_in(1, w->height * w->width * w->channels, 1, w->extreme);
    float *scale = floats_in(2, w->channels, w->extreme ? 1e-4f : 0.003f);
    int32_t *bias = wholes_in(3, w->channels);
    uint8_t *zeros = at(4, w->channels);
    edge_depthwise_s8 job = {w->channels, in_width, w->out_width, w->height, w->width, w->stride, w->dilation, pad,
                             NULL,        zeros,    rescale_of(w->a_signed, !w->a_signed, scale, bias)};
    memset(zeros, job.out.a_zero, (size_t)w->channels);
    for (int64_t i = w->height > 1; i < w->height; i++) /* the first lies outside */
        lines[i] = image + i * in_width * w->channels;
    for (int which = 0; which < 2; which++) {
        uint8_t *out = at(6 + which, w->out_width * w->channels);
        void *packed = at(5, (int64_t)edge_depthwise_packed_s8(kernels[which], w->channels, w->height, w->width));
        edge_depthwise_pack_s8(kernels[which], w->channels, w->height, w->width, weights, packed);
        job.weights = packed;
        ((edge_depthwise_s8_run *)kernels[which]->run)(&job, lines, out);
    }
    compare_bytes(!w->a_signed, "channels", w->channels);
}

static void check_depthwises(const edge_kernel *k, const edge_kernel *scalar) {
    for (int64_t channels = 1; channels <= 70; channels++)
        for (int a_signed = 0; a_signed < 2; a_signed++)
            for (int extreme = 0; extreme < 3; extreme++)
                check_depthwise(k, scalar, &(window){channels, 3, 3, 1, 1, 5, a_signed, extreme});
    for (int64_t height = 1; height <= EDGE_DEPTHWISE_MOST_HEIGHT; height++)
        for (int64_t width = 1; width <= 5; width++)
            for (int64_t stride = 1; stride <= 3; stride++)
                for (int64_t dilation = 1; dilation <= 2; dilation++)
                    check_depthwise(k, scalar, &(window){13 + 3 * height, height, width, stride, dilation,
                                                         1 + (height + 5 * width) % 9, stride & 1, 0});
    check_depthwise(k, scalar, &(window){19, EDGE_DEPTHWISE_MOST_HEIGHT, EDGE_DEPTHWISE_MOST_SPAN, 1, 1, 9, 1, 2});
}

static void check_rows(const edge_kernel *k, const edge_kernel *scalar) {
    const edge_kernel *kernels[2] = {k, scalar};
    for (int64_t count = 1; count <= 70; count++)
        for (int is_signed = 0; is_signed < 2; is_signed++) {
            edge_grid grid = {0.02f, is_signed ? -7 : 121, is_signed}, other = {0.031f, is_signed ? 90 : 3, is_signed};
            edge_add_s8_job add = {grid, other, {0.04f, is_signed ? 5 : 130, is_signed}, is_signed ? -100 : 10, 99};
            uint8_t *a = bytes_in(0, count, is_signed, 0), *b = bytes_in(1, count, is_signed, 0);
            float *x = floats_in(2, count, 1);
            for (int64_t i = 0; i < count; i++) x[i] = (float)((int)a[i] - 128) * (i % 7 ? 0.03f : 0.01f);
            if (count > 3) x[0] = NAN, x[1] = INFINITY, x[2] = -INFINITY;
            for (int which = 0; which < 2; which++) {
                edge_any_kernel *run = kernels[which]->run;
                if (k->op == EDGE_ADD) ((edge_add_s8_run *)run)(&add, a, b, at(6 + which, count), count);
                else if (k->op == EDGE_QUANTIZE) ((edge_quantize_s8 *)run)(&grid, x, at(6 + which, count), count);
                else ((edge_dequantize_s8 *)run)(&grid, a, numbers_at(6 + which, count), count);
            }
            compare_bytes(is_signed, "values", count);
        }
}

/* How many rows were checked. */
static long check_table(void) {
    const edge_kernel *k;
    long rows = 0;
    for (size_t row = 0; (k = edge_kernel_row(row)); row++) {
        const edge_kernel *scalar = edge_kernel_find(k->op, k->dtype, k->format, EDGE_ISA_SCALAR);
        if (k->dtype != EDGE_KERNEL_S8 || k == scalar || !edge_isa_usable(k->isa)) continue;
        current = k->name;
        rows++;
        if (k->op == EDGE_GEMM) check_gemms(k, scalar);
        else if (k->op == EDGE_DEPTHWISE) check_depthwises(k, scalar);
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
