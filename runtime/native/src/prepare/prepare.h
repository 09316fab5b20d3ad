/* Makes a faster graph for the same results: one walk over the nodes in order, each is emitted as it is, or as part of
 * a fused operator (chain.c, fuse.c), or with its image's channels last (layout.c).
 *
 * A value of the model keeps its index, which is its plain form.  Its channels-last form is another value, made when
 * somebody asks for it; so are the transposes between both. */
#ifndef EW_PREPARE_H
#define EW_PREPARE_H

#include "../ops/fused.h"
#include "../session.h"

/* What follows a product and is done with it: nodes [.., last]. */
typedef struct ew_chain {
    int head, last; /* nodes */
    int result;     /* value that the last one makes */
    int bias;       /* value of one axis or -1 */
    int add;        /* value of the result's shape or -1 */
    float low, high;
    bool clamped;
    edge_map_f32 *map;
} ew_chain;

/* softmax(scale q k + mask) v, written as several nodes. */
typedef struct ew_attention {
    int softmax, result;  /* node; value */
    int q, k, v, mask;    /* values; mask may be -1 */
    float scale;
    bool nan_to_zero;
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
    bool *absorbed;     /* nodes that a chain does */
    ew_chain **chain;   /* of each node: the chain that is emitted in its place, or NULL */
    ew_attention **attention; /* the same for attention */
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
/* The other input of a node with two. */
static inline int ew_other(const ew_node *node, int value) {
    return node->inputs[0] == value ? node->inputs[1] : node->inputs[0];
}

/* ---- chain.c ---- */
/* The longest chain that begins at a node; low = -inf, high = inf and map = NULL where it does nothing. */
void ew_chain_find(const ew_preparer *p, int head, ew_chain *chain, bool *absorbed);

/* ---- fuse.c ---- */
/* Whether a node is the head of a product that the engine has in fused form. */
bool ew_is_head(const ew_preparer *p, const ew_node *node);
edge_status ew_emit_chain(ew_preparer *p, const ew_chain *chain);
/* Emits a product of two computed matrices; *done is false when the node is something else. */
edge_status ew_emit_matmul(ew_preparer *p, const ew_node *node, bool *done);

/* ---- attention.c ---- */
/* When a node is the softmax of an attention: marks its nodes as absorbed, the last one emits it. */
edge_status ew_find_attention(ew_preparer *p, int softmax);
edge_status ew_emit_attention(ew_preparer *p, const ew_attention *attention);

/* ---- rows.c ---- */
/* Emits a softmax or layer norm along the last axis; *done is false when the node is something else. */
edge_status ew_emit_rows(ew_preparer *p, const ew_node *node, bool *done);

/* ---- layout.c ---- */
/* Emits a node on channels-last images where that saves transposes; *done is false when it does not apply. */
edge_status ew_emit_channels_last(ew_preparer *p, const ew_node *node, bool *done);

#endif
