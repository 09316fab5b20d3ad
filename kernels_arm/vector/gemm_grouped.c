/* A product with weights of 4 or 8 bits.  Each lane of a vector of words holds values of one column, successive ones of
 * depth: two shifts, a conversion and a multiplication make one of each lane f32.  One row does so on the way; for
 * more, a part of a panel is made f32 once and multiplied as other weights are, in the same order: with the same bits.
 */
#include "vector.h"

enum {
    WIDE = 2,
    CHUNK = 4096 / (WIDE * EDGE_LANES), /* depth of such a part, which stays in the first cache */
    MOST_ROWS = 96
};

typedef uint32_t vu __attribute__((vector_size(4 * EDGE_LANES)));

edge_gemm_f32_run EDGE_NAME(edge_gemm_f32);

/* Where a panel is read. */
typedef struct panel {
    const int32_t *words;
    const float *scale;  /* of the group */
    int64_t width, left; /* left: depth of the group */
} panel;

EDGE_INLINE vf value(const int32_t *words, const int bits, const int place, vf scale) {
    vu all;
    memcpy(&all, words, sizeof all);
    return __builtin_convertvector((vi)(all << (32 - bits * (place + 1))) >> (32 - bits), vf) * scale;
}

/* Values of one group as f32. */
EDGE_INLINE void widen(const int bits, const panel *p, int64_t depth, float *to) {
    const int32_t *words = p->words;
    const int each = 32 / bits;
    for (int64_t k = 0; k < depth; k += each, to += (each - 1) * p->width)
        for (int64_t j = 0; j < p->width; j += EDGE_LANES, words += EDGE_LANES, to += EDGE_LANES) {
            vf scale = v_load(p->scale + j);
#pragma GCC unroll 8
            for (int place = 0; place < each; place++) v_store(to + place * p->width, value(words, bits, place, scale));
        }
}

/* Adds a row times values of one group, whole words of them, in a panel of both vectors. */
EDGE_INLINE void add_row(const int bits, const panel *p, int64_t depth, const float *a, vf sum[WIDE]) {
    vf x0 = sum[0], x1 = sum[1], scale0 = v_load(p->scale), scale1 = v_load(p->scale + EDGE_LANES);
    const int32_t *words = p->words;
    const int each = 32 / bits;
    for (int64_t k = 0; k < depth; k += each, a += each, words += WIDE * EDGE_LANES)
#pragma GCC unroll 8
        for (int place = 0; place < each; place++) {
            vf x = v_set(a[place]);
            x0 = v_madd(x, value(words, bits, place, scale0), x0);
            x1 = v_madd(x, value(words + EDGE_LANES, bits, place, scale1), x1);
        }
    sum[0] = x0, sum[1] = x1;
}

/* Goes through a part of a panel group by group: adds a row times it, or, without one, makes it f32. */
static void go_on(const edge_gemm_grouped *whole, panel *p, int64_t depth, const float *a, vf sum[WIDE], float *to) {
    for (int64_t k = 0, count; k < depth; k += count) {
        count = p->left < depth - k ? p->left : depth - k;
        if (a && whole->bits == 4) add_row(4, p, count, a + k, sum);
        else if (a) add_row(8, p, count, a + k, sum);
        else if (whole->bits == 4) widen(4, p, count, to + k * p->width);
        else widen(8, p, count, to + k * p->width);
        p->words += (count * whole->bits + 31) / 32 * p->width;
        p->left -= count;
        if (p->left > 0) continue;
        p->left = whole->group;
        p->scale += p->width;
    }
}

static void one_row(const edge_gemm_grouped *whole, panel *p, const edge_gemm_f32 *g, const float *a, float *c,
                    const float *add) {
    vf sum[WIDE] = {{0}};
    for (int v = 0; v < WIDE && g->bias; v++) sum[v] = v_load(g->bias + v * EDGE_LANES);
    go_on(whole, p, g->depth, a, sum, NULL);
    for (int v = 0; v < WIDE; v++) {
        if (add) sum[v] += v_load(add + v * EDGE_LANES);
        v_store(c + v * EDGE_LANES, v_clamp(sum[v], v_set(g->low), v_set(g->high)));
    }
}

static void some_rows(const edge_gemm_grouped *whole, panel *p, edge_gemm_f32 *g, int64_t rows, const float *const *a,
                      int64_t k, float *c, const float *add) {
    float part[CHUNK * WIDE * EDGE_LANES] __attribute__((aligned(64)));
    const float *from[MOST_ROWS];
    go_on(whole, p, g->depth, NULL, NULL, part);
    g->b = part;
    for (int64_t r = 0; r < rows; r++) from[r] = a[r] + k;
    EDGE_NAME(edge_gemm_f32)(g, rows, from, c, add);
}

static void one_panel(const edge_gemm_grouped *whole, panel *p, int64_t column, int64_t rows, const float *const *a,
                      float *c, const float *add) {
    edge_gemm_f32 g = whole->product;
    g.n -= column;
    if (g.n > p->width) g.n = p->width;
    if (g.bias) g.bias += column;
    if (add) add += column;
    c += column;
    for (int64_t k = 0, depth = g.depth; k < depth; k += CHUNK) {
        int last = depth - k <= CHUNK;
        g.depth = last ? depth - k : CHUNK;
        g.low = last ? whole->product.low : -INFINITY;
        g.high = last ? whole->product.high : INFINITY;
        if (rows == 1 && g.n == WIDE * EDGE_LANES && depth % 8 == 0) one_row(whole, p, &g, a[0] + k, c, add);
        else some_rows(whole, p, &g, rows, a, k, c, add);
        g.bias = NULL;
        add = c;
        g.add_row = g.c_row;
    }
}

void EDGE_NAME(edge_gemm_grouped_f32)(const edge_gemm_grouped *g, int64_t rows, const float *const *a, float *c,
                                      const float *add) {
    for (int64_t count; rows > 0; rows -= count) {
        count = rows < MOST_ROWS ? rows : MOST_ROWS;
        panel p = {.words = g->words, .scale = g->scale, .left = g->group};
        for (int64_t column = 0; column < g->product.n; column += p.width) {
            p.width = g->product.n - column > EDGE_LANES ? WIDE * EDGE_LANES : EDGE_LANES;
            one_panel(g, &p, column, count, a, c, add);
        }
        a += count;
        c += count * g->product.c_row;
        if (add) add += count * g->product.add_row;
    }
}
