/* Operators that no file names: what prepare/ makes of several nodes of the model.  Their weights are packed, images
 * have their channels last ([N, H, W, C], [N, W, C]), everything is f32 or, on both sides of a product, 8 bits.
 * node->detail says the rest; each begins with the kernel that does the work. */
#ifndef EW_FUSED_H
#define EW_FUSED_H

#include "edge_kernels.h"
#include "linear.h"

#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace) \
    edge_status infer(ew_call *);                                              \
    edge_status run(ew_call *);                                                \
    size_t workspace(const ew_call *);
#include "fused.inc"
#undef EW_OP

#define EW_FUSED_DOMAIN "edgewright.fused"

/* What a product of 8 bits has beyond one of f32. */
typedef struct ew_quantized {
    edge_rescale out; /* of a dynamic product: scale without that of x, a_zero unset */
    edge_dtype dtype; /* of the result */
    bool dynamic;     /* scale and zero point of x are inputs 3 and 4 */
    int64_t line;     /* bytes of a line of the window */
    bool by_lines;    /* how the weights of a convolution are packed: a tap is a line of the window */
} ew_quantized;

/* y = map(clamp(x * weights + bias + add)); inputs: x, weights as they were (for their shape), add or absent. */
typedef struct ew_fused {
    const edge_kernel *kernel;
    const void *weights; /* in the order of the kernel */
    const float *bias;   /* NULL: zero, or part of the rescaling */
    const void *zeros;   /* a line of the window outside of the image */
    int64_t outputs, depth; /* columns of the product, and values of one tap */
    float low, high;
    edge_map_f32 *map;             /* NULL: none */
    const float *scale;            /* of each group and column of small weights; NULL: there are none */
    int64_t group;
    int bits;
    const ew_quantized *quantized; /* NULL: x is f32 */
} ew_fused;

/* The same by sparse weights: of an image with its channels first, or of rows. */
typedef struct ew_sparse {
    const edge_kernel *kernel;
    const edge_kernel *few; /* for few rows as they lie; of an image NULL */
    const int32_t *start; /* these three as in edge_spmm_f32 */
    const uint16_t *index;
    const float *value;
    const float *bias; /* NULL: zero */
    int64_t outputs, depth;
    float low, high;
    edge_map_f32 *map; /* NULL: none */
} ew_sparse;

/* Blocks of weights of the first outputs. */
int64_t ew_sparse_blocks(const ew_sparse *s, int64_t outputs);
/* Blocks, and one for each four outputs; the first output, a multiple of four or behind the last one, before which there is
 * no less of it than this. */
int64_t ew_sparse_work(const ew_sparse *s);
int64_t ew_sparse_output(const ew_sparse *s, int64_t work);

/* Whether there is room for the windows of a depthwise convolution of channels one by one; of a call that is planned. */
bool ew_plane_fits(const ew_call *call);

/* softmax(scale q k + mask) v: q [.., m, d], k [.., d, t], v [.., t, e], result [.., m, e]; leading axes broadcast.
 * Whatever order of axes they have in memory: axis i of a matrix is axis order[i] of its tensor. */
typedef struct ew_attention_detail {
    const edge_kernel *gemm;
    int rank;
    int q[EDGE_MAX_RANK], k[EDGE_MAX_RANK], v[EDGE_MAX_RANK], y[EDGE_MAX_RANK]; /* their orders */
    const ew_state_spec *k_state, *v_state; /* keys and values lie in a state, each position at its place; or NULL */
    float scale;
    bool nan_to_zero; /* rows whose scores are all -inf give zeros */
} ew_attention_detail;

/* Scores of a block of rows stay on the stack. */
enum { EW_MOST_SCORES = 16384 };

static inline const ew_fused *ew_detail(const ew_call *call) { return call->node->detail; }

/* Rows of a that pass by all panels of b together: few enough to stay in the first cache beside a panel. */
enum { EW_BLOCK_ROWS = 36 };

/* The product of rows [begin, end) of all, threads apart; rows come in blocks, whose pointers fill() sets. */
typedef struct ew_product {
    const ew_fused *fused;
    edge_rescale rescale; /* of a product of 8 bits */
    int64_t taps, rows, depth;
    int64_t line, line_step, c_row; /* rows of a line, steps in c between lines and rows; line 0: rows are in order */
    void *c;
    const float *add;
    const void *context;
    /* Pointers of rows [begin, begin + count): a[row * taps + tap]; scratch: room for count * taps * depth values. */
    void (*fill)(const struct ew_product *product, int64_t begin, int64_t count, const void **a, uint8_t *scratch);
    bool needs_scratch;
} ew_product;

/* Bytes of a value of x, and of a value of the result. */
static inline int64_t ew_x_bytes(const ew_fused *f) { return f->quantized ? 1 : 4; }
static inline edge_dtype ew_y_dtype(const ew_fused *f) { return f->quantized ? f->quantized->dtype : EDGE_F32; }
static inline int64_t ew_y_bytes(const ew_fused *f) { return ew_y_dtype(f) == EDGE_F32 ? 4 : 1; }

/* Whether the pixels of a line of the window, neighbours in memory, are better taken as one tap. */
static inline bool ew_by_lines(int64_t height, int64_t width, int64_t dilation, int64_t depth) {
    enum { SHORT_LINE = 64, MOST_SCRATCH = 1024 };
    return height * width > 1 && dilation == 1 && (width * depth <= SHORT_LINE || height == 1) &&
           height * width * depth <= MOST_SCRATCH;
}

/* A sum of two values of 8 bits. */
typedef struct ew_add_detail {
    const edge_kernel *kernel;
    edge_add_s8_job job;
    edge_dtype dtype;
} ew_add_detail;

/* The mean over pixels of 8 bits. */
typedef struct ew_mean_detail {
    const edge_kernel *kernel; /* none */
    edge_grid x, y;
    edge_dtype dtype;
    bool keep; /* the axes of pixels stay, of length 1 */
} ew_mean_detail;

/* The state that new positions go to. */
typedef struct ew_append_detail {
    const edge_kernel *kernel; /* none */
    const ew_state_spec *spec;
} ew_append_detail;

/* The shape of a product of rows of this depth. */
edge_status ew_linear_shape(ew_call *call, int64_t depth, int64_t outputs, edge_dtype dtype);

/* Fills the rows of a matrix; context is its memory. */
void ew_rows_in_order(const ew_product *product, int64_t begin, int64_t count, const void **a, uint8_t *scratch);

/* What a dynamic product finds out in a run: its scale is that of the weights times that of x, and the line outside of
 * the image holds the zero point of x.  Both are kept in the workspace. */
edge_rescale ew_rescale_of(const ew_call *call, const void **zeros);

/* The input as the operators for channels-first images see it, and back. */
ew_tensor ew_channels_first_view(const ew_tensor *x);
edge_status ew_channels_last_shape(ew_tensor *y);

/* Taps m, m + stride, .. of an axis of a window. */
static inline int64_t ew_taps_of(int64_t kernel, int64_t stride, int64_t m) {
    return (kernel - m + stride - 1) / stride;
}

void ew_run_product(const ew_call *call, const ew_product *product);

#endif
