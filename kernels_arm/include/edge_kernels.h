/* Kernels: one thread, no state, no allocation.  Sizes are in elements; vectors need no alignment.
 * Channels-last images: pixel (y, x) of an image is at ((y * width) + x) * channels. */
#ifndef EDGE_KERNELS_H
#define EDGE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Visible outside of the library, for tests and benchmarks; no part of the library's own interface. */
#define EDGE_KERNEL_API __attribute__((visibility("default")))

/* clamp(a b + bias + add): rows of a by pointers, a[row * taps + tap], each to depth values; b is packed. */
typedef struct edge_gemm_f32 {
    int64_t n, depth, taps;
    const float *b, *bias; /* packed by edge_gemm_pack_f32; bias: n values, NULL: zero */
    int64_t c_row, add_row;
    float low, high; /* -inf and inf: no clamp */
} edge_gemm_f32;

typedef void edge_gemm_f32_run(const edge_gemm_f32 *job, int64_t rows, const float *const *a, float *c,
                               const float *add);

/* The same with small weights, whole numbers around zero: each stands for itself times the scale of its group. */
typedef struct edge_gemm_grouped {
    edge_gemm_f32 product; /* of one tap; its b is not read */
    const int32_t *words;  /* packed by edge_gemm_pack_grouped */
    const float *scale;    /* [depth / group][n], packed by edge_gemm_pack_f32 */
    int64_t group;         /* successive values of depth; all of it, or a multiple of 8 that divides it */
    int32_t bits;          /* of a weight: 4 or 8 */
} edge_gemm_grouped;

typedef void edge_gemm_grouped_run(const edge_gemm_grouped *job, int64_t rows, const float *const *a, float *c,
                                   const float *add);

/* c = clamp(w x + bias + add) with sparse weights w[n, k] and rows of values, x[k][count] and c[n][count], as images with
 * their channels first are.  Weights come in blocks of some successive rows (the nr of the kernel) and one depth, of which
 * only those are there that hold a weight.  What meets no block is not read. */
typedef struct edge_spmm_f32 {
    int64_t depth, x_row, c_row, add_row;
    const float *bias; /* n values, NULL: zero */
    float low, high;
    const int32_t *start;  /* of each group of rows of w, the place of its first block; then that behind the last one */
    const uint16_t *index; /* of each block: its depth, ascending */
    const float *value;    /* of each block: its weights */
} edge_spmm_f32;

/* Rows [begin, end) of c: begin is a multiple of 4, end that too or n.  work: as many floats as here, or depth times mr of the
 * kernel where that is less, that no other thread uses; NULL where x is one tile, x_row = count = edge_spmm_tile. */
enum { EDGE_SPMM_FLOATS = 16384 };
typedef void edge_spmm_f32_run(const edge_spmm_f32 *job, int64_t begin, int64_t end, int64_t count, const float *x,
                               float *c, const float *add, float *work);

/* The same the other way round, c[rows, n] = clamp(x[rows, k] w + bias + add), where rows lie x_row, c_row and add_row apart:
 * columns [begin, end) of c.  Up to mr of the kernel rows are faster so than turned. */
typedef void edge_spmv_f32_run(const edge_spmm_f32 *job, int64_t begin, int64_t end, int64_t rows, const float *x,
                               float *c, const float *add);

/* A depthwise convolution of images with their channels first, [in_height][in_width] to [out_height][out_width] each. */
enum { EDGE_PLANE_MOST_SIDE = 9 }; /* of the kernel */
typedef struct edge_depthwise_plane_f32 {
    int64_t in_height, in_width, out_height, out_width, kernel_height, kernel_width;
    int64_t stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left; /* pad_top below 0: lines that nobody sees */
    float low, high;
} edge_depthwise_plane_f32;

/* Images are x_step and y_step apart.  work: edge_plane_floats of the job, that no other thread uses. */
typedef void edge_depthwise_plane_f32_run(const edge_depthwise_plane_f32 *job, int64_t channels, const float *weights,
                                          const float *bias, const float *x, int64_t x_step, float *y, int64_t y_step,
                                          float *work);

