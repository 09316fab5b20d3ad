/* Edgewright runtime, C interface, ABI 1.
 *
 * Opens a model, makes sessions of it and runs them.  C99 and later, C++ through extern "C".
 *
 * Rules that hold for every function
 *   - A function that can fail returns an edge_status; EDGE_OK is 0.  After any other status
 *     edge_last_error() on the same thread gives one sentence that says what was given and what was
 *     expected.  Out parameters are untouched on failure, unless said otherwise.
 *   - Every struct that the caller fills begins with struct_size = sizeof(the struct).  Members that a
 *     newer header adds at the end are taken as zero when struct_size says that they are not there.
 *   - Handles are opaque.  edge_*_free(NULL) is allowed and does nothing.
 *   - A model may be shared by any number of sessions and threads and must outlive its sessions and states.
 *     A session belongs to one thread at a time, and so does a state.
 *   - edge_session_run allocates no memory.
 *
 * Minimal use
 *   edge_model *model; edge_session *session;
 *   edge_model_open_path("mobilenet.edge", NULL, &model); // or a .edgez, or an ONNX file
 *   edge_session_create(model, NULL, &session);
 *   edge_tensor image = {EDGE_F32, 4, {1, 3, 224, 224}, pixels, 1 * 3 * 224 * 224 * 4}, logits;
 *   edge_session_run(session, &image, 1, &logits, 1);     // logits.data belongs to the session
 */
#ifndef EDGEWRIGHT_H
#define EDGEWRIGHT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define EDGE_API __declspec(dllexport)
#else
#define EDGE_API __attribute__((visibility("default")))
#endif

#define EDGE_ABI_VERSION 1
#define EDGE_MAX_RANK 8

typedef enum edge_status {
    EDGE_OK = 0,
    EDGE_INVALID_ARGUMENT = 1, /* a null pointer, an index out of range, a struct_size that is too small */
    EDGE_INVALID_MODEL = 2,    /* the file is cut off, corrupt or contradicts itself */
    EDGE_UNSUPPORTED = 3,      /* a valid model that needs an operator, dtype or version that is not here */
    EDGE_SHAPE_MISMATCH = 4,   /* a tensor of another dtype, rank or shape, or beyond its bounds */
    EDGE_NO_MEMORY = 5,        /* the allocator gave nothing, or the memory budget is too small */
    EDGE_IO = 6,               /* a file cannot be read */
    EDGE_HASH_MISMATCH = 7,    /* a file differs from what the manifest says */
    EDGE_CANCELLED = 8         /* edge_session_cancel was called during the run */
} edge_status;

/* Element types.  The numbers are those of ONNX TensorProto.DataType. */
typedef enum edge_dtype {
    EDGE_F32 = 1,
    EDGE_U8 = 2,
    EDGE_S8 = 3,
    EDGE_U16 = 4,
    EDGE_S16 = 5,
    EDGE_S32 = 6,
    EDGE_S64 = 7,
    EDGE_BOOL = 9, /* one byte, 0 or 1 */
    EDGE_F16 = 10, /* IEEE binary16 */
    EDGE_F64 = 11,
    EDGE_U32 = 12,
    EDGE_U64 = 13
} edge_dtype;

typedef struct edge_model edge_model;
typedef struct edge_session edge_session;
typedef struct edge_state edge_state;

/* A dense tensor, row-major, in the caller's or the session's memory. */
typedef struct edge_tensor {
    edge_dtype dtype;
    int32_t rank;
    int64_t shape[EDGE_MAX_RANK];
    void *data;
    size_t bytes; /* of data */
} edge_tensor;

/* What an input or output may be. */
typedef struct edge_tensor_info {
    const char *name; /* belongs to the model */
    edge_dtype dtype;
    int32_t rank;
    int64_t min_shape[EDGE_MAX_RANK];
    int64_t max_shape[EDGE_MAX_RANK]; /* equal to min_shape where a dimension is fixed */
} edge_tensor_info;

/* Memory from the caller.  alignment is a power of two, at most 64.  allocate returns NULL when there is none. */
typedef struct edge_allocator {
    uint32_t struct_size;
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *pointer, size_t bytes);
    void *user;
} edge_allocator;

/* A value of an input that is fixed when the session is made; the input is then not passed to run. */
typedef struct edge_fixed_input {
    const char *name;
    edge_tensor value; /* copied */
} edge_fixed_input;

/* The inclusive bounds of a dimension that the model leaves open, by its name or as "<input>:<axis>". */
typedef struct edge_bound {
    const char *dimension;
    int64_t min, max;
} edge_bound;

