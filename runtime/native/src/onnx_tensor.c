/* TensorProto: field numbers are those of onnx.proto, IR version 14. */
#include "onnx.h"

enum {
    DIMS = 1,
    DATA_TYPE = 2,
    FLOATS = 4,
    INT32S = 5,
    INT64S = 7,
    NAME = 8,
    RAW = 9,
    DOUBLES = 10,
    UINT64S = 11,
    EXTERNAL = 13,
    LOCATION = 14
};
enum { ENTRY_KEY = 1, ENTRY_VALUE = 2 };

typedef struct content {
    ew_proto raw;
    bool has_raw, elsewhere;
    int64_t dtype;
    const char *file; /* with elsewhere */
    uint64_t offset;
    int64_t length; /* -1: it is not said */
} content;

static edge_status add_dim(edge_tensor *tensor, uint64_t dim) {
    if (tensor->rank == EDGE_MAX_RANK)
        return ew_fail(EDGE_UNSUPPORTED, "a constant has more than %d axes", EDGE_MAX_RANK);
    if (dim > INT64_MAX) return ew_fail(EDGE_INVALID_MODEL, "a constant has a negative dimension");
    tensor->shape[tensor->rank++] = (int64_t)dim;
    return EDGE_OK;
}

static edge_status read_dims(const ew_field *field, edge_tensor *tensor) {
    if (field->wire == EW_VARINT) return add_dim(tensor, field->value);
    ew_proto packed = field->bytes;
    uint64_t dim;
    while (packed.at < packed.end) {
        if (!ew_proto_varint(&packed, &dim)) return ew_fail(EDGE_INVALID_MODEL, "a constant's shape is cut off");
        EW_TRY(add_dim(tensor, dim));
    }
    return EDGE_OK;
}

static bool read_number(const char *text, uint64_t *number) {
    *number = 0;
    for (; *text; text++)
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(*text - '0'), number))
            return false;
    return true;
}

/* Where the bytes lie: "location", "offset", "length". */
static edge_status read_place(ew_proto proto, ew_arena *arena, content *found) {
    const char *key = "", *value = "";
    uint64_t number = 0;
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.wire != EW_BYTES) continue;
        if (field.number == ENTRY_KEY) EW_TRY(ew_proto_string(field.bytes, arena, &key));
        if (field.number == ENTRY_VALUE) EW_TRY(ew_proto_string(field.bytes, arena, &value));
    }
    if (strcmp(key, "location") == 0) found->file = value;
    bool offset = strcmp(key, "offset") == 0, length = strcmp(key, "length") == 0;
    if ((offset || length) && (!read_number(value, &number) || number > INT64_MAX))
        return ew_fail(EDGE_INVALID_MODEL, "a constant in another file has %s '%s'", key, value);
    if (offset) found->offset = number;
    if (length) found->length = (int64_t)number;
    return EDGE_OK;
}

/* Everything but the typed number fields. */
static edge_status read_fields(ew_proto proto, ew_arena *arena, edge_tensor *tensor, const char **name,
                               content *found) {
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) return EDGE_OK;
        if (field.number == DIMS) EW_TRY(read_dims(&field, tensor));
        if (field.number == DATA_TYPE) found->dtype = (int64_t)field.value;
        if (field.number == NAME && name && field.wire == EW_BYTES) EW_TRY(ew_proto_string(field.bytes, arena, name));
        if (field.number == EXTERNAL && field.wire == EW_BYTES) EW_TRY(read_place(field.bytes, arena, found));
        if (field.number == LOCATION) found->elsewhere = field.value != 0;
        if (field.number == RAW && field.wire == EW_BYTES) {
            found->raw = field.bytes;
            found->has_raw = true;
        }
    }
}

/* Bytes of what a number of a file stands for: an element, or several small ones in a byte. */
static size_t bytes_of(edge_dtype dtype) { return ew_is_small(dtype) ? 1 : ew_dtype_bytes(dtype); }

/* Like every shape: products of any of the dims fit, also when another one is zero. */
static edge_status size_of(edge_tensor *tensor) {
    size_t bytes = bytes_of(tensor->dtype), each = ew_is_small(tensor->dtype) ? 8 / ew_dtype_bits(tensor->dtype) : 1;
    bool empty = false;
    for (int i = 0; i < tensor->rank; i++) {
        empty |= !tensor->shape[i];
        if (tensor->shape[i] && (!ew_mul(bytes, (uint64_t)tensor->shape[i], &bytes) || bytes > PTRDIFF_MAX / 2))
            return ew_fail(EDGE_INVALID_MODEL, "a constant is too large");
    }
    tensor->bytes = empty ? 0 : bytes / each + (bytes % each != 0);
    return EDGE_OK;
}

