/* What this shim needs of ONNX Runtime's C interface, in our own words; places in its table of functions never change.
 * Checked against the header of API version 29 (ONNX Runtime 1.29) and run in 1.17 .. 1.31. */
#ifndef EW_ONNXRUNTIME_ABI_H
#define EW_ONNXRUNTIME_ABI_H

#include <stddef.h>
#include <stdint.h>

#define ORT_LEAST_API 17 /* the first with KernelContext_ParallelFor */
#define ORT_FIRST_API 1  /* what every version gives */
#define ORT_OP_VERSION 16 /* the layout of ort_custom_op below */

typedef struct ort_status ort_status;
typedef struct ort_value ort_value;
typedef struct ort_kernel_info ort_kernel_info;
typedef struct ort_kernel_context ort_kernel_context;
typedef struct ort_type_and_shape ort_type_and_shape;
typedef struct ort_domain ort_domain;
typedef struct ort_session_options ort_session_options;

/* The table of functions; each is called by its place. */
typedef void (*ort_function)(void);
typedef struct ort_api {
    ort_function functions[320];
} ort_api;

typedef struct ort_api_base {
    const ort_api *(*get_api)(uint32_t version); /* NULL: this version is not there */
    const char *(*get_version)(void);
} ort_api_base;

enum ort_place {
    ORT_CREATE_STATUS = 0,
    ORT_CREATE_DOMAIN = 26,
    ORT_ADD_OP = 27,
    ORT_ADD_DOMAIN = 28,
    ORT_TENSOR_DATA = 51,
    ORT_ELEMENT_TYPE = 60,
    ORT_DIMENSION_COUNT = 61,
    ORT_DIMENSIONS = 62,
    ORT_ELEMENT_COUNT = 64,
    ORT_TYPE_AND_SHAPE = 65,
    ORT_INPUT_COUNT = 88,
    ORT_OUTPUT_COUNT = 89,
    ORT_INPUT = 90,
    ORT_OUTPUT = 91,
    ORT_RELEASE_TYPE_AND_SHAPE = 99,
    ORT_HAS_CONFIG = 237,
    ORT_CONFIG = 238,
    ORT_CONSTANT_INPUT = 249,
    ORT_PARALLEL_FOR = 274,
};

typedef ort_status *ort_create_status(int code, const char *message);
typedef ort_status *ort_create_domain(const char *name, ort_domain **domain);
typedef ort_status *ort_add_op(ort_domain *domain, const void *op);
typedef ort_status *ort_add_domain(ort_session_options *options, ort_domain *domain);
typedef ort_status *ort_tensor_data(const ort_value *value, void **data);
typedef ort_status *ort_element_type(const ort_type_and_shape *info, int *type);
typedef ort_status *ort_count(const ort_type_and_shape *info, size_t *count);
typedef ort_status *ort_dimensions(const ort_type_and_shape *info, int64_t *dimensions, size_t count);
typedef ort_status *ort_get_type_and_shape(const ort_value *value, ort_type_and_shape **info);
typedef void ort_release_type_and_shape(ort_type_and_shape *info);
typedef ort_status *ort_context_count(const ort_kernel_context *context, size_t *count);
typedef ort_status *ort_input(const ort_kernel_context *context, size_t index, const ort_value **value);
typedef ort_status *ort_output(ort_kernel_context *context, size_t index, const int64_t *dimensions, size_t count,
                               ort_value **value);
typedef ort_status *ort_has_config(const ort_session_options *options, const char *key, int *has);
typedef ort_status *ort_config(const ort_session_options *options, const char *key, char *value, size_t *bytes);
typedef ort_status *ort_constant_input(const ort_kernel_info *info, size_t index, int *is_constant, const ort_value **value);
typedef ort_status *ort_parallel_for(const ort_kernel_context *context, void (*task)(void *user, size_t index), size_t count,
                                     size_t batches, void *user);

/* Codes of a status. */
enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2, ORT_NOT_IMPLEMENTED = 9 };
/* An element type that may be any; the others are ONNX's numbers. */
enum { ORT_ANY_TYPE = 0 };
enum { ORT_REQUIRED = 0, ORT_OPTIONAL = 1, ORT_VARIADIC = 2 };

/* One operator, version 16 of the struct; a newer runtime reads no further. */
typedef struct ort_custom_op ort_custom_op;
struct ort_custom_op {
    uint32_t version;
    void *(*create_kernel)(const ort_custom_op *op, const ort_api *api, const ort_kernel_info *info);
    const char *(*name)(const ort_custom_op *op);
    const char *(*provider)(const ort_custom_op *op); /* NULL: the processor */
    int (*input_type)(const ort_custom_op *op, size_t index);
    size_t (*input_count)(const ort_custom_op *op);
    int (*output_type)(const ort_custom_op *op, size_t index);
    size_t (*output_count)(const ort_custom_op *op);
    void (*compute)(void *kernel, ort_kernel_context *context);
    void (*destroy)(void *kernel);
    int (*input_is)(const ort_custom_op *op, size_t index);
    int (*output_is)(const ort_custom_op *op, size_t index);
    int (*input_memory)(const ort_custom_op *op, size_t index);
    int (*least_inputs)(const ort_custom_op *op);
    int (*inputs_are_alike)(const ort_custom_op *op);
    int (*least_outputs)(const ort_custom_op *op);
    int (*outputs_are_alike)(const ort_custom_op *op);
    ort_status *(*create_kernel_v2)(const ort_custom_op *op, const ort_api *api, const ort_kernel_info *info, void **kernel);
    ort_status *(*compute_v2)(void *kernel, ort_kernel_context *context);
    /* Of later versions, here so that nothing behind the struct is read by mistake. */
    void *later[8];
};

#endif
