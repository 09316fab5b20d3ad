/* edgewright::Subgraph in ONNX Runtime: SessionOptions.register_custom_ops_library("libedgewright.so"). */
#include "onnxruntime_abi.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base.h"
#include "subgraph.h"

#define MOST_THREADS 64
#define MOST_TENSORS 64
static const char THREADS[] = "edgewright.threads";

#define CALL(api, place, type) ((type *)(api)->functions[place])
#define ORT_TRY(expression)                                                                                            \
    do {                                                                                                               \
        ort_status *ort_status_ = (expression);                                                                        \
        if (ort_status_) return ort_status_;                                                                           \
    } while (0)

/* The operator for sessions with so many threads; `op` comes first, so that it is found from it. */
typedef struct subgraph_op {
    ort_custom_op op;
    ort_domain *domain;
    const ort_api *api;
    uint32_t threads;
} subgraph_op;

typedef struct kernel {
    const ort_api *api;
    ew_subgraph *subgraph;
} kernel;

/* What a run of the engine needs to find the threads of this run. */
typedef struct run {
    const ort_api *api;
    ort_kernel_context *context;
} run;

static ort_status *failed(const ort_api *api) {
    char text[1024];
    snprintf(text, sizeof text, "edgewright::Subgraph: %s", edge_last_error());
    return CALL(api, ORT_CREATE_STATUS, ort_create_status)(ORT_FAIL, text);
}

static ort_status *refused(const ort_api *api, int code, const char *text) {
    return CALL(api, ORT_CREATE_STATUS, ort_create_status)(code, text);
}

static void on_its_threads(void *host, size_t count, void (*task)(void *context, size_t index), void *context) {
    const run *of = host;
    /* It fails for arguments alone, which are right here. */
    CALL(of->api, ORT_PARALLEL_FOR, ort_parallel_for)(of->context, task, count, count, context);
}

/* dtype, shape and memory of a value of the host. */
static ort_status *tensor_of(const ort_api *api, const ort_value *value, edge_tensor *tensor) {
    ort_type_and_shape *info;
    size_t rank = 0, count = 0;
    int type = 0;
    *tensor = (edge_tensor){0};
    ORT_TRY(CALL(api, ORT_TYPE_AND_SHAPE, ort_get_type_and_shape)(value, &info));
    ort_status *status = CALL(api, ORT_ELEMENT_TYPE, ort_element_type)(info, &type);
    if (!status) status = CALL(api, ORT_DIMENSION_COUNT, ort_count)(info, &rank);
    if (!status && rank > EDGE_MAX_RANK) status = refused(api, ORT_NOT_IMPLEMENTED, "edgewright::Subgraph: an input has more than 8 dimensions");
    if (!status) status = CALL(api, ORT_DIMENSIONS, ort_dimensions)(info, tensor->shape, rank);
    if (!status) status = CALL(api, ORT_ELEMENT_COUNT, ort_count)(info, &count);
    CALL(api, ORT_RELEASE_TYPE_AND_SHAPE, ort_release_type_and_shape)(info);
    if (status) return status;
    tensor->dtype = (edge_dtype)type;
    tensor->rank = (int32_t)rank;
    tensor->bytes = count * ew_dtype_bytes(tensor->dtype);
    return CALL(api, ORT_TENSOR_DATA, ort_tensor_data)(value, &tensor->data);
}

static ort_status *create(const ort_custom_op *op, const ort_api *unused, const ort_kernel_info *info, void **result) {
    (void)unused; /* of an older version than the one that was asked for */
    const subgraph_op *own = (const subgraph_op *)op;
    const ort_api *api = own->api;
    const ort_value *model;
    edge_tensor bytes;
    int is_constant = 0;
    ORT_TRY(CALL(api, ORT_CONSTANT_INPUT, ort_constant_input)(info, 0, &is_constant, &model));
    if (!is_constant) return refused(api, ORT_INVALID_ARGUMENT, "edgewright::Subgraph: its first input must be a constant, the model of the part");
    ORT_TRY(tensor_of(api, model, &bytes));
    kernel *made = calloc(1, sizeof *made);
    if (!made) return refused(api, ORT_FAIL, "edgewright::Subgraph: no memory");
    made->api = api;
    const ew_host host = {own->threads, own->threads > 1 ? on_its_threads : NULL};
    if (ew_subgraph_open(bytes.data, bytes.bytes, &host, &made->subgraph) != EDGE_OK) {
        free(made);
        return failed(api);
    }
    *result = made;
    return NULL;
}

static void destroy(void *given) {
    kernel *made = given;
    ew_subgraph_free(made->subgraph);
    free(made);
}

static ort_status *give_output(const ort_api *api, ort_kernel_context *context, size_t index, const edge_tensor *result) {
    ort_value *value;
    void *data;
    ORT_TRY(CALL(api, ORT_OUTPUT, ort_output)(context, index, result->shape, (size_t)result->rank, &value));
    if (!result->bytes) return NULL;
    ORT_TRY(CALL(api, ORT_TENSOR_DATA, ort_tensor_data)(value, &data));
    memcpy(data, result->data, result->bytes);
    return NULL;
}

