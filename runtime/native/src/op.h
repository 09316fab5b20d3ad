/* An operator: one line in ops.inc, and two functions.
 *
 * infer(call) sets dtype, rank and dims of every output that is wanted (call->out[i] != NULL) from the dtypes and dims
 * of the inputs.  It runs when a session is made, with the largest shapes, and before every run whose shapes may
 * differ. Where the shape depends on the value of an input, it asks ew_known(): not known is an error, unless a bound
 * can be given (flag EW_BOUND).  It allocates nothing and does not touch data of outputs.
 *
 * run(call) fills the outputs; dims and memory are there.  With flag EW_BOUND it may shrink the dims of outputs.
 * It allocates nothing: memory beyond outputs is call->workspace, of as many bytes as workspace(call) said for the
 * largest shapes.  workspace(call), like infer, may read only values that ew_known() confirms.
 *
 * Inputs may alias each other.  An output never overlaps an input, unless the operator has a flag that allows it.
 */
#ifndef EW_OP_H
#define EW_OP_H

#include "graph.h"

typedef enum ew_knowledge {
    EW_UNKNOWN = 0,
    EW_AT_MAX = 1,  /* data holds the value for the largest shapes */
    EW_CONSTANT = 2 /* data holds the value for all runs */
} ew_knowledge;

typedef struct ew_tensor {
    edge_dtype dtype;
    int32_t rank;
    int64_t dims[EDGE_MAX_RANK];
    void *data;
    size_t capacity; /* bytes at data */
    ew_knowledge known;
    bool dynamic; /* dims may be smaller in a run than when the session was made */
} ew_tensor;

typedef struct ew_call {
    const ew_node *node;
    ew_tensor **in, **out; /* NULL: absent or not wanted; entries beyond the node's own counts must not be read */
    int in_count, out_count;
    void *workspace;
    bool planning; /* the session is being made: only known values can be read */
    struct edge_session *session;
} ew_call;

enum {
    EW_ALIAS = 1,   /* output 0 is input 0 with another shape: no run, same memory */
    EW_INPLACE = 2, /* output 0 may be the memory of any input of equal size; element i is read before i is written */
    EW_BOUND = 4,   /* infer gives an upper bound of the dims, run the dims */
    EW_SHAPE_ONLY = 8, /* run reads dims of its inputs, never data */
    EW_RANDOM = 16,    /* never folded */
    EW_POINTWISE = 32, /* element i of the output depends on elements i of the inputs, which broadcast */
    EW_INTERNAL = 64,  /* no file can name it */
    EW_PACKED = 128    /* input 1, weights, is there for its shape; what run reads is packed */
};

/* Some hundred rows without a pointer, which would be relocated when the library is loaded. */
struct ew_op {
    uint16_t name;       /* where it is among those of all */
    uint8_t domain;      /* how long its name is, which tells domains apart: 0 is ONNX's own */
    uint8_t first, last; /* versions of the domain */
    uint8_t flags;
    uint32_t dtypes; /* of input 0; of output 0 for operators without inputs */
};

/* The newest version of ONNX's operators that the rows were checked against. */
#define EW_LATEST 28

/* The row that runs a node of this version, NULL: none. */
const ew_op *ew_find_op(const char *domain, const char *name, int version);

/* Those of the call's operator. */
edge_status ew_op_infer(ew_call *call);
edge_status ew_op_run(ew_call *call);
size_t ew_op_workspace(const ew_call *call);

/* ---- for operators ---- */
static inline ew_tensor *ew_in(const ew_call *call, int i) { return i < call->in_count ? call->in[i] : NULL; }
static inline ew_tensor *ew_out(const ew_call *call, int i) { return i < call->out_count ? call->out[i] : NULL; }
/* Whether the value of a tensor can be read now: in a run always, in planning when it is known. */
static inline bool ew_known(const ew_call *call, const ew_tensor *t) {
    return !call->planning || t->known != EW_UNKNOWN;
}

int64_t ew_count(const ew_tensor *t);                    /* elements */
int64_t ew_span(const ew_tensor *t, int begin, int end); /* product of dims [begin, end) */
size_t ew_bytes(const ew_tensor *t);
/* Sets dtype and dims; fails beyond EDGE_MAX_RANK, below zero, and when the bytes overflow. */
edge_status ew_shape(ew_tensor *t, edge_dtype dtype, int rank, const int64_t *dims);
edge_status ew_same(ew_tensor *out, const ew_tensor *like); /* same dtype and dims */
/* numpy's broadcasting of two or more shapes into dims of out (its dtype is not touched). */
edge_status ew_broadcast(ew_tensor *out, ew_tensor *const *in, int count);
/* axis in [-rank, rank) to [0, rank). */
edge_status ew_axis(int64_t axis, int rank, int *result);
/* Integer values (s32 or s64, also from scalars) of input i; fails when not known, of another dtype, or more than max.
 */
edge_status ew_ints(const ew_call *call, int i, int64_t *values, int max, int *count);
/* One integer or floating value of a tensor of any numeric dtype, by its flat index. */
int64_t ew_get_int(const ew_tensor *t, int64_t index);
double ew_get(const ew_tensor *t, int64_t index);
/* Axes from input i if the node has it, else from attribute "axes"; sorted is not needed, repeated axes fail.
 * *count is -1 when neither is there. */
edge_status ew_axes(const ew_call *call, int i, int rank, int axes[EDGE_MAX_RANK], int *count);

/* Splits [0, count) among threads; fn runs on parts of at least grain, and must not fail. */
void ew_parallel(const ew_call *call, int64_t count, int64_t grain,
                 void (*fn)(void *context, int64_t begin, int64_t end), void *context);

#endif
