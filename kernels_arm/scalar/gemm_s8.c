#include "edge_blocks.h"
#include "rescale.h"

#define NR 8

static int32_t product(const edge_gemm_s8 *g, const uint8_t *const *a, const int8_t *b, int64_t width) {
    int32_t sum = 0;
    for (int64_t t = 0; t < g->taps; t++) {
        for (int64_t k = 0; k < g->depth; k++)
            sum = edge_plus(sum, edge_byte(a[t][k], g->out.a_signed) * b[k / 4 * width * 4 + k % 4]);
        b += (g->depth + 3) / 4 * width * 4;
    }
    return sum;
}

/* From an exact sum to its place. */
static void store(const edge_gemm_s8 *g, int32_t sum, int64_t r, int64_t at, void *c, const float *add) {
    if (!g->to_f32) {
        ((uint8_t *)c)[r * g->c_row + at] = edge_rescaled(&g->out, at, sum);
        return;
    }
    float y = (float)sum * g->out.scale[at] + (g->offset ? g->offset[at] : 0);
    if (add) y += add[r * g->add_row + at];
    ((float *)c)[r * g->c_row + at] = edge_clamp(y, g->out.low, g->out.high);
}

void edge_gemm_s8_scalar(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    const int8_t *panel = g->b;
    for (int64_t column = 0; column < g->n; column += NR) {
        int64_t left = g->n - column, width = left <= NR / 2 ? NR / 2 : NR;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < width && j < left; j++) {
                int32_t column_sum;
                memcpy(&column_sum, panel + j * 4, sizeof column_sum);
                int32_t sum = product(g, a + r * g->taps, panel + (width + j) * 4, width);
                store(g, edge_plus(edge_start(&g->out, column + j, column_sum), sum), r, column + j, c, add);
            }
        panel += width * 4 * (1 + g->taps * ((g->depth + 3) / 4));
    }
}

/* One column of a group. */
static int32_t sparse_product(const edge_gemm_s8 *g, const uint8_t *const *a, const edge_blocks *b, int64_t column) {
    int64_t of_tap = (g->depth + 3) / 4;
    int32_t sum = 0;
    for (int32_t i = b->start[column / 4]; i < b->start[column / 4 + 1]; i++) {
        const uint8_t *row = a[b->index[i] / of_tap];
        int64_t k = b->index[i] % of_tap * 4;
        for (int64_t j = 0; j < 4 && k + j < g->depth; j++)
            sum = edge_plus(sum, edge_byte(row[k + j], g->out.a_signed) * b->value[i * 16 + column % 4 * 4 + j]);
    }
    return sum;
}

void edge_gemm_s8_4x4_scalar(const edge_gemm_s8 *g, int64_t rows, const uint8_t *const *a, void *c, const float *add) {
    edge_blocks b = edge_blocks_of(g->b);
    for (int64_t at = 0; at < g->n; at++)
        for (int64_t r = 0; r < rows; r++) {
            int32_t sum = sparse_product(g, a + r * g->taps, &b, g->first + at);
            store(g, edge_plus(edge_start(&g->out, at, b.sums[g->first + at]), sum), r, at, c, add);
        }
}