/* Where bytes come from: a file, memory, a download.  All functions may be called from any thread that uses the model
 * or a session of it. */
typedef struct edge_source {
    uint32_t struct_size;
    void *user;
    uint64_t bytes; /* size of the whole */
    /* Copies bytes to `into`; EDGE_IO on failure. */
    edge_status (*read_at)(void *user, uint64_t offset, void *into, size_t bytes);
    /* The same bytes in place, unchanged until release; NULL (the function or its result): read_at is used instead. */
    const void *(*map)(void *user, uint64_t offset, size_t bytes);
    void (*release)(void *user, const void *mapped, size_t bytes); /* NULL: nothing to do */
    void (*prefetch)(void *user, uint64_t offset, size_t bytes);   /* a hint; NULL: ignored */
} edge_source;

typedef struct edge_model_options {
    uint32_t struct_size;
    const edge_allocator *allocator; /* NULL: malloc and free; used for sessions too, must outlive the model */
    uint32_t skip_hashes;            /* not 0: the files of a bundle are not compared with their hashes */
} edge_model_options;

/* The caller's own threads instead of the session's: runs task(context, i) for every i below count, in any order and
 * at once where it likes, and returns when all are done. */
typedef struct edge_parallel_for {
    uint32_t struct_size;
    void *user;
    void (*run)(void *user, size_t count, void (*task)(void *context, size_t index), void *context);
} edge_parallel_for;

typedef struct edge_session_options {
    uint32_t struct_size;
    uint32_t threads; /* at most 64, the calling one included; 0: one */
    const edge_parallel_for *parallel_for; /* NULL: the session starts threads - 1 threads of its own */
    const edge_fixed_input *fixed_inputs;
    size_t fixed_input_count;
    const edge_bound *bounds;
    size_t bound_count;
    size_t memory_budget_bytes; /* 0: no limit; of this session, and of what its model made for all of them, together */
    uint32_t profile;           /* not 0: the time of every step is taken */
    const char *entry;          /* which of the bundle's; NULL: "main" */
} edge_session_options;

/* What edge_model_pack writes.  The file is written front to back; write is called for some bytes at a time, and any
 * other status than EDGE_OK ends it. */
typedef struct edge_pack_options {
    uint32_t struct_size;
    const char *isa; /* whose kernels will read it, as EDGEWRIGHT_FORCE_ISA names it; this build need not have them;
                        NULL: the one in use */
    const edge_session_options *session; /* bounds, fixed inputs, an entry, as for edge_session_create; NULL: none.
                                            Without an entry the weights of all of them are packed */
    edge_status (*write)(void *user, const void *data, size_t bytes);
    void *user;
} edge_pack_options;

/* One step of a run: a node of the model, or several in one. */
typedef struct edge_step_info {
    const char *node, *op; /* name and type of the (first) node of the model, valid as long as the session */
    const char *kernel;    /* the kernel it was given, its instruction set at the end; NULL: portable code */
    uint64_t runs, nanoseconds; /* since the session was made; 0 without profile */
} edge_step_info;

/* What one pixel is, in the order of its bytes.  Alpha 0 is transparent; a pixel is laid over black.  Of CMYK, 0 is no
 * ink; where a decoder gives the inverted values of Adobe's JPEG files, invert them.  Of 16 bits take the upper 8. */
typedef enum edge_pixel { EDGE_GRAY = 1, EDGE_GRAY_ALPHA = 2, EDGE_RGB = 3, EDGE_RGBA = 4, EDGE_CMYK = 5 } edge_pixel;

/* A decoded photo, 8 bits a channel, as it lies in the file: orientation is applied by edge_image_load. */
typedef struct edge_photo {
    uint32_t struct_size;
    edge_pixel pixel;
    int32_t width, height; /* 1 .. 16777216 */
    const uint8_t *data;   /* the first row */
    size_t row_bytes;      /* from one row to the next */
    size_t bytes;          /* that may be read from data on; the last row need not be filled up to row_bytes */
    uint32_t orientation;  /* EXIF tag 0x0112: 1 .. 8; any other value counts as 1, upright */
} edge_photo;

/* Resampling of photos: Pillow's, antialiased, on 8-bit values. */
typedef enum edge_resize { EDGE_NEAREST = 1, EDGE_BILINEAR = 2, EDGE_BICUBIC = 3, EDGE_LANCZOS = 4 } edge_resize;

typedef enum edge_layout { EDGE_NCHW = 1, EDGE_NHWC = 2 } edge_layout;

/* From a photo to an input: `preprocess` of the manifest, sdk.Image in Python.  The photo is turned upright, made RGB,
 * scaled so that its shorter side is round(size / crop), cropped in the centre to size x size, and each channel becomes
 * (value * scale - mean) / std in float32. */