/* One output row of a depthwise convolution.  line[i]: input row under kernel row i, or NULL outside of the image. */
typedef struct edge_depthwise_f32 {
    int64_t channels, in_width, out_width, kernel_height, kernel_width, stride, dilation, pad; /* along the width */
    const float *weights; /* [kernel_height][kernel_width][channels] */
    const float *bias;    /* channels values */
    const float *zeros;   /* channels zeros */
    float low, high;
} edge_depthwise_f32;

typedef void edge_depthwise_f32_run(const edge_depthwise_f32 *job, const float *const *line, float *out);

/* Rows of values. */
typedef void edge_map_f32(const float *x, float *y, int64_t count);
/* y may be a or b. */
typedef void edge_combine_f32(const float *a, const float *b, float *y, int64_t count);
typedef void edge_softmax_f32(const float *x, float *y, int64_t count);
/* (x - mean) / sqrt(variance + epsilon) * scale + bias; bias may be NULL. */
typedef void edge_layer_norm_f32(const float *x, const float *scale, const float *bias, float epsilon, float *y,
                                 int64_t count);

/* A few rows by many, as they lie: rows[i] begins at rows + i * row and has depth values.
 * dots: y[i] = x . rows[i] for all count rows; mix: y = sum of weights[i] * rows[i], depth values. */
typedef void edge_dots_f32(const float *x, const float *rows, int64_t row, int64_t count, int64_t depth, float *y);
typedef void edge_mix_f32(const float *weights, const float *rows, int64_t row, int64_t count, int64_t depth, float *y);

/* ---- 8 bits: sums of products are exact, in 32 bits; what follows is f32 ---- */

/* What a byte q means: (q - zero) * scale; q is s8 or u8. */
typedef struct edge_grid {
    float scale;
    int32_t zero;
    int32_t is_signed;
} edge_grid;

/* sum = bias + (a - a.zero) b, then y = clamp(round(sum * scale) + zero), ties to even; or, where the result is f32,
 * y = clamp(sum * scale + offset + add).  scale, bias and offset have a value for every column or channel. */
typedef struct edge_rescale {
    const float *scale;
    const int32_t *bias; /* NULL: zero */
    int32_t a_zero, a_signed;
    int32_t zero;    /* of the result */
    float low, high; /* of the result, whole numbers where it is 8 bits */
} edge_rescale;

typedef struct edge_gemm_s8 {
    int64_t n, depth, taps; /* depth: bytes of a tap */
    const void *b;          /* packed by edge_gemm_pack_s8, or by edge_gemm_pack_blocks_s8 where the kernel is of blocks */
    edge_rescale out;
    const float *offset; /* of an f32 result; NULL: zero */
    int64_t c_row, add_row;
    int32_t to_f32;
    int32_t first; /* of blocks: the column of b with which n begins, a multiple of four */
} edge_gemm_s8;

typedef void edge_gemm_s8_run(const edge_gemm_s8 *job, int64_t rows, const uint8_t *const *a, void *c,
                              const float *add);

/* Rows of the next tile when so many are left: tiles of one size, and no last one of few rows, which waits for sums. */
#define EDGE_TILE_ROWS(left, most) (((left) + ((left) + (most)-1) / (most)-1) / (((left) + (most)-1) / (most)))

/* Beyond these a kernel for 8 bits has no room. */
enum { EDGE_DEPTHWISE_MOST_HEIGHT = 8, EDGE_DEPTHWISE_MOST_SPAN = 32 /* (kernel_width - 1) * dilation + 1 */ };

typedef struct edge_depthwise_s8 {
    int64_t channels, in_width, out_width, kernel_height, kernel_width, stride, dilation, pad; /* along the width */
    const void *weights;  /* packed by edge_depthwise_pack_s8 */
    const uint8_t *zeros; /* channels times a_zero */
    edge_rescale out;
} edge_depthwise_s8;

