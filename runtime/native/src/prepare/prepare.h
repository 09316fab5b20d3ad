/* Makes a faster graph for the same results: one walk over the nodes in order, each is emitted as it is, or as part of
 * a fused operator (chain.c, fuse.c), or with its image's channels last (layout.c).
 *
 * A value of the model keeps its index, which is its plain form.  Its channels-last form is another value, made when
 * somebody asks for it; so are the transposes between both. */
#ifndef EW_PREPARE_H
#define EW_PREPARE_H

#include "../ops/fused.h"
#include "../session.h"

/* A product of 8 bits. */
typedef struct ew_eight {
    int x; /* value */
    edge_grid grid; /* its grid; of a dynamic product scale and zero point are values */
    int x_scale, x_zero; /* values, -1: the grid is constant */
    int weights;         /* value, s8 */
    const ew_tensor *scale; /* of the weights: one, or one for each output */
    int quantize;           /* the node that makes 8 bits of the result, -1: it stays f32 */
    edge_grid y;
} ew_eight;

/* Small weights of a product of f32. */
typedef struct ew_grouped {
    int weights, scale; /* values */
    int64_t group;      /* successive values of depth that share a scale */
} ew_grouped;

/* What follows a product and is done with it: nodes [.., last]. */
typedef struct ew_chain {
    int head, last; /* nodes */
    int result;     /* value that the last one makes */
    int bias;       /* value of one axis or -1 */
    int add;        /* value of the result's shape or -1 */
    float low, high;
    bool clamped;
    edge_map_f32 *map;
    const ew_eight *eight;     /* NULL: x is f32 */
    const ew_grouped *grouped; /* NULL: so are the weights */
} ew_chain;

/* softmax(scale q k + mask) v, written as several nodes. */
typedef struct ew_attention {
    int softmax, result;  /* node; value */
    int q, k, v, mask;    /* values; mask may be -1 */
    ew_attention_detail detail;
} ew_attention;

typedef struct ew_preparer {
    edge_session *session;
    const ew_graph *from;
    ew_graph to;
    int value_room, node_room;
    int *uses;          /* of each value of the model: nodes that read it, and outputs of the graph */
    int *reader;        /* the last node that reads it */
    int *maker;         /* the node that makes it, -1 */
    bool *plain;        /* of each value of the model: its plain form is there */
    int *channels_last; /* of each value of the model: its other form, -1 */
    bool *planes;       /* of each value of the model: an image that is made with its channels first */
    int *dequantized;   /* of each value of the model: the node that makes it of 8 bits when somebody asks, -1 */
    bool *absorbed;     /* nodes that a chain does */
    ew_chain **chain;   /* of each node: the chain that is emitted in its place, or NULL */
    ew_attention **attention; /* the same for attention */
    const ew_slot **append;   /* of each node: the state to which it appends, or NULL */
    double sparse_cost;       /* edge_session_step_sparse_cost of the product that is being emitted */
} ew_preparer;

static inline const ew_tensor *ew_tensor_of(const ew_preparer *p, int value) { return &p->session->values[value]; }
static inline bool ew_is_constant(const ew_preparer *p, int value) {
    return value >= 0 && ew_tensor_of(p, value)->known == EW_CONSTANT;
}
static inline bool ew_is(const ew_node *node, const char *name) {
    return !*node->domain && strcmp(node->op_type, name) == 0;
}

/* ---- prepare.c ---- */
/* A node of the new graph with the name and attributes of one of the model's. */
edge_status ew_emit(ew_preparer *p, const ew_op *op, const ew_node *like, const int *inputs, int input_count,
                    const int *outputs, int output_count, ew_node **emitted);
edge_status ew_new_value(ew_preparer *p, const ew_value *like, int *index);
/* A constant of the session: zeroed memory, which the caller fills. */
edge_status ew_new_constant(ew_preparer *p, edge_dtype dtype, int rank, const int64_t *dims, int *index, void **data);
/* The plain or the channels-last form of a value of the model, transposed when it is not there yet. */
edge_status ew_plain(ew_preparer *p, int value);
edge_status ew_channels_last(ew_preparer *p, int value, int *index);
/* Gives a node this attribute and no other. */
edge_status ew_set_int(ew_preparer *p, ew_node *node, const char *name, int64_t value);
edge_status ew_set_ints(ew_preparer *p, ew_node *node, const char *name, const int64_t *values, int count);

