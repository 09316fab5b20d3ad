/* Operators that no file names: what prepare/ makes of several nodes of the model.  Their weights are packed, images
 * have their channels last ([N, H, W, C], [N, W, C]), everything is f32.  node->detail says the rest. */
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

/* y = map(clamp(x * weights + bias + add)); inputs: x, weights as they were (for their shape), add or absent. */
typedef struct ew_fused {
    const edge_kernel *kernel;
    const float *weights, *bias; /* in the order of the kernel; bias NULL: zero */
    const float *zeros;          /* a line of the window outside of the image */
    int64_t outputs, depth;      /* columns of the product, and values of one tap */
    float low, high;
    edge_map_f32 *map; /* NULL: none */
} ew_fused;

/* softmax(scale q k + mask) v */
typedef struct ew_attention_detail {
    ew_fused fused; /* of both products */
    float scale;
    bool nan_to_zero; /* rows whose scores are all -inf give zeros */
} ew_attention_detail;

static inline const ew_fused *ew_detail(const ew_call *call) { return call->node->detail; }

/* Rows of a that pass by all panels of b together: few enough to stay in the first cache beside a panel. */
enum { EW_BLOCK_ROWS = 36 };

/* The product of rows [begin, end) of all, threads apart; rows come in blocks, whose pointers fill() sets. */
typedef struct ew_product {
    const ew_fused *fused;
    int64_t taps, rows, depth;
    float *c;
    const float *add;
    const void *context;
    /* Pointers of rows [begin, begin + count): a[row * taps + tap]; scratch: room for count * taps * depth floats. */
    void (*fill)(const struct ew_product *product, int64_t begin, int64_t count, const float **a, float *scratch);
    bool needs_scratch;
} ew_product;

void ew_run_product(const ew_call *call, const ew_product *product);

#endif
