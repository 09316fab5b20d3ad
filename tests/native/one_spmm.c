/* one_spmm N K COUNT SIDE BLOCKS: the best sparse product of this machine of w[N, K] with x[K, COUNT], once, as the engine
 * calls it for one thread; BLOCKS blocks of SIDE rows hold weights.  Prints the kernel's name. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "edge_kernels.h"
#include "one_memory.h"

static int64_t below(int64_t most) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state >> 33) % (uint64_t)most);
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "usage: one_spmm N K COUNT SIDE BLOCKS\n"), 2;
    int64_t n = atol(argv[1]), k = atol(argv[2]), count = atol(argv[3]), side = atol(argv[4]), blocks = atol(argv[5]);
    edge_kernel_format format = side == 4 ? EDGE_BLOCKS_4X1 : EDGE_BLOCKS_1X1;
    const edge_kernel *kernel = edge_kernel_find(EDGE_SPMM, EDGE_KERNEL_F32, format, (edge_isa)edge_isa_chosen());
    float *w = zeros(n * k), *x = zeros(k * count), *c = zeros(n * count), *work = zeros(EDGE_SPMM_FLOATS);
    float *start = zeros(n / side + 1), *index = zeros((blocks + 1) / 2), *value = zeros(blocks * side);
    if (!w || !x || !c || !work || !start || !index || !value) return 1;
    /* Each block is as likely as any other, and there are as many as there should be. */
    for (int64_t row = 0, left = n / side * k, wanted = blocks; row < n; row += side)
        for (int64_t j = 0; j < k; j++)
            if (below(left--) < wanted) wanted--, w[row * k + j] = 1;
    edge_spmm_pack_f32(kernel, n, k, w, k, 1, (int32_t *)(void *)start, (uint16_t *)(void *)index, value);
    edge_spmm_f32 job = {.depth = k, .x_row = count, .c_row = count, .low = -INFINITY, .high = INFINITY,
                         .start = (int32_t *)(void *)start, .index = (uint16_t *)(void *)index, .value = value};
    ((edge_spmm_f32_run *)kernel->run)(&job, 0, n, count, x, c, NULL, work);
    puts(kernel->name);
    return 0;
}