static ort_status *run_in(const kernel *made, ew_seat *seat, ort_kernel_context *context, const edge_tensor *inputs,
                          size_t inputs_count) {
    edge_tensor outputs[MOST_TENSORS];
    run of = {made->api, context};
    size_t count = ew_subgraph_output_count(made->subgraph);
    if (ew_seat_run(seat, &of, inputs, inputs_count, outputs, count) != EDGE_OK) return failed(made->api);
    for (size_t i = 0; i < count; i++) ORT_TRY(give_output(made->api, context, i, &outputs[i]));
    return NULL;
}

/* The first input is the model. */
static ort_status *compute(void *given, ort_kernel_context *context) {
    const kernel *made = given;
    const ort_api *api = made->api;
    edge_tensor inputs[MOST_TENSORS];
    size_t count = 0, outputs = 0;
    ORT_TRY(CALL(api, ORT_INPUT_COUNT, ort_context_count)(context, &count));
    ORT_TRY(CALL(api, ORT_OUTPUT_COUNT, ort_context_count)(context, &outputs));
    if (count > MOST_TENSORS || outputs > MOST_TENSORS || outputs != ew_subgraph_output_count(made->subgraph))
        return refused(api, ORT_INVALID_ARGUMENT, "edgewright::Subgraph: the node has not as many inputs and outputs as the model of the part");
    for (size_t i = 1; i < count; i++) {
        const ort_value *value;
        ORT_TRY(CALL(api, ORT_INPUT, ort_input)(context, i, &value));
        ORT_TRY(tensor_of(api, value, &inputs[i - 1]));
    }
    ew_seat *seat;
    if (ew_subgraph_take(made->subgraph, inputs, count - 1, 0, &seat) != EDGE_OK) return failed(api);
    ort_status *status = run_in(made, seat, context, inputs, count - 1);
    ew_subgraph_give(made->subgraph, seat);
    return status;
}

static const char *name(const ort_custom_op *op) { return (void)op, "Subgraph"; }
static const char *provider(const ort_custom_op *op) { return (void)op, NULL; }
static int any_type(const ort_custom_op *op, size_t i) { return (void)op, (void)i, ORT_ANY_TYPE; }
static size_t one(const ort_custom_op *op) { return (void)op, 1; }
static int variadic(const ort_custom_op *op, size_t i) { return (void)op, (void)i, ORT_VARIADIC; }
static int in_memory(const ort_custom_op *op, size_t i) { return (void)op, (void)i, 0; }
static int at_least_one(const ort_custom_op *op) { return (void)op, 1; }
static int never(const ort_custom_op *op) { return (void)op, 0; }

static const ort_custom_op OP = {
    .version = ORT_OP_VERSION,
    .name = name,
    .provider = provider,
    .input_type = any_type,
    .input_count = one,
    .output_type = any_type,
    .output_count = one,
    .destroy = destroy,
    .input_is = variadic,
    .output_is = variadic,
    .input_memory = in_memory,
    .least_inputs = at_least_one,
    .inputs_are_alike = never,
    .least_outputs = at_least_one,
    .outputs_are_alike = never,
    .create_kernel_v2 = create,
    .compute_v2 = compute,
};

/* Session option "edgewright.threads"; without it, as many as there are processors. */
static ort_status *threads_of(const ort_api *api, const ort_session_options *options, uint32_t *threads) {
    char text[16] = "";
    size_t bytes = sizeof text;
    int has = 0;
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    ORT_TRY(CALL(api, ORT_HAS_CONFIG, ort_has_config)(options, THREADS, &has));
    if (has) {
        ORT_TRY(CALL(api, ORT_CONFIG, ort_config)(options, THREADS, text, &bytes));
        char *end;
        count = strtol(text, &end, 10);
        if (*end || count < 1) return refused(api, ORT_INVALID_ARGUMENT, "session option edgewright.threads must be a number from 1 on");
    }
    *threads = count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : (uint32_t)count;
    return NULL;
}

/* Domains live as long as the process, like the library that is registered: one for each count of threads. */
static ort_status *domain_of(const ort_api *api, uint32_t threads, ort_domain **domain) {
    static subgraph_op known[MOST_THREADS + 1];
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    subgraph_op *own = &known[threads];
    ort_status *status = NULL;
    pthread_mutex_lock(&lock);
    if (!own->domain) {
        ort_domain *made = NULL;
        *own = (subgraph_op){OP, NULL, api, threads};
        status = CALL(api, ORT_CREATE_DOMAIN, ort_create_domain)("edgewright", &made);
        if (!status) status = CALL(api, ORT_ADD_OP, ort_add_op)(made, &own->op);
        if (!status) own->domain = made;
    }
    *domain = own->domain;
    pthread_mutex_unlock(&lock);
    return status;
}

/* The name by which ONNX Runtime finds it; an own prototype, since no header of ours declares it. */
EDGE_API ort_status *RegisterCustomOps(ort_session_options *options, const ort_api_base *base);

EDGE_API ort_status *RegisterCustomOps(ort_session_options *options, const ort_api_base *base) {
    const ort_api *api = base->get_api(ORT_LEAST_API);
    if (!api)
        return refused(base->get_api(ORT_FIRST_API), ORT_NOT_IMPLEMENTED,
                       "edgewright::Subgraph needs ONNX Runtime 1.17 or newer");
    uint32_t threads = 1;
    ort_domain *domain;
    ORT_TRY(threads_of(api, options, &threads));
    ORT_TRY(domain_of(api, threads, &domain));
    return CALL(api, ORT_ADD_DOMAIN, ort_add_domain)(options, domain);
}
