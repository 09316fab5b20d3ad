/* A product with weights of 4 or 8 bits.  Each lane of a vector of words holds values of one column, successive ones of
 * depth: two shifts, a conversion and a multiplication make one of each lane f32.  One row does so on the way; for more,
 * a part of a panel is made f32 once and multiplied as other weights are, in the same order: with the same bits. */
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
    const float *scale; /* of the group */
    int64_t width, left; /* left: depth of the group */
} panel;

EDGE_INLINE vf value(const int32_t *words, const int bits, const int place, vf scale) {
    vu all;
    memcpy(&all, words, sizeof all);
    return __builtin_convertvector((vi)(all << (32 - bits * (place + 1))) >> (32 - bits), vf) * scale;
}

EDGE_INLINE void next(panel *p, const int bits, int64_t group) {
    p->words += p->width;
    p->left -= 32 / bits;
    if (p->left > 0) return;
    p->left = group;
    p->scale += p->width;
}

/* A part of a panel as f32. */
EDGE_INLINE void widen(const int bits, panel *p, int64_t group, int64_t depth, float *to) {
    for (int64_t k = 0; k < depth; k += 32 / bits, to += 32 / bits * p->width, next(p, bits, group))
        for (int64_t j = 0; j < p->width; j += EDGE_LANES) {
            vf scale = v_load(p->scale + j);
#pragma GCC unroll 8
            for (int place = 0; place < 32 / bits; place++)
                v_store(to + place * p->width + j, value(p->words + j, bits, place, scale));
        }
}

/* One row by a part of a panel of both vectors. */
EDGE_INLINE void one_row(const int bits, panel *p, int64_t group, const edge_gemm_f32 *g, const float *a, float *c,
                         const float *add) {
    int64_t rest = g->n - EDGE_LANES < EDGE_LANES ? g->n - EDGE_LANES : EDGE_LANES;
    vf x0 = {0}, x1 = x0;
    float last[32 / bits];
    if (g->bias) x0 = v_load(g->bias), x1 = v_load_some(g->bias + EDGE_LANES, rest);
    for (int64_t k = 0; k < g->depth; k += 32 / bits, next(p, bits, group)) {
        const float *from = a + k;
        if (k + 32 / bits > g->depth) {
            memset(last, 0, sizeof last);
            from = memcpy(last, from, (size_t)(g->depth - k) * sizeof *last);
        }
        vf scale0 = v_load(p->scale), scale1 = v_load(p->scale + EDGE_LANES);
#pragma GCC unroll 8
        for (int place = 0; place < 32 / bits; place++) {
            vf x = v_set(from[place]);
            x0 = v_madd(x, value(p->words, bits, place, scale0), x0);
            x1 = v_madd(x, value(p->words + EDGE_LANES, bits, place, scale1), x1);
        }
    }
    if (add) x0 += v_load(add), x1 += v_load_some(add + EDGE_LANES, rest);
    v_store(c, v_clamp(x0, v_set(g->low), v_set(g->high)));
    v_store_some(c + EDGE_LANES, v_clamp(x1, v_set(g->low), v_set(g->high)), rest);
}

/* A part of the depth of a panel: c gets what it is given in add and the products. */
EDGE_INLINE void multiply(const int bits, panel *p, int64_t group, edge_gemm_f32 *g, int64_t rows, const float *const *a,
                          int64_t k, float *c, const float *add) {
    float part[CHUNK * WIDE * EDGE_LANES] __attribute__((aligned(64)));
    const float *from[MOST_ROWS];
    if (rows == 1 && p->width > EDGE_LANES) {
        one_row(bits, p, group, g, a[0] + k, c, add);
        return;
    }
    widen(bits, p, group, g->depth, part);
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
        if (whole->bits == 4) multiply(4, p, whole->group, &g, rows, a, k, c, add);
        else multiply(8, p, whole->group, &g, rows, a, k, c, add);
        g.bias = NULL;
        add = c;
        g.add_row = g.c_row;
    }
}

void EDGE_NAME(edge_gemm_grouped_f32)(const edge_gemm_grouped *g, int64_t rows, const float *const *a, float *c,
                                      const float *add) {
    for (int64_t count; rows > 0; rows -= count) {
        count = rows < MOST_ROWS ? rows : MOST_ROWS;
        panel p = {.words = g->words, .scale = g->scale};
        for (int64_t column = 0; column < g->product.n; column += p.width) {
            const float *scale = p.scale;
            p.width = g->product.n - column > EDGE_LANES ? WIDE * EDGE_LANES : EDGE_LANES;
            p.left = g->group;
            one_panel(g, &p, column, count, a, c, add);
            p.scale = scale + g->product.depth / g->group * p.width;
        }
        a += count;
        c += count * g->product.c_row;
        if (add) add += count * g->product.add_row;
    }
}
