/* one_gemm M N K: the best fp32 product of this machine, once; prints its name. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "edge_kernels.h"

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: one_gemm M N K\n"), 2;
    int64_t m = atol(argv[1]), n = atol(argv[2]), k = atol(argv[3]);
    const edge_kernel *kernel = edge_kernel_find(EDGE_GEMM, EDGE_KERNEL_F32, EDGE_DENSE, (edge_isa)edge_isa_chosen());
    float *a = calloc((size_t)(m * k), sizeof *a), *b = calloc((size_t)(k * n), sizeof *b);
    float *c = calloc((size_t)(m * n), sizeof *c), *packed = calloc(edge_gemm_packed_f32(kernel, n, k), sizeof *packed);
    const float **rows = calloc((size_t)m, sizeof *rows);
    if (!a || !b || !c || !packed || !rows) return 1;
    for (int64_t i = 0; i < m; i++) rows[i] = a + i * k;
    edge_gemm_pack_f32(kernel, n, k, b, n, 1, packed);
    edge_gemm_f32 job = {.n = n, .depth = k, .taps = 1, .b = packed, .c_row = n, .low = -INFINITY, .high = INFINITY};
    ((edge_gemm_f32_run *)kernel->run)(&job, m, rows, c, NULL);
    puts(kernel->name);
    return 0;
}
