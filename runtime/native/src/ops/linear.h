/* What the linear operators share: products, sliding windows, columns of windows, and float16 by way of float32. */
#ifndef EW_LINEAR_H
#define EW_LINEAR_H

#include "op.h"

#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace) \
    edge_status infer(ew_call *);                                              \
    edge_status run(ew_call *);                                                \
    size_t workspace(const ew_call *);
#include "linear.inc"
#undef EW_OP

/* Fails unless inputs [0, required) and output 0 are there. */
edge_status ew_require(const ew_call *call, int required);
/* Fails when input i is there and has another dtype than input 0. */
edge_status ew_like_first(const ew_call *call, int i);

/* ---- products ---- */

/* c = a b, or c += a b.  Steps are in elements; c[i][j] is at c[i * c_row + j]. */
typedef struct ew_gemm {
    int64_t m, n, k;
    const void *a;
    int64_t a_row, a_col;
    const void *b;
    int64_t b_row, b_col;
    void *c;
    int64_t c_row;
    bool accumulate;
} ew_gemm;

/* Without a call: in this thread only. */
void ew_gemm_f32(const ew_call *call, const ew_gemm *g);
/* y += scale x; y and x do not overlap. */
void ew_add_scaled_f32(float *y, const float *x, float scale, int64_t count);
/* f32, f64, and 32 and 64 bit integers, which wrap around. */
void ew_gemm_any(const ew_call *call, edge_dtype dtype, const ew_gemm *g);

/* c = (a - a_zero) (b - b_zero) of 8 bit integers, wrapping around in 32 bits.  A zero point is at zero[i * zero_step]
 * for row i of a, for column i of b; NULL: 0.  Rows of b are contiguous. */
typedef struct ew_gemm_8 {
    int64_t m, n, k;
    const uint8_t *a;
    int64_t a_row;
    const uint8_t *a_zero;
    int64_t a_zero_step;
    bool a_signed;
    const uint8_t *b;
    int64_t b_row;
    const uint8_t *b_zero;
    int64_t b_zero_step;
    bool b_signed;
    int32_t *c;
    int64_t c_row;
} ew_gemm_8;

void ew_gemm_s32(const ew_call *call, const ew_gemm_8 *g);

/* numpy's matmul: batches of m x k times k x n. */
typedef struct ew_matmul {
    int64_t m, n, k, batches;
    int batch_rank;
    int64_t batch[EDGE_MAX_RANK], a_step[EDGE_MAX_RANK], b_step[EDGE_MAX_RANK]; /* in matrices */
} ew_matmul;

edge_status ew_matmul_read(const ew_tensor *a, const ew_tensor *b, ew_matmul *mm);
edge_status ew_matmul_shape(const ew_matmul *mm, const ew_tensor *a, const ew_tensor *b, edge_dtype dtype,
                            ew_tensor *y);
/* Which matrix of a and of b the product of this number takes. */
void ew_matmul_pick(const ew_matmul *mm, int64_t number, int64_t *a, int64_t *b);

/* ---- 8 bit integers ---- */

static inline bool ew_is_8_bit(edge_dtype dtype) { return dtype == EDGE_U8 || dtype == EDGE_S8; }
/* Input i, if present, must be one value of this dtype. */
edge_status ew_check_single(const ew_call *call, int i, uint32_t dtypes);

/* y[i] = saturated(round(x[i] a_scale b_scale / y_scale) + zero), ties to even; NaN gives the lowest value.
 * The scale of b for element i is element first + i * step of its tensor. */
typedef struct ew_requantize {
    float a_scale, y_scale;
    const ew_tensor *b_scale;
    int64_t first, step;
    const ew_tensor *zero; /* its dtype is that of y */
} ew_requantize;

void ew_requantize_row(const ew_requantize *r, const int32_t *x, uint8_t *y, int64_t count);

/* ---- sliding windows ---- */

typedef enum ew_auto_pad { EW_PAD_EXPLICIT, EW_PAD_VALID, EW_PAD_SAME_UPPER, EW_PAD_SAME_LOWER } ew_auto_pad;

/* Always three spatial axes; the leading ones have length 1 where the tensor has fewer. */
typedef struct ew_window {
    int spatial;
    ew_auto_pad auto_pad;
    int64_t in[3], out[3], kernel[3], stride[3], dilation[3], pad[3], pad_end[3];
} ew_window;