/* The node of this type that makes a value which nobody else reads; -1: there is none. */
int ew_made_by(const ew_preparer *p, int value, const char *type);
/* The one node that reads a value, -1: none or several. */
int ew_sole_reader(const ew_preparer *p, int value);
/* The one constant f32 of a value. */
bool ew_scalar(const ew_preparer *p, int value, float *result);
/* A product of f32, whose second operand may be packed. */
static inline bool ew_is_product(const ew_node *node) {
    return ew_is(node, "Conv") || ew_is(node, "Gemm") || ew_is(node, "MatMul");
}
static inline bool ew_is_transposed(const ew_node *node) { return ew_is(node, "ConvTranspose"); }
static inline bool ew_is_conv(const ew_node *node) { return ew_is(node, "Conv") || ew_is(node, "ConvInteger"); }
/* Whether channels of the result are its second axis. */
static inline bool ew_is_image(const ew_node *node) { return ew_is_conv(node) || ew_is_transposed(node); }
/* The other input of a node with two. */
static inline int ew_other(const ew_node *node, int value) {
    return node->inputs[0] == value ? node->inputs[1] : node->inputs[0];
}

/* ---- chain.c ---- */
/* The longest chain that begins at a node; low = -inf, high = inf and map = NULL where it does nothing. */
void ew_chain_find(const ew_preparer *p, int head, ew_eight *eight, ew_chain *chain, bool *absorbed);
/* The next node continues a chain, whose result is then its own. */
void ew_chain_extend(const ew_preparer *p, ew_chain *chain, int next, bool *absorbed);

/* ---- pack.c ---- */
/* How the weights of a product become the packed form of b[taps][depth][outputs]. */
typedef struct ew_packing {
    enum {
        EW_PACK_LINEAR = 1,   /* from [depth][outputs] */
        EW_PACK_TURNED = 2,   /* from [outputs][depth] */
        EW_PACK_CONV = 3,     /* from [outputs][channels][window]; a tap is a pixel or a line of the window */
        EW_PACK_DEPTHWISE = 4 /* from [outputs][taps][depth], the window's height and width */
    } kind;
    int64_t outputs, taps, depth;
} ew_packing;

edge_status ew_pack(ew_preparer *p, const edge_kernel *kernel, int value, const ew_packing *packing,
                    const void **packed);

/* ---- fuse.c ---- */
/* Whether a node is the head of a product that the engine has in fused form. */
bool ew_is_head(const ew_preparer *p, const ew_node *node);
edge_status ew_emit_chain(ew_preparer *p, const ew_chain *chain);
/* The head's own bias and the chain's in one, NULL: there is none. */
edge_status ew_join_bias(ew_preparer *p, const ew_chain *chain, int64_t outputs, bool wanted, const float **bias);
/* Whether these weights of a convolution, these attributes, are depthwise (or of one group); false: neither. */
bool ew_is_window(const ew_node *node, const ew_tensor *weights, bool *depthwise);
/* Whether the weights of this product have two axes and no other transformation. */
bool ew_is_plain_product(const ew_preparer *p, const ew_node *node, const ew_tensor *weights);
/* Whether input i, a bias, is absent or f32 constants, as many as there are outputs. */
bool ew_is_fitting_bias(const ew_preparer *p, const ew_node *node, int i, int64_t outputs);
/* Whether the second matrix is given transposed; a MatMul has the attribute from ew_turn_weights. */
static inline bool ew_is_turned(const ew_node *node) { return !ew_is_conv(node) && ew_attr_int(node, "transB", 0); }
/* How its weights are packed for kernels of f32. */
ew_packing ew_packing_of(const ew_node *node, const ew_tensor *weights, bool conv, bool depthwise);
/* Emits a product of two computed matrices; *done is false when the node is something else. */
edge_status ew_emit_matmul(ew_preparer *p, const ew_node *node, bool *done);

/* ---- edge_session_step_sparse_cost, for which a module for browsers has no room ---- */
#ifdef __wasm__
static inline void ew_tell_cost(ew_preparer *p, double cost) { (void)p, (void)cost; }
static inline void ew_keep_cost(ew_preparer *p) { (void)p; }
#else
/* Of the product that is being emitted. */
static inline void ew_tell_cost(ew_preparer *p, double cost) { p->sparse_cost = cost; }
/* It was emitted last. */
static inline void ew_keep_cost(ew_preparer *p) {
    p->to.nodes[p->to.node_count - 1].sparse_cost = p->sparse_cost;
    p->sparse_cost = 0;
}
#endif

/* ---- sparse.c ---- */
/* Weights as their packer reads them: w[i][j] is at w[i * row + j * column]. */
typedef struct ew_blocks {
    const edge_kernel *kernel;
    const float *weights;
    int64_t outputs, depth, row, column;
    int64_t blocks; /* that hold anything */
} ew_blocks;

/* Whether few zeros are among some of the weights: those of large models are not read for this, which may have been packed
 * before. */
