/* edgewright::Subgraph in ExecuTorch: the delegate EdgewrightBackend, whose processed bytes are the ONNX file of the part.
 *
 * Compiled where ExecuTorch's headers are, linked with libedgewright: for Python against the headers in its wheel
 * (edgewright_runtime/executorch_shim.py), in an app together with ExecuTorch and its extension_threadpool.  It is
 * registered when the program or library that it is in is loaded.  Run in 1.4.1. */
#include <cstdio>
#include <cstring>

#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/core/exec_aten/util/tensor_util.h>

#if __has_include(<pthreadpool.h>)
#include <executorch/extension/threadpool/threadpool.h>
#else /* The wheel has no pthreadpool.h, which that header includes; what is needed of it, in our own words. */
#include <executorch/runtime/core/function_ref.h>
namespace executorch::extension::threadpool {
class ThreadPool final {
 public:
  size_t get_thread_count() const;
  void run(runtime::FunctionRef<void(size_t)> task, size_t count);
};
ThreadPool *get_threadpool();
} // namespace executorch::extension::threadpool
#endif

extern "C" {
#include "subgraph.h"

/* The sentence of the last failure on this thread, which is then forgotten; "" when there was none. */
EDGE_API const char *edge_executorch_error(void);
}

namespace {

using executorch::aten::ScalarType;
using executorch::aten::SizesType;
using executorch::aten::Tensor;
using executorch::extension::threadpool::get_threadpool;
using executorch::runtime::ArrayRef;
using executorch::runtime::BackendExecutionContext;
using executorch::runtime::BackendInitContext;
using executorch::runtime::BackendInterface;
using executorch::runtime::CompileSpec;
using executorch::runtime::DelegateHandle;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::FreeableBuffer;
using executorch::runtime::Result;
using executorch::runtime::Span;

constexpr size_t MOST_TENSORS = 64; /* inputs, and outputs */
constexpr size_t MOST_THREADS = 64;

thread_local char last_error[1024];

Error failed(Error code, const char *text) {
    std::snprintf(last_error, sizeof last_error, "%s", text);
    ET_LOG(Error, "edgewright::Subgraph: %s", text);
    return code;
}

Error failed(edge_status status) {
    switch (status) {
        case EDGE_INVALID_ARGUMENT:
        case EDGE_SHAPE_MISMATCH: return failed(Error::InvalidArgument, edge_last_error());
        case EDGE_INVALID_MODEL: return failed(Error::DelegateInvalidCompatibility, edge_last_error());
        case EDGE_UNSUPPORTED: return failed(Error::NotSupported, edge_last_error());
        case EDGE_NO_MEMORY: return failed(Error::DelegateMemoryAllocationFailed, edge_last_error());
        default: return failed(Error::Internal, edge_last_error());
    }
}

bool dtype_of(ScalarType type, edge_dtype *dtype) {
    switch (type) {
        case ScalarType::Byte: return *dtype = EDGE_U8, true;
        case ScalarType::Char: return *dtype = EDGE_S8, true;
        case ScalarType::Short: return *dtype = EDGE_S16, true;
        case ScalarType::Int: return *dtype = EDGE_S32, true;
        case ScalarType::Long: return *dtype = EDGE_S64, true;
        case ScalarType::Half: return *dtype = EDGE_F16, true;
        case ScalarType::Float: return *dtype = EDGE_F32, true;
        case ScalarType::Double: return *dtype = EDGE_F64, true;
        case ScalarType::Bool: return *dtype = EDGE_BOOL, true;
        case ScalarType::UInt16: return *dtype = EDGE_U16, true;
        case ScalarType::UInt32: return *dtype = EDGE_U32, true;
        case ScalarType::UInt64: return *dtype = EDGE_U64, true;
        default: return false;
    }
}

bool is_row_major(const Tensor &tensor) {
    const auto order = tensor.dim_order();
    for (size_t axis = 0; axis < order.size(); axis++)
        if (order[axis] != axis) return false;
    return true;
}

/* dtype, shape and memory of a value of the host. */
Error tensor_of(const EValue &value, edge_tensor *result) {
    if (!value.isTensor()) return failed(Error::InvalidArgument, "an argument is no tensor");
    const Tensor &tensor = value.toTensor();
    *result = {};
    if (!dtype_of(tensor.scalar_type(), &result->dtype)) return failed(Error::NotSupported, "the engine has no dtype of a tensor's");
    if (tensor.dim() > EDGE_MAX_RANK) return failed(Error::NotSupported, "a tensor has more than 8 dimensions");
    if (!is_row_major(tensor)) return failed(Error::NotSupported, "the dimensions of a tensor are not in their order in memory");
    result->rank = static_cast<int32_t>(tensor.dim());
    for (int axis = 0; axis < result->rank; axis++) result->shape[axis] = tensor.size(axis);
    result->data = tensor.mutable_data_ptr();
    result->bytes = tensor.nbytes();
    return Error::Ok;
}

Error give_output(const edge_tensor &result, EValue &value) {
    edge_tensor place;
    SizesType sizes[EDGE_MAX_RANK] = {};
    for (int axis = 0; axis < result.rank; axis++) sizes[axis] = static_cast<SizesType>(result.shape[axis]);
    if (!value.isTensor()) return failed(Error::InvalidArgument, "an output is no tensor");
    const ArrayRef<SizesType> shape(sizes, static_cast<size_t>(result.rank));
    if (executorch::runtime::resize_tensor(value.toTensor(), shape) != Error::Ok)
        return failed(Error::InvalidProgram, "the program has no room for the shape of an output");
    const Error status = tensor_of(value, &place);
    if (status != Error::Ok) return status;
    if (place.dtype != result.dtype || place.bytes != result.bytes)
        return failed(Error::InvalidProgram, "the program has an output of another dtype than the model of the part");
    if (result.bytes) std::memcpy(place.data, result.data, result.bytes);
    return Error::Ok;
}

Error run_in(const ew_subgraph *subgraph, ew_seat *seat, const edge_tensor *inputs, size_t count, EValue *const *places) {
    edge_tensor outputs[MOST_TENSORS];
    const size_t output_count = ew_subgraph_output_count(subgraph);
    const edge_status ran = ew_seat_run(seat, nullptr, inputs, count, outputs, output_count);
    if (ran != EDGE_OK) return failed(ran);
    for (size_t i = 0; i < output_count; i++) {
        const Error status = give_output(outputs[i], *places[i]);
        if (status != Error::Ok) return status;
    }
    return Error::Ok;
}

void on_its_threads(void *, size_t count, void (*task)(void *context, size_t index), void *context) {
    get_threadpool()->run([task, context](size_t index) { task(context, index); }, count);
}

/* A delegate's handle is the ew_subgraph. */
class EdgewrightBackend final : public BackendInterface {
 public:
    bool is_available() const override { return true; }

