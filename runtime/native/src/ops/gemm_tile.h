/* The innermost part of a blocked product: 4 rows by 16 columns, held in registers over the whole depth. */
#ifndef EW_GEMM_TILE_H
#define EW_GEMM_TILE_H

#include <string.h>

enum { EW_TILE_ROWS = 4, EW_TILE_COLUMNS = 16, EW_TILE_DEPTH = 256 };

/* name(depth, a, a_step, b, b_row, c): c[r][j] = sum over p of a[r][p * a_step] * b[p * b_row + j] */
#define EW_DEFINE_TILE(name, scalar)                                                                                   \
    typedef scalar name##_lanes __attribute__((vector_size(16)));                                                      \
    static inline name##_lanes name##_load(const scalar *from) {                                                       \
        name##_lanes v;                                                                                                \
        memcpy(&v, from, sizeof v);                                                                                    \
        return v;                                                                                                      \
    }                                                                                                                  \
    static void name(int64_t depth, const scalar *const a[EW_TILE_ROWS], int64_t a_step, const scalar *b,              \
                     int64_t b_row, scalar c[EW_TILE_ROWS][EW_TILE_COLUMNS]) {                                         \
        const scalar *a0 = a[0], *a1 = a[1], *a2 = a[2], *a3 = a[3];                                                   \
        name##_lanes c00 = {0}, c01 = c00, c02 = c00, c03 = c00, c10 = c00, c11 = c00, c12 = c00, c13 = c00;           \
        name##_lanes c20 = c00, c21 = c00, c22 = c00, c23 = c00, c30 = c00, c31 = c00, c32 = c00, c33 = c00;           \
        for (int64_t p = 0; p < depth; p++, b += b_row) {                                                              \
            name##_lanes b0 = name##_load(b), b1 = name##_load(b + 4);                                                 \
            name##_lanes b2 = name##_load(b + 8), b3 = name##_load(b + 12);                                            \
            scalar s0 = a0[p * a_step], s1 = a1[p * a_step], s2 = a2[p * a_step], s3 = a3[p * a_step];                 \
            c00 += s0 * b0, c01 += s0 * b1, c02 += s0 * b2, c03 += s0 * b3;                                            \
            c10 += s1 * b0, c11 += s1 * b1, c12 += s1 * b2, c13 += s1 * b3;                                            \
            c20 += s2 * b0, c21 += s2 * b1, c22 += s2 * b2, c23 += s2 * b3;                                            \
            c30 += s3 * b0, c31 += s3 * b1, c32 += s3 * b2, c33 += s3 * b3;                                            \
        }                                                                                                              \
        const name##_lanes all[16] = {c00, c01, c02, c03, c10, c11, c12, c13, c20, c21, c22, c23, c30, c31, c32, c33}; \
        memcpy(c, all, sizeof all);                                                                                    \
    }

#endif
