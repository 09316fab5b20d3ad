/* edgewright.Subgraph in LiteRT and TensorFlow Lite: load_delegate("libedgewright.so", {"threads": 2}). */
#include "litert_abi.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base.h"
#include "subgraph.h"

#define MOST_THREADS 64
#define MOST_TENSORS 64
#define LEFT_OUT (-1) /* the host's number for it too */
static const char OPERATOR[] = "edgewright.Subgraph";
static const char THREADS[] = "threads";

#define TFL_TRY(expression)                                                                                            \
    do {                                                                                                               \
        tfl_status tfl_status_ = (expression);                                                                         \
        if (tfl_status_ != TFL_OK) return tfl_status_;                                                                 \
    } while (0)

typedef struct delegate {
    tfl_delegate base; /* first, so that it is found from it */
    uint32_t threads;  /* 0: as many as the interpreter has */
} delegate;

/* Numbers of tensors, in the operator's order. */
typedef struct tensors {
    int count; /* may be more than there is place */
    int at[MOST_TENSORS];
} tensors;

typedef struct kernel {
    uint32_t threads;
    tensors inputs, outputs; /* the first input is the model */
    ew_subgraph *subgraph;
    ew_seat *seat; /* for the shapes of the last `prepare`; NULL where that failed */
} kernel;

static tfl_status refused(tfl_context *context, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    context->report(context, "%s: %s", OPERATOR, text);
    return TFL_ERROR;
}

static tfl_status failed(tfl_context *context) { return refused(context, "%s", edge_last_error()); }

/* 0 for a type that the engine does not have. */
static edge_dtype dtype_of(int type) {
    static const uint8_t dtypes[TFL_TYPES] = {
        [TFL_F32] = EDGE_F32, [TFL_S32] = EDGE_S32, [TFL_U8] = EDGE_U8,   [TFL_S64] = EDGE_S64,
        [TFL_BOOL] = EDGE_BOOL, [TFL_S16] = EDGE_S16, [TFL_S8] = EDGE_S8,   [TFL_F16] = EDGE_F16,
        [TFL_F64] = EDGE_F64, [TFL_U64] = EDGE_U64, [TFL_U32] = EDGE_U32, [TFL_U16] = EDGE_U16,
    };
    return type < 0 || type >= TFL_TYPES ? 0 : dtypes[type];
}

static void copy(const tfl_ints *from, tensors *to) {
    to->count = from->count;
    for (int i = 0; i < from->count && i < MOST_TENSORS; i++) to->at[i] = from->at[i];
}

static bool is_in(const tfl_ints *list, int number) {
    for (int i = 0; i < list->count; i++)
        if (list->at[i] == number) return true;
    return false;
}

/* What nothing else of the graph reads has no memory. */
static void leave_out(tensors *outputs, const tfl_ints *read) {
    for (int i = 0; i < outputs->count && i < MOST_TENSORS; i++)
        if (!is_in(read, outputs->at[i])) outputs->at[i] = LEFT_OUT;
}

/* The model is opened by `prepare`, which can fail. */
static void *init(tfl_context *context, const char *options, size_t bytes) {
    (void)bytes;
    const tfl_part *part = (const void *)options;
    tfl_node *node;
    tfl_registration *registration;
    kernel *made = calloc(1, sizeof *made);
    if (!made) return NULL;
    if (context->node(context, part->nodes->at[0], &node, &registration) != TFL_OK) {
        free(made);
        return NULL;
    }
    made->threads = ((const delegate *)part->delegate)->threads;
    copy(node->inputs, &made->inputs);
    copy(node->outputs, &made->outputs);
    leave_out(&made->outputs, part->outputs);
    return made;
}

static void give_seat(kernel *made) {
    if (made->seat) ew_subgraph_give(made->subgraph, made->seat);
    made->seat = NULL;
}

static void release(tfl_context *context, void *given) {
    (void)context;
    kernel *made = given;
    if (!made) return;
    give_seat(made);
    ew_subgraph_free(made->subgraph);
    free(made);
}

