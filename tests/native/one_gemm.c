/* one_gemm M N K BLOCK: the best fp32 product of this machine, once, BLOCK rows at a time; prints its name. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "edge_kernels.h"
#include "one_memory.h"

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: one_gemm M N K BLOCK\n"), 2;
    int64_t m = atol(argv[1]), n = atol(argv[2]), k = atol(argv[3]), block = atol(argv[4]);
    const edge_kernel *kernel = edge_kernel_find(EDGE_GEMM, EDGE_KERNEL_F32, EDGE_DENSE, (edge_isa)edge_isa_chosen());
    float *a = zeros(m * k), *b = zeros(k * n), *c = zeros(m * n);
    float *packed = zeros((int64_t)edge_gemm_packed_f32(kernel, n, k));
    const float **rows = calloc((size_t)m, sizeof *rows);
    if (!a || !b || !c || !packed || !rows) return 1;
    for (int64_t i = 0; i < m; i++) rows[i] = a + i * k;
    edge_gemm_pack_f32(kernel, n, k, b, n, 1, packed);
    edge_gemm_f32 job = {.n = n, .depth = k, .taps = 1, .b = packed, .c_row = n, .low = -INFINITY, .high = INFINITY};
    for (int64_t i = 0; i < m; i += block)
        ((edge_gemm_f32_run *)kernel->run)(&job, block < m - i ? block : m - i, rows + i, c + i * n, NULL);
    puts(kernel->name);
    return 0;
}
