/* What this shim needs of the C interface of TensorFlow Lite, now LiteRT, in our own words; members are only ever added
 * at the end of its structs.  Checked against the header of LiteRT 2 (tflite/core/c/common.h) and run in ai-edge-litert
 * 2.3.0 and tflite-runtime 2.14.0. */
#ifndef EW_LITERT_ABI_H
#define EW_LITERT_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum tfl_status { TFL_OK = 0, TFL_ERROR = 1 } tfl_status;

typedef struct tfl_context tfl_context;
typedef struct tfl_delegate tfl_delegate;

typedef struct tfl_ints {
    int count;
    int at[];
} tfl_ints;

/* Element types. */
enum {
    TFL_F32 = 1,
    TFL_S32 = 2,
    TFL_U8 = 3,
    TFL_S64 = 4,
    TFL_BOOL = 6,
    TFL_S16 = 7,
    TFL_S8 = 9,
    TFL_F16 = 10,
    TFL_F64 = 11,
    TFL_U64 = 13,
    TFL_U32 = 16,
    TFL_U16 = 17,
    TFL_TYPES = 18 /* as far as this shim knows them */
};

/* Where the data of a tensor lies. */
enum {
    TFL_IN_FILE = 1, /* a constant, for as long as the interpreter lives */
    TFL_DYNAMIC = 4, /* its own block, of a size that is known when the operator runs */
};

typedef struct tfl_tensor {
    int type;
    void *data;
    tfl_ints *shape;
    struct {
        float scale;
        int32_t zero_point;
    } grid;
    int lies;
    size_t bytes;
    const void *file;
    const char *name;
    tfl_delegate *delegate;
    int handle;
    bool is_stale, is_variable;
    struct {
        int kind;
        void *grids;
    } quantization;
    void *sparsity;
    const tfl_ints *signature;
} tfl_tensor;

/* One operator of the graph; numbers of tensors, -1 for one that is left out. */
typedef struct tfl_node {
    tfl_ints *inputs, *outputs, *intermediates, *temporaries;
    void *kernel; /* what `init` returned */
    void *options;
    const void *custom_options;
    int custom_bytes;
    tfl_delegate *delegate; /* of a node that a delegate put into the graph */
    bool has_effects;
} tfl_node;

/* What runs a node.  It is passed by value; on processors of 64 bits it lies behind all other arguments or is passed by
 * its address, so that hosts with fewer or more members read what they know. */
typedef struct tfl_registration {
    void *(*init)(tfl_context *context, const char *options, size_t bytes);
    void (*free)(tfl_context *context, void *kernel);
    tfl_status (*prepare)(tfl_context *context, tfl_node *node);
    tfl_status (*invoke)(tfl_context *context, tfl_node *node);
    const char *(*profile_name)(const tfl_context *context, const tfl_node *node);
    int32_t builtin;
    const char *custom_name; /* NULL for operators of the runtime */
    int version;
    void *external;
    void *(*asynchronous)(tfl_context *context, tfl_node *node);
    uint64_t in_place;
    void *later[8]; /* of later versions */
} tfl_registration;

/* The options that `init` gets of a node that a delegate takes over. */
typedef struct tfl_part {
    tfl_delegate *delegate;
    tfl_ints *nodes;
    tfl_ints *inputs, *outputs; /* what the rest of the graph gives and reads */
} tfl_part;

/* The interpreter, as an operator sees it; `plan`, `node` and `replace` may be called by `prepare` of a delegate alone. */
struct tfl_context {
    size_t tensor_count;
    tfl_status (*plan)(tfl_context *context, tfl_ints **nodes); /* in the order in which they run; until the next call */
    tfl_tensor *tensors;
    void *interpreter;
    tfl_status (*resize)(tfl_context *context, tfl_tensor *tensor, tfl_ints *shape); /* frees the shape */
    void (*report)(tfl_context *context, const char *format, ...);
    tfl_status (*add_tensors)(tfl_context *context, int count, int *first);
    tfl_status (*node)(tfl_context *context, int number, tfl_node **node, tfl_registration **registration);
    tfl_status (*replace)(tfl_context *context, tfl_registration by, const tfl_ints *nodes, tfl_delegate *delegate);
    int threads; /* -1: as it likes */
    /* More follows that is not used here. */
};

enum { TFL_ALLOWS_DYNAMIC = 1 };

struct tfl_delegate {
    void *data;
    tfl_status (*prepare)(tfl_context *context, tfl_delegate *delegate);
    void *from_handle, *to_handle, *free_handle; /* functions for memory of another device; none here */
    int64_t flags;
    void *builder;
};

#endif