static tfl_status open_model(tfl_context *context, kernel *made) {
    int first = made->inputs.count ? made->inputs.at[0] : LEFT_OUT;
    const tfl_tensor *model = first == LEFT_OUT ? NULL : &context->tensors[first];
    if (!model || model->lies != TFL_IN_FILE || model->type != TFL_U8)
        return refused(context, "its first input must be a constant of uint8, the model of the part");
    uint32_t threads = made->threads ? made->threads : context->threads < 1 ? 1 : (uint32_t)context->threads;
    const ew_host host = {threads > MOST_THREADS ? MOST_THREADS : threads, NULL};
    if (ew_subgraph_open(model->data, model->bytes, &host, &made->subgraph) != EDGE_OK) return failed(context);
    return TFL_OK;
}

/* dtype, shape and memory of an input. */
static tfl_status tensor_of(tfl_context *context, const kernel *made, int i, edge_tensor *tensor) {
    if (made->inputs.at[i] == LEFT_OUT) return refused(context, "input %d is left out", i);
    const tfl_tensor *from = &context->tensors[made->inputs.at[i]];
    edge_dtype dtype = dtype_of(from->type);
    if (!dtype) return refused(context, "input %d is of type %d, which the engine does not have", i, from->type);
    if (!from->shape || from->shape->count > EDGE_MAX_RANK)
        return refused(context, "input %d does not have 0 to %d dimensions", i, EDGE_MAX_RANK);
    *tensor = (edge_tensor){.dtype = dtype, .rank = from->shape->count, .data = from->data, .bytes = from->bytes};
    for (int axis = 0; axis < tensor->rank; axis++) tensor->shape[axis] = from->shape->at[axis];
    return TFL_OK;
}

static tfl_status read_inputs(tfl_context *context, const kernel *made, edge_tensor *inputs) {
    for (int i = 1; i < made->inputs.count; i++) TFL_TRY(tensor_of(context, made, i, &inputs[i - 1]));
    return TFL_OK;
}

static tfl_status resize(tfl_context *context, tfl_tensor *tensor, int rank, const int64_t *shape) {
    tfl_ints *sizes = malloc(sizeof *sizes + (size_t)rank * sizeof *sizes->at);
    if (!sizes) return refused(context, "no memory");
    sizes->count = rank;
    for (int axis = 0; axis < rank; axis++) {
        if (shape[axis] > INT_MAX) {
            free(sizes);
            return refused(context, "an output has a dimension of more than %d", INT_MAX);
        }
        sizes->at[axis] = (int)shape[axis];
    }
    return context->resize(context, tensor, sizes);
}

/* Gives an output its shape, or leaves that to the run where it is not known before. */
static tfl_status shape_output(tfl_context *context, const kernel *made, int i) {
    edge_tensor_info info;
    if (ew_seat_output(made->seat, (size_t)i, &info) != EDGE_OK) return failed(context);
    if (made->outputs.at[i] == LEFT_OUT) return TFL_OK;
    tfl_tensor *tensor = &context->tensors[made->outputs.at[i]];
    if (dtype_of(tensor->type) != info.dtype)
        return refused(context, "output %d is of type %d, the model of the part gives another", i, tensor->type);
    if (!memcmp(info.min_shape, info.max_shape, (size_t)info.rank * sizeof *info.min_shape))
        return resize(context, tensor, info.rank, info.min_shape);
    if (tensor->lies != TFL_DYNAMIC) tensor->data = NULL;
    tensor->lies = TFL_DYNAMIC;
    return TFL_OK;
}

static tfl_status prepare(tfl_context *context, tfl_node *node) {
    kernel *made = node->kernel;
    edge_tensor inputs[MOST_TENSORS];
    if (!made) return refused(context, "no memory");
    if (made->inputs.count > MOST_TENSORS || made->outputs.count > MOST_TENSORS)
        return refused(context, "the node has more than %d inputs or outputs", MOST_TENSORS);
    if (!made->subgraph) TFL_TRY(open_model(context, made));
    if ((size_t)made->outputs.count != ew_subgraph_output_count(made->subgraph))
        return refused(context, "the node has not as many outputs as the model of the part");
    give_seat(made);
    TFL_TRY(read_inputs(context, made, inputs));
    if (ew_subgraph_take(made->subgraph, inputs, (size_t)made->inputs.count - 1, 1, &made->seat) != EDGE_OK)
        return failed(context);
    for (int i = 0; i < made->outputs.count; i++) TFL_TRY(shape_output(context, made, i));
    return TFL_OK;
}