/* Reads kernel_shape (which must agree with weights, if any), strides, dilations, pads and auto_pad. */
edge_status ew_window_read(const ew_call *call, const ew_tensor *x, const ew_tensor *weights, ew_window *w);
/* Sets out, and pads where they are automatic. */
edge_status ew_window_place(ew_window *w, bool ceil);
/* A list of one value for each spatial axis, for the last axes of values; absent: nothing is changed. */
edge_status ew_window_list(const ew_call *call, const char *name, const ew_window *w, int64_t least, int64_t values[3]);
/* Shape [batch, channels, out ...]. */
edge_status ew_window_shape(const ew_window *w, edge_dtype dtype, int64_t batch, int64_t channels, ew_tensor *y);
/* Positions [*begin, *end) of the axis at which tap k of the kernel lies inside of the input. */
void ew_window_range(const ew_window *w, int axis, int64_t k, int64_t *begin, int64_t *end);
/* Taps [*begin, *end) of the kernel that lie inside of the input at a position of the axis. */
void ew_window_taps(const ew_window *w, int axis, int64_t position, int64_t *begin, int64_t *end);

/* Ranges of the taps of the last axis, which every line needs. */
enum { EW_TAPS_KEPT = 16 };
typedef struct ew_taps {
    const ew_window *w;
    int64_t first, last; /* taps outside of [first, last) are never inside of the input */
    int64_t range[EW_TAPS_KEPT][2];
} ew_taps;

void ew_taps_read(const ew_window *w, ew_taps *taps);
static inline void ew_taps_range(const ew_taps *taps, int64_t k, int64_t *begin, int64_t *end) {
    if (k >= EW_TAPS_KEPT) {
        ew_window_range(taps->w, 2, k, begin, end);
    } else {
        *begin = taps->range[k][0];
        *end = taps->range[k][1];
    }
}

static inline int64_t ew_volume(const int64_t d[3]) { return d[0] * d[1] * d[2]; }

/* Groups of a convolution; weights are [out][in per group][kernel]. */
typedef struct ew_conv {
    ew_window w;
    int64_t batch, groups, in_channels, out_channels; /* channels of one group */
    int64_t taps, depth;                              /* of the kernel; taps times in_channels */
    int64_t in_size, out_size;                        /* positions of one channel */
} ew_conv;

/* bias: number of the input, of dtype bias_dtype and rank 1. */
edge_status ew_conv_read(const ew_call *call, const ew_tensor *x, const ew_tensor *weights, ew_conv *c);
edge_status ew_conv_bias(const ew_call *call, int bias, edge_dtype dtype, int64_t channels);
bool ew_conv_is_pointwise(const ew_conv *c);

/* A convolution turned around: the window goes from the output, its in, to the input, its out. */
typedef struct ew_transposed {
    ew_window w;
    int64_t batch, groups, in_channels, out_channels; /* channels of one group */
    int64_t height;                                   /* of columns: out_channels times taps */
} ew_transposed;

edge_status ew_transposed_read(const ew_call *call, const ew_tensor *x, const ew_tensor *weights, ew_transposed *t);
/* bias: as for ew_conv_bias, -1: it is not looked at. */
edge_status ew_transposed_shape(const ew_call *call, const ew_tensor *x, int bias, ew_tensor *y);

/* ---- columns: rows are (channel, tap), columns are positions [begin, end) ---- */

typedef struct ew_columns {
    const ew_window *w;
    int64_t channels, begin, end;
    const void *image; /* of in */
    void *columns;
    size_t element_bytes; /* 1, 4 or 8 */
    uint8_t padding;      /* value of every byte outside of the image */
} ew_columns;

void ew_columns_of(const ew_call *call, const ew_columns *job);
/* The reverse for f32 and f64: adds columns to the image, which must have values. */
void ew_columns_add(const ew_call *call, const ew_columns *job, edge_dtype dtype);

/* Positions per tile, so that row_bytes each fit in a cache; the bytes grow with both arguments. */
int64_t ew_tile(int64_t row_bytes, int64_t positions);
size_t ew_tile_bytes(int64_t row_bytes, int64_t positions);

/* Sets rows x count elements of 4 or 8 bytes, rows row elements apart, to value[i], 0 when NULL. */
void ew_fill_rows(void *to, int64_t row, int64_t rows, int64_t count, const void *value, size_t element_bytes);

/* ---- float16 ---- */

/* Workspace of an operator that needs own bytes for float32: more when input 0 is float16. */
size_t ew_half_workspace(const ew_call *call, size_t own);
/* Runs with copies of all float16 tensors as float32; own as above for the shapes of now. */
edge_status ew_half_run(ew_call *call, size_t own, edge_status (*run)(ew_call *));

#endif
