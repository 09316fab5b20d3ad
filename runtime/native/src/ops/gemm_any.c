#include "linear.h"

#define GRAIN (1 << 16)

#define MULTIPLY_ROWS(type)                                                         \
    static void multiply_rows_##type(void *context, int64_t begin, int64_t end) {   \
        const ew_gemm *g = context;                                                 \
        for (int64_t i = begin; i < end; i++) {                                     \
            type *restrict c = (type *)g->c + i * g->c_row;                         \
            if (!g->accumulate) memset(c, 0, (size_t)g->n * sizeof *c);             \
            for (int64_t p = 0; p < g->k; p++) {                                    \
                type scale = ((const type *)g->a)[i * g->a_row + p * g->a_col];     \
                const type *b = (const type *)g->b + p * g->b_row;                  \
                for (int64_t j = 0; j < g->n; j++) c[j] += scale * b[j * g->b_col]; \
            }                                                                       \
        }                                                                           \
    }
MULTIPLY_ROWS(double)
MULTIPLY_ROWS(uint32_t)
MULTIPLY_ROWS(uint64_t)

void ew_gemm_any(const ew_call *call, edge_dtype dtype, const ew_gemm *g) {
    if (dtype == EDGE_F32) {
        ew_gemm_f32(call, g);
        return;
    }
    if (g->m <= 0 || g->n <= 0) return;
    bool is_small = ew_dtype_bytes(dtype) == 4;
    void (*rows)(void *, int64_t, int64_t) = dtype == EDGE_F64 ? multiply_rows_double
                                             : is_small        ? multiply_rows_uint32_t
                                                               : multiply_rows_uint64_t;
    ew_gemm copy = *g;
    if (call)
        ew_parallel(call, g->m, 1 + GRAIN / (g->n * (g->k > 0 ? g->k : 1)), rows, &copy);
    else
        rows(&copy, 0, g->m);
}