static tfl_status give_output(tfl_context *context, int number, const edge_tensor *result) {
    if (number == LEFT_OUT) return TFL_OK;
    tfl_tensor *tensor = &context->tensors[number];
    if (tensor->lies == TFL_DYNAMIC) TFL_TRY(resize(context, tensor, result->rank, result->shape));
    if (tensor->bytes != result->bytes) return refused(context, "an output has another size than it was prepared for");
    if (result->bytes) memcpy(tensor->data, result->data, result->bytes);
    return TFL_OK;
}

static tfl_status invoke(tfl_context *context, tfl_node *node) {
    const kernel *made = node->kernel;
    edge_tensor inputs[MOST_TENSORS], outputs[MOST_TENSORS];
    if (!made || !made->seat) return refused(context, "it is not prepared");
    TFL_TRY(read_inputs(context, made, inputs));
    size_t count = (size_t)made->inputs.count - 1, results = (size_t)made->outputs.count;
    if (ew_seat_run(made->seat, NULL, inputs, count, outputs, results) != EDGE_OK) return failed(context);
    for (int i = 0; i < made->outputs.count; i++) TFL_TRY(give_output(context, made->outputs.at[i], &outputs[i]));
    return TFL_OK;
}

static const tfl_registration KERNEL = {
    .init = init,
    .free = release,
    .prepare = prepare,
    .invoke = invoke,
    .custom_name = "EdgewrightSubgraph",
    .version = 1,
};

/* The first node that is to be taken over, -1 where there is none. */
static tfl_status find(tfl_context *context, int *found) {
    tfl_ints *plan;
    TFL_TRY(context->plan(context, &plan));
    *found = -1;
    for (int i = 0; i < plan->count && *found < 0; i++) {
        tfl_node *node;
        tfl_registration *registration;
        TFL_TRY(context->node(context, plan->at[i], &node, &registration));
        const char *name = node->delegate ? NULL : registration->custom_name;
        if (name && !strcmp(name, OPERATOR)) *found = plan->at[i];
    }
    return TFL_OK;
}

/* Each alone: neighbours that are given at once would become one node. */
static tfl_status take_over(tfl_context *context, tfl_delegate *own) {
    union {
        tfl_ints list;
        int words[2];
    } node = {.words = {1, -1}};
    for (;;) {
        TFL_TRY(find(context, &node.words[1]));
        if (node.words[1] < 0) return TFL_OK;
        TFL_TRY(context->replace(context, KERNEL, &node.list, own));
    }
}

/* Option "threads", from 1 on; false where an option is another or not such a number. */
static bool read_options(const char *const *keys, const char *const *values, size_t count, uint32_t *threads) {
    for (size_t i = 0; i < count; i++) {
        char *end;
        long number = strtol(values[i], &end, 10);
        if (strcmp(keys[i], THREADS) || end == values[i] || *end || number < 1) return false;
        *threads = number > MOST_THREADS ? MOST_THREADS : (uint32_t)number;
    }
    return true;
}

/* The names by which hosts find it; own prototypes, since no header of ours declares them. */
EDGE_API tfl_delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t count,
                                                     void (*report)(const char *text));
EDGE_API void tflite_plugin_destroy_delegate(tfl_delegate *own);

EDGE_API tfl_delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t count,
                                                     void (*report)(const char *text)) {
    uint32_t threads = 0;
    bool is_right = read_options(keys, values, count, &threads);
    delegate *made = is_right ? malloc(sizeof *made) : NULL;
    if (made) {
        *made = (delegate){{.prepare = take_over, .flags = TFL_ALLOWS_DYNAMIC}, threads};
        return &made->base;
    }
    if (report)
        report(is_right ? "edgewright.Subgraph: no memory"
                        : "edgewright.Subgraph: its one option is threads, a number from 1 on");
    return NULL;
}

/* Nodes that it took over need it no more. */
EDGE_API void tflite_plugin_destroy_delegate(tfl_delegate *own) { free(own); }