typedef void edge_depthwise_s8_run(const edge_depthwise_s8 *job, const uint8_t *const *line, uint8_t *out);

/* y = clamp(round(x / scale) + zero) to what the grid can hold; NaN gives its least value. */
typedef void edge_quantize_s8(const edge_grid *grid, const float *x, uint8_t *y, int64_t count);
typedef void edge_dequantize_s8(const edge_grid *grid, const uint8_t *x, float *y, int64_t count);

/* y = clamp(round((a + b) / y.scale) + y.zero), a float32 after each operation */
typedef struct edge_add_s8_job {
    edge_grid a, b, y;
    int32_t low, high;
} edge_add_s8_job;

typedef void edge_add_s8_run(const edge_add_s8_job *job, const uint8_t *a, const uint8_t *b, uint8_t *y,
                             int64_t count);

/* The least range that holds every x and 0; NaN are passed over. */
typedef void edge_range_f32(const float *x, int64_t count, float *low, float *high);

typedef enum edge_kernel_op {
    EDGE_GEMM,
    EDGE_DEPTHWISE,
    EDGE_SOFTMAX,
    EDGE_LAYER_NORM,
    EDGE_EXP,
    EDGE_ERF,
    EDGE_GELU,
    EDGE_TANH,
    EDGE_SIGMOID,
    EDGE_SILU,
    EDGE_MAX, /* NaN where either is */
    EDGE_ADD,
    EDGE_RANGE,
    EDGE_DOTS,
    EDGE_MIX,
    EDGE_QUANTIZE,
    EDGE_DEQUANTIZE,
    EDGE_GEMM_GROUPED,
    EDGE_SPMM,
    EDGE_SPMV,
    EDGE_DEPTHWISE_PLANE
} edge_kernel_op;
typedef enum edge_kernel_dtype { EDGE_KERNEL_F32, EDGE_KERNEL_S8 } edge_kernel_dtype;
/* Sparse ones are named by the rows (outputs) and the depth (inputs) of a block. */
typedef enum edge_kernel_format { EDGE_DENSE, EDGE_BLOCKS_1X1, EDGE_BLOCKS_4X1, EDGE_BLOCKS_4X4 } edge_kernel_format;
/* In order of preference, the last one that a machine has is the best. */
typedef enum edge_isa {
    EDGE_ISA_SCALAR,
    EDGE_ISA_AVX2,
    EDGE_ISA_AVX512VNNI,
    EDGE_ISA_NEON,
    EDGE_ISA_NEON_DOT,
    EDGE_ISA_WASM,
    EDGE_ISA_WASM_RELAXED,
    EDGE_ISA_COUNT
} edge_isa;

typedef void edge_any_kernel(void);

typedef struct edge_kernel {
    edge_kernel_op op;
    edge_kernel_dtype dtype;
    edge_kernel_format format;
    edge_isa isa;
    int mr, nr; /* rows and columns of a tile; of a depthwise kernel for 8 bits, mr: taps of a column that lie together */
    const char *name;
    edge_any_kernel *run; /* of the type of its op */
} edge_kernel;

/* Row of the table, NULL beyond the last one. */
EDGE_KERNEL_API const edge_kernel *edge_kernel_row(size_t row);
/* The kernel of this instruction set, or of the best one below it that has such a row. */
EDGE_KERNEL_API const edge_kernel *edge_kernel_find(edge_kernel_op op, edge_kernel_dtype dtype, edge_kernel_format format,
                                    edge_isa isa);
/* Whether this build and this machine have it. */
EDGE_KERNEL_API int edge_isa_usable(edge_isa isa);
EDGE_KERNEL_API const char *edge_isa_name(edge_isa isa);
/* The one in use: the best usable one, or the one that EDGEWRIGHT_FORCE_ISA names; -1: it names none that is usable. */
EDGE_KERNEL_API int edge_isa_chosen(void);