typedef struct edge_image {
    uint32_t struct_size;
    int32_t size; /* pixels, 1 .. 16384 */
    edge_resize resize;
    edge_layout layout;
    double crop;            /* share of the shorter side that is kept, above 0, at most 1 */
    double scale;           /* above 0 */
    double mean[3], std[3]; /* std above 0 */
} edge_image;

/* From scores to classes: `postprocess` of the manifest, sdk.Classify in Python. */
typedef struct edge_ranking {
    uint32_t struct_size;
    uint32_t softmax;   /* not 0: scores become probabilities */
    uint32_t top_k;     /* how many classes, from 1 on */
    const char *output; /* the output with the scores, as in edge_tensor_info; belongs to the model */
} edge_ranking;

typedef struct edge_class {
    size_t index;
    double score;
    const char *label; /* belongs to the model; NULL: the bundle has no labels */
} edge_class;

/* The version of the interface that the library was built with; compare with EDGE_ABI_VERSION. */
EDGE_API uint32_t edge_abi_version(void);

/* One sentence about the last failure on this thread; "" when there was none.  Valid until the next failure. */
EDGE_API const char *edge_last_error(void);

/* One operator that the engine runs: rows 0 .. until NULL is returned, "domain:name:first-last:dtype,dtype,...".
 * The dtypes are those of the first input; an empty domain is ONNX's own. */
EDGE_API const char *edge_operator(size_t row);

/* Opens a model: a bundle (a folder `.edge` by its path, an archive `.edgez` by its path, in memory or from a source)
 * or a bare ONNX file.  What it is, its first bytes tell.
 *
 * Of a bundle, manifest.json is compared with manifest.sha256, every listed file with its size and, unless skip_hashes
 * is set, the hashes of its chunks; the bounds of open dimensions come from the manifest.  Files that are not listed are not read.
 * Operators that are missing are one EDGE_UNSUPPORTED, all of them, each with the name of its node.
 *
 * open_memory: the bytes must stay as they are until edge_model_free.  open_source: user must stay valid until then.
 */
EDGE_API edge_status edge_model_open_path(const char *path, const edge_model_options *options, edge_model **model);
EDGE_API edge_status edge_model_open_memory(const void *data, size_t bytes, const edge_model_options *options,
                                            edge_model **model);
EDGE_API edge_status edge_model_open_source(const edge_source *source, const edge_model_options *options,
                                            edge_model **model);

EDGE_API void edge_model_free(edge_model *model);

/* The entries of a bundle, what sessions can run; NULL beyond the last.  A bare ONNX file has "main". */
EDGE_API const char *edge_model_entry(const edge_model *model, size_t index);

/* Bytes that the model has taken: its graph, files that could not be mapped, and what its sessions share: weights packed
 * for kernels, where no packed file of the bundle holds them. */
EDGE_API size_t edge_model_memory_bytes(const edge_model *model);

/* Writes the weights as the kernels of an instruction set read them: `packed/<isa>-v1.bin` of a bundle
 * (runtime/BUNDLE.md), which sessions then use in place. */
EDGE_API edge_status edge_model_pack(edge_model *model, const edge_pack_options *options);

/* Plans memory for the largest shapes, folds constants and packs weights, those of the model's file once for all of its
 * sessions, which may be created on several threads at once.  All memory that runs need is taken here. */
EDGE_API edge_status edge_session_create(edge_model *model, const edge_session_options *options,
                                         edge_session **session);

EDGE_API void edge_session_free(edge_session *session);

/* Inputs in the order of the graph, without those that have a constant value or were fixed. */
EDGE_API size_t edge_session_input_count(const edge_session *session);
EDGE_API size_t edge_session_output_count(const edge_session *session);
EDGE_API edge_status edge_session_input(const edge_session *session, size_t index, edge_tensor_info *info);
EDGE_API edge_status edge_session_output(const edge_session *session, size_t index, edge_tensor_info *info);

/* The steps of a run, in their order; constants that were folded are none. */
EDGE_API size_t edge_session_step_count(const edge_session *session);
EDGE_API edge_status edge_session_step(const edge_session *session, size_t index, edge_step_info *info);

/* Of a step with constant weights: what a sparse kernel costs by the engine's estimate, over what the dense one does, each
 * with what has to be turned for it, and at the number of rows at which that gains least.  It is taken where this is surely
 * below 1.  0: nothing was estimated, as where there are few zeros or there is no such kernel. */
EDGE_API double edge_session_step_sparse_cost(const edge_session *session, size_t index);