    /* As many threads as ExecuTorch has now. */
    Result<DelegateHandle *> init(BackendInitContext &, FreeableBuffer *processed, ArrayRef<CompileSpec>) const override {
        const auto *pool = get_threadpool();
        const size_t threads = pool ? pool->get_thread_count() : 1;
        const ew_host host = {
            static_cast<uint32_t>(threads > MOST_THREADS ? MOST_THREADS : threads),
            threads > 1 ? on_its_threads : nullptr,
        };
        const auto bytes = processed->data_safe();
        if (!bytes.ok()) return bytes.error();
        ew_subgraph *subgraph = nullptr;
        const edge_status status = ew_subgraph_open(bytes.get(), processed->size(), &host, &subgraph);
        if (status != EDGE_OK) return failed(status);
        if (ew_subgraph_output_count(subgraph) <= MOST_TENSORS) return subgraph;
        ew_subgraph_free(subgraph);
        return failed(Error::NotSupported, "the model of the part has more than 64 outputs");
    }

    /* Inputs, then outputs, as the file has them. */
    Error execute(BackendExecutionContext &, DelegateHandle *handle, Span<EValue *> arguments) const override {
        auto *subgraph = static_cast<ew_subgraph *>(handle);
        const size_t output_count = ew_subgraph_output_count(subgraph);
        if (arguments.size() < output_count || arguments.size() - output_count > MOST_TENSORS)
            return failed(Error::InvalidProgram, "the call has not as many inputs and outputs as the model of the part");
        const size_t count = arguments.size() - output_count;
        edge_tensor inputs[MOST_TENSORS];
        for (size_t i = 0; i < count; i++) {
            const Error status = tensor_of(*arguments[i], &inputs[i]);
            if (status != Error::Ok) return status;
        }
        ew_seat *seat = nullptr;
        const edge_status taken = ew_subgraph_take(subgraph, inputs, count, 0, &seat);
        if (taken != EDGE_OK) return failed(taken);
        const Error status = run_in(subgraph, seat, inputs, count, arguments.data() + count);
        ew_subgraph_give(subgraph, seat);
        return status;
    }

    void destroy(DelegateHandle *handle) const override { ew_subgraph_free(static_cast<ew_subgraph *>(handle)); }
};

EdgewrightBackend backend;
[[maybe_unused]] const Error registered = executorch::runtime::register_backend({"EdgewrightBackend", &backend});

} // namespace

const char *edge_executorch_error(void) {
    thread_local char text[sizeof last_error];
    std::memcpy(text, last_error, sizeof text);
    last_error[0] = 0;
    return text;
}