/* Floats of the packed form of b[k, n], and the packing; b[i][j] is at b[i * b_row + j * b_col]. */
EDGE_KERNEL_API size_t edge_gemm_packed_f32(const edge_kernel *kernel, int64_t n, int64_t k);
EDGE_KERNEL_API void edge_gemm_pack_f32(const edge_kernel *kernel, int64_t n, int64_t k, const float *b, int64_t b_row, int64_t b_col,
                        float *packed);

/* Packs small weights b[k, n], in words of 32 / bits values: as many of them as floats of a matrix [words of k, n]. */
EDGE_KERNEL_API void edge_gemm_pack_grouped(const edge_kernel *kernel, int64_t n, int64_t k, int32_t bits, const int8_t *b,
                            int64_t b_row, int64_t b_col, int32_t *packed);

/* The most depth that an index can name. */
enum { EDGE_SPMM_MOST_DEPTH = 65536 };
/* Blocks of w[n, k] that hold anything but zeros, and the packing: start has a value for each group of rows and one more,
 * index one for each block, value nr for each; w[i][j] is at w[i * w_row + j * w_col]. */
EDGE_KERNEL_API int64_t edge_spmm_blocks(const edge_kernel *kernel, int64_t n, int64_t k, const float *w, int64_t w_row,
                                         int64_t w_col);
EDGE_KERNEL_API void edge_spmm_pack_f32(const edge_kernel *kernel, int64_t n, int64_t k, const float *w, int64_t w_row,
                                        int64_t w_col, int32_t *start, uint16_t *index, float *value);

/* Rows of x that are turned to be a tile of the kernel's when there are so many: all tiles but for the last one have as many,
 * and that one what this says of its own rows, up to 31 more than it has. */
EDGE_KERNEL_API int64_t edge_spmm_tile(const edge_kernel *kernel, int64_t rows);
/* y[j * y_row + i] = x[i * x_row + j] */
EDGE_KERNEL_API void edge_turn_f32(int64_t rows, int64_t columns, const float *x, int64_t x_row, float *y, int64_t y_row);

/* Floats that a depthwise convolution of one channel works in. */
EDGE_KERNEL_API size_t edge_plane_floats(const edge_depthwise_plane_f32 *job);

/* Bytes of the packed form of b[taps][depth][n], and the packing; b[t][i][j] is at b[(t * depth + i) * b_row + j * b_col]. */
EDGE_KERNEL_API size_t edge_gemm_packed_s8(const edge_kernel *kernel, int64_t n, int64_t depth, int64_t taps);
EDGE_KERNEL_API void edge_gemm_pack_s8(const edge_kernel *kernel, int64_t n, int64_t depth, int64_t taps, const int8_t *b, int64_t b_row,
                       int64_t b_col, void *packed);
/* The most fours of depth, of all taps, that kernels of blocks have room for. */
enum { EDGE_BLOCKS_MOST_FOURS = 2048 };
/* Blocks of four columns and four of depth that hold anything but zeros, and their packing at a multiple of four bytes; each of
 * the three steps is in bytes: b[t][i][j] is at b[t * b_tap + i * b_row + j * b_col]. */
EDGE_KERNEL_API int64_t edge_gemm_blocks_s8(int64_t n, int64_t depth, int64_t taps, const int8_t *b, int64_t b_tap, int64_t b_row,
                                            int64_t b_col);
EDGE_KERNEL_API size_t edge_gemm_blocks_bytes_s8(int64_t n, int64_t blocks);
EDGE_KERNEL_API void edge_gemm_pack_blocks_s8(int64_t n, int64_t depth, int64_t taps, const int8_t *b, int64_t b_tap,
                                              int64_t b_row, int64_t b_col, void *packed);
/* The same for weights[channels][height][width] of a depthwise convolution. */
EDGE_KERNEL_API size_t edge_depthwise_packed_s8(const edge_kernel *kernel, int64_t channels, int64_t height, int64_t width);
EDGE_KERNEL_API void edge_depthwise_pack_s8(const edge_kernel *kernel, int64_t channels, int64_t height, int64_t width,
                            const int8_t *weights, void *packed);

#endif
