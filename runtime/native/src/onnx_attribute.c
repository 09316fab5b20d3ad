/* AttributeProto: field numbers are those of onnx.proto, IR version 14. */
#include "onnx.h"

enum { NAME = 1, F = 2, I = 3, S = 4, T = 5, FLOATS = 7, INTS = 8, STRINGS = 9, TYPE = 20 };

static float as_float(uint64_t bits) {
    uint32_t low = (uint32_t)bits;
    float value;
    memcpy(&value, &low, 4);
    return value;
}

/* How many numbers of a repeated field a message holds. */
static size_t length_of(ew_proto proto, uint32_t number, size_t width) {
    ew_field field;
    bool more;
    size_t count = 0;
    while (ew_proto_next(&proto, &field, &more) == EDGE_OK && more) {
        if (field.number != number) continue;
        if (field.wire != EW_BYTES || number == STRINGS) {
            count++;
        } else if (width) {
            count += ew_proto_size(field.bytes) / width;
        } else {
            for (const uint8_t *at = field.bytes.at; at < field.bytes.end; at++) count += !(*at & 0x80);
        }
    }
    return count;
}

static edge_status read_floats(ew_proto proto, ew_arena *arena, ew_attribute *attribute) {
    size_t count = length_of(proto, FLOATS, 4), used = 0;
    float *floats = ew_arena_get(arena, count * sizeof *floats);
    if (!floats) return EDGE_NO_MEMORY;
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.number != FLOATS) continue;
        if (field.wire == EW_FIXED32) floats[used++] = as_float(field.value);
        size_t run = field.wire == EW_BYTES ? ew_proto_size(field.bytes) / 4 : 0;
        if (run) memcpy(floats + used, field.bytes.at, run * 4);
        used += run;
    }
    attribute->floats = floats;
    attribute->count = used;
    return EDGE_OK;
}

static edge_status read_ints(ew_proto proto, ew_arena *arena, ew_attribute *attribute) {
    size_t count = length_of(proto, INTS, 0), used = 0;
    int64_t *ints = ew_arena_get(arena, count * sizeof *ints);
    if (!ints) return EDGE_NO_MEMORY;
    ew_field field;
    bool more;
    uint64_t value;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.number != INTS) continue;
        if (field.wire == EW_VARINT) ints[used++] = (int64_t)field.value;
        while (field.wire == EW_BYTES && field.bytes.at < field.bytes.end) {
            if (!ew_proto_varint(&field.bytes, &value)) return ew_fail(EDGE_INVALID_MODEL, "an attribute is cut off");
            ints[used++] = (int64_t)value;
        }
    }
    attribute->ints = ints;
    attribute->count = used;
    return EDGE_OK;
}

static edge_status read_strings(ew_proto proto, ew_arena *arena, ew_attribute *attribute) {
    size_t count = length_of(proto, STRINGS, 0), used = 0;
    const char **strings = ew_arena_get(arena, count * sizeof *strings);
    if (!strings) return EDGE_NO_MEMORY;
    ew_field field;
    bool more;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        if (field.number == STRINGS && field.wire == EW_BYTES)
            EW_TRY(ew_proto_string(field.bytes, arena, &strings[used++]));
    }
    attribute->strings = strings;
    attribute->count = used;
    return EDGE_OK;
}

/* Small elements become bytes: a session does that only to constants with a name. */
static edge_status widen(edge_model *model, edge_tensor *tensor) {
    size_t count = 1;
    for (int i = 0; i < tensor->rank; i++) count *= (size_t)tensor->shape[i];
    tensor->data = ew_widen(&model->arena, tensor->dtype, tensor->data, count);
    tensor->dtype = ew_widened(tensor->dtype);
    tensor->bytes = count;
    return tensor->data ? EDGE_OK : EDGE_NO_MEMORY;
}

/* Attributes are read without asking whether they are aligned. */
static edge_status read_aligned(ew_proto proto, edge_model *model, edge_tensor *tensor) {
    EW_TRY(ew_read_tensor(proto, model, tensor, NULL));
    if (ew_is_small(tensor->dtype)) return widen(model, tensor);
    if ((uintptr_t)tensor->data % ew_dtype_bytes(tensor->dtype) == 0) return EDGE_OK;
    void *copy = ew_arena_get_dirty(&model->arena, tensor->bytes);
    if (!copy) return EDGE_NO_MEMORY;
    tensor->data = memcpy(copy, tensor->data, tensor->bytes);
    return EDGE_OK;
}

edge_status ew_read_attribute(ew_proto whole, edge_model *model, ew_attribute *attribute) {
    ew_arena *arena = &model->arena;
    *attribute = (ew_attribute){.name = "", .s = ""};
    ew_proto proto = whole;
    ew_field field;
    bool more;
    uint64_t type = 0;
    for (;;) {
        EW_TRY(ew_proto_next(&proto, &field, &more));
        if (!more) break;
        bool bytes = field.wire == EW_BYTES;
        if (field.number == NAME && bytes) EW_TRY(ew_proto_string(field.bytes, arena, &attribute->name));
        if (field.number == S && bytes) EW_TRY(ew_proto_string(field.bytes, arena, &attribute->s));
        if (field.number == T && bytes) EW_TRY(read_aligned(field.bytes, model, &attribute->tensor));
        if (field.number == F) attribute->f = as_float(field.value);
        if (field.number == I) attribute->i = (int64_t)field.value;
        if (field.number == TYPE) type = field.value;
    }
    switch (type) {
    case EW_ATTR_FLOAT:
    case EW_ATTR_INT:
    case EW_ATTR_STRING:
    case EW_ATTR_TENSOR: attribute->type = (int)type; return EDGE_OK;
    case EW_ATTR_FLOATS: attribute->type = EW_ATTR_FLOATS; return read_floats(whole, arena, attribute);
    case EW_ATTR_INTS: attribute->type = EW_ATTR_INTS; return read_ints(whole, arena, attribute);
    case EW_ATTR_STRINGS: attribute->type = EW_ATTR_STRINGS; return read_strings(whole, arena, attribute);
    default: attribute->type = EW_ATTR_OTHER; return EDGE_OK;
    }
}