static uint32_t field_of(edge_dtype dtype) {
    switch (dtype) {
    case EDGE_F32: return FLOATS;
    case EDGE_F64: return DOUBLES;
    case EDGE_S64: return INT64S;
    case EDGE_U32:
    case EDGE_U64: return UINT64S;
    default: return INT32S;
    }
}

/* Stores the low bytes of a number; false when the tensor is full. */
static bool put(edge_tensor *tensor, size_t *used, uint64_t value) {
    size_t bytes = bytes_of(tensor->dtype);
    if (tensor->bytes - *used < bytes) return false;
    memcpy((uint8_t *)tensor->data + *used, &value, bytes);
    *used += bytes;
    return true;
}

static bool put_run(edge_tensor *tensor, size_t *used, ew_proto run, uint32_t number) {
    size_t width = number == FLOATS ? 4 : number == DOUBLES ? 8 : 0;
    uint64_t value;
    if (width) {
        size_t bytes = ew_proto_size(run);
        if (bytes % width || bytes > tensor->bytes - *used) return false;
        if (bytes) memcpy((uint8_t *)tensor->data + *used, run.at, bytes);
        *used += bytes;
        return true;
    }
    while (run.at < run.end)
        if (!ew_proto_varint(&run, &value) || !put(tensor, used, value)) return false;
    return true;
}

static edge_status read_numbers(ew_proto proto, edge_tensor *tensor) {
    uint32_t number = field_of(tensor->dtype);
    size_t used = 0;
    ew_field field;
    bool more, good = true;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more || !good) break;
        if (field.number == number)
            good =
                field.wire == EW_BYTES ? put_run(tensor, &used, field.bytes, number) : put(tensor, &used, field.value);
    }
    if (good && used == tensor->bytes) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "a constant has another number of elements than its shape says");
}

static edge_status take_raw(ew_proto raw, edge_tensor *tensor) {
    if (ew_proto_size(raw) != tensor->bytes)
        return ew_fail(EDGE_INVALID_MODEL, "a constant has %zu bytes where its shape needs %zu", ew_proto_size(raw),
                       tensor->bytes);
    tensor->data = (void *)(uintptr_t)raw.at;
    return EDGE_OK;
}

static edge_status take_outside(edge_model *model, const content *found, const char *name, size_t wanted,
                                ew_proto *raw) {
    if (!found->file) return ew_fail(EDGE_INVALID_MODEL, "constant '%s' lies in another file, which is not named", name);
    uint64_t bytes = found->length < 0 ? wanted : (uint64_t)found->length;
    EW_TRY(ew_outside_get(model, found->file, found->offset, bytes, &raw->at));
    raw->end = raw->at + bytes;
    return EDGE_OK;
}

/* Bytes that are not 0 or 1 would break every reader of a bool. */
static void normalize_bool(edge_tensor *tensor) {
    uint8_t *at = tensor->data;
    for (size_t i = 0; i < tensor->bytes; i++) at[i] = at[i] != 0;
}

edge_status ew_read_tensor(ew_proto proto, edge_model *model, edge_tensor *tensor, const char **name) {
    ew_arena *arena = &model->arena;
    content found = {.length = -1};
    *tensor = (edge_tensor){0};
    EW_TRY(read_fields(proto, arena, tensor, name, &found));
    const char *shown = name && *name ? *name : "";
    tensor->dtype = (edge_dtype)found.dtype;
    if (found.dtype < 0 || found.dtype > 64 || found.dtype == EW_S3 || !ew_dtype_bits(tensor->dtype))
        return ew_fail(EDGE_UNSUPPORTED, "constant '%s' has ONNX dtype %lld, which the engine does not have", shown,
                       (long long)found.dtype);
    EW_TRY(size_of(tensor));
    if (found.elsewhere) {
        EW_TRY(take_outside(model, &found, shown, tensor->bytes, &found.raw));
        found.has_raw = true;
    }
    if (found.has_raw && tensor->dtype != EDGE_BOOL) return take_raw(found.raw, tensor);
    tensor->data = ew_arena_get(arena, tensor->bytes);
    if (!tensor->data) return EDGE_NO_MEMORY;
    if (found.has_raw) {
        if (ew_proto_size(found.raw) != tensor->bytes)
            return ew_fail(EDGE_INVALID_MODEL, "constant '%s' is cut off", shown);
        if (tensor->bytes) memcpy(tensor->data, found.raw.at, tensor->bytes);
    } else {
        EW_TRY(read_numbers(proto, tensor));
    }
    if (tensor->dtype == EDGE_BOOL) normalize_bool(tensor);
    return EDGE_OK;
}
