/* Rows of values for sparse products, which take them with neighbours of all rows side by side. */
#include <string.h>

#include "edge_kernels.h"

typedef float four __attribute__((vector_size(16)));

static four load(const float *p) {
    four v;
    memcpy(&v, p, sizeof v);
    return v;
}

static void turn_four(const float *x, int64_t x_row, float *y, int64_t y_row) {
    four a = load(x), b = load(x + x_row), c = load(x + 2 * x_row), d = load(x + 3 * x_row);
    four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    four turned[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                      __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++) memcpy(y + i * y_row, &turned[i], sizeof turned[i]);
}

void edge_turn_f32(int64_t rows, int64_t columns, const float *x, int64_t x_row, float *y, int64_t y_row) {
    for (int64_t r = 0; r < rows; r += 4)
        for (int64_t c = 0; c < columns; c += 4) {
            if (rows - r >= 4 && columns - c >= 4) {
                turn_four(x + r * x_row + c, x_row, y + c * y_row + r, y_row);
                continue;
            }
            for (int64_t i = r; i < rows && i < r + 4; i++)
                for (int64_t j = c; j < columns && j < c + 4; j++) y[j * y_row + i] = x[i * x_row + j];
        }
}

int64_t edge_spmm_tile(const edge_kernel *kernel, int64_t rows) {
    static const uint8_t LANES[EDGE_ISA_COUNT] = {1, 8, 16, 4, 4, 4, 4};
    int64_t lanes = LANES[kernel->isa], most = kernel->mr < 4 * lanes ? kernel->mr : 4 * lanes;
    int64_t tiles = (rows + most - 1) / most, vectors = ((rows + tiles - 1) / tiles + lanes - 1) / lanes;
    return vectors == 3 && most > 3 * lanes ? most : vectors * lanes; /* which would be two and one */
}