/* Bytes of the session alone: activations, constants made at creation. */
EDGE_API size_t edge_session_memory_bytes(const edge_session *session);

/* Runs once.  inputs are read in place.  On success each outputs[i] describes memory of the session that stays
 * valid until the next run or edge_session_free. */
EDGE_API edge_status edge_session_run(edge_session *session, const edge_tensor *inputs, size_t input_count,
                                      edge_tensor *outputs, size_t output_count);

/* From any thread: a run that is under way stops before its next operator and returns EDGE_CANCELLED. */
EDGE_API void edge_session_cancel(edge_session *session);

/* The memory of one sequence: what the bundle's `states` hand from run to run, keys and values of a decoder for
 * example.  Sessions of all entries may work on one state, a session on many, one after the other.  A state begins
 * empty.  EDGE_INVALID_ARGUMENT when the bundle declares no states.
 *
 *   edge_state_create(model, &state);
 *   edge_session_set_state(decode, state);
 *   while (token != end) edge_session_run(decode, ...);   // each run adds its positions
 *   edge_state_truncate(state, 4);                        // back to the fourth position
 */
EDGE_API edge_status edge_state_create(edge_model *model, edge_state **state);
EDGE_API void edge_state_free(edge_state *state);
/* A second sequence that goes on from here. */
EDGE_API edge_status edge_state_fork(const edge_state *state, edge_state **copy);
/* As it was when it was made. */
EDGE_API edge_status edge_state_reset(edge_state *state);
/* Positions so far. */
EDGE_API int64_t edge_state_length(const edge_state *state);
/* Forgets what lies behind the first `length` positions.  EDGE_UNSUPPORTED when runs replace a state that they read. */
EDGE_API edge_status edge_state_truncate(edge_state *state, int64_t length);
EDGE_API size_t edge_state_bytes(const edge_state *state);

/* The state that runs of this session read and change, from now on; NULL: none.  Its tensors are no inputs and outputs
 * of the session.  A run without a state fails when its entry has one.  A run that fails leaves the state as it was. */
EDGE_API edge_status edge_session_set_state(edge_session *session, edge_state *state);

/* How the bundle wants the photo for an input, by its name as in edge_tensor_info; NULL: the one input that takes a
 * photo.  The caller sets image->struct_size.  EDGE_INVALID_ARGUMENT when the bundle says nothing of it.
 *
 *   edge_image image = {sizeof image};
 *   edge_model_image(model, NULL, &image);
 *   edge_photo photo = {sizeof photo, EDGE_RGB, width, height, pixels, 3 * width, 3 * width * height, orientation};
 *   size_t bytes;
 *   edge_image_workspace(&image, &photo, &bytes);
 *   edge_tensor input = {.data = values, .bytes = 3 * sizeof(float) * image.size * image.size};
 *   edge_image_load(&image, &photo, malloc(bytes), bytes, &input); // the same values as in Python, bit for bit
 */
EDGE_API edge_status edge_model_image(const edge_model *model, const char *input, edge_image *image);

/* Bytes that edge_image_load needs besides its result; they depend on the sizes alone: some rows of the photo. */
EDGE_API edge_status edge_image_workspace(const edge_image *image, const edge_photo *photo, size_t *bytes);

/* Fills tensor->data, of which tensor->bytes must be at least 3 * size * size floats, and sets dtype, rank and shape.
 * The workspace needs no alignment.  Allocates nothing, keeps nothing; may be called on any thread. */
EDGE_API edge_status edge_image_load(const edge_image *image, const edge_photo *photo, void *workspace,
                                     size_t workspace_bytes, edge_tensor *tensor);

/* Labels of the classes; 0 and NULL where the bundle has none or not so many. */
EDGE_API size_t edge_model_label_count(const edge_model *model);
EDGE_API const char *edge_model_label(const edge_model *model, size_t index);

/* How the bundle wants its scores ranked.  The caller sets ranking->struct_size.  EDGE_INVALID_ARGUMENT when it says
 * nothing of it. */
EDGE_API edge_status edge_model_ranking(const edge_model *model, edge_ranking *ranking);

/* The best classes, best first; ties go to the lower index, NaN comes after all numbers.
 * scores: one row, all dimensions but one are 1; any dtype.  model: for the labels, of which there must be one a class;
 * NULL: none.  best: room for top_k classes, or for all where there are fewer; *count: how many there are then. */
EDGE_API edge_status edge_rank(const edge_ranking *ranking, const edge_tensor *scores, const edge_model *model,
                               edge_class *best, size_t *count);

#ifdef __cplusplus
}
#endif
#endif