bool ew_seems_dense(const ew_tensor *weights);
/* Sets the kernel of a format, and its blocks; false: it has no room for them. */
bool ew_count_blocks(const ew_preparer *p, edge_kernel_format format, ew_blocks *blocks);
/* Sets what comes of the weights, which are those of a value. */
edge_status ew_pack_blocks(ew_preparer *p, const ew_blocks *blocks, int value, ew_sparse *detail);

/* ---- sparse_linear.c ---- */
/* Emits a product of rows with sparse weights; *done is false where the dense one is better, or it is something else. */
edge_status ew_emit_sparse_linear(ew_preparer *p, const ew_chain *chain, bool *done);

/* ---- sparse_s8.c ---- */
/* Sets kernel and weights of a product of 8 bits where blocks of weights are faster for as many rows as this result has; else
 * both stay as they are. */
edge_status ew_pack_sparse_s8(ew_preparer *p, int value, const ew_packing *packing, const ew_tensor *result, ew_fused *f);

/* ---- planes.c ---- */
/* Emits a convolution on an image with its channels first; *done is false where the other order is better. */
edge_status ew_emit_planes(ew_preparer *p, const ew_chain *chain, bool *done);

/* ---- transposed.c ---- */
/* Whether a transposed convolution with these weights is one that the engine has in fused form. */
bool ew_is_fitting_transposed(const ew_node *node, const ew_tensor *weights);
edge_status ew_pack_transposed(ew_preparer *p, const ew_node *node, const ew_tensor *weights, ew_fused *f);

/* ---- quantized.c ---- */
/* The value of 8 bits that a value is made of with one constant scale, -1: there is none. */
int ew_made_of(const ew_preparer *p, int value, edge_grid *grid);
/* Whether a node makes 8 bits of its input with one constant scale. */
bool ew_is_quantize(const ew_preparer *p, int node, edge_grid *grid);
/* Whether all zero points, input i of a node, are this constant; 0 where there are none. */
bool ew_counts_from(const ew_preparer *p, const ew_node *node, int i, double zero);
/* Whether a node is the head of a product of 8 bits. */
bool ew_find_eight(const ew_preparer *p, int node, ew_eight *eight);
/* Of a dynamic product: the nodes that turn its sums into f32. */
void ew_take_scales(const ew_preparer *p, const ew_eight *eight, ew_chain *chain, bool *absorbed);
/* The chain ends with its result in 8 bits, where that follows. */
void ew_take_quantize(const ew_preparer *p, ew_eight *eight, ew_chain *chain, bool *absorbed);
edge_status ew_emit_eight(ew_preparer *p, const ew_chain *chain);

/* ---- grouped.c ---- */
/* Whether a node is a product of f32 with small weights. */
bool ew_find_grouped(const ew_preparer *p, const ew_node *node, ew_grouped *grouped);
/* Its kernel and its weights. */
edge_status ew_pack_grouped(ew_preparer *p, const ew_node *head, const ew_grouped *grouped, ew_fused *f);

/* ---- bytes.c ---- */
/* Emits a node between values of 8 bits without making them f32; *done is false when the node is something else. */
edge_status ew_emit_bytes(ew_preparer *p, const ew_node *node, bool *done);

/* ---- late.c ---- */
/* Products take matrices that the file transposes as they are. */
edge_status ew_turn_weights(ew_preparer *p, ew_graph *graph);
/* Makes f32 of the weights that a node needs so. */
edge_status ew_fold_late(ew_preparer *p, const ew_node *node);

/* ---- attention.c ---- */
/* When a node is the softmax of an attention: marks its nodes as absorbed, the last one emits it. */
edge_status ew_find_attention(ew_preparer *p, int softmax);
edge_status ew_emit_attention(ew_preparer *p, const ew_attention *attention);

/* ---- states.c ---- */
/* Finds the nodes that append to a state which all their readers can read in place; after attention. */
void ew_find_states(ew_preparer *p);
edge_status ew_emit_append(ew_preparer *p, const ew_node *node, const ew_slot *slot);

/* ---- rows.c ---- */
/* Emits a softmax or layer norm along the last axis; *done is false when the node is something else. */
edge_status ew_emit_rows(ew_preparer *p, const ew_node *node, bool *done);

/* ---- layout.c ---- */
/* Whether a node is the mean over all pixels, the axes from the third on. */
bool ew_is_mean_of_pixels(const ew_preparer *p, const ew_node *node);
/* Emits a node on channels-last images where that saves transposes; *done is false when it does not apply. */
edge_status ew_emit_channels_last(ew_preparer *p, const ew_node *node, bool *done);

#endif
