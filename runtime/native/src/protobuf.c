#include "protobuf.h"

bool ew_proto_varint(ew_proto *proto, uint64_t *value) {
    uint64_t result = 0;
    for (int shift = 0; shift < 70 && proto->at < proto->end; shift += 7) {
        uint8_t byte = *proto->at++;
        if (shift == 63 && byte > 1) return false;
        result |= (uint64_t)(byte & 0x7f) << (shift & 63);
        if (!(byte & 0x80)) {
            *value = result;
            return true;
        }
    }
    return false;
}

static bool fixed(ew_proto *proto, int bytes, uint64_t *value) {
    if (ew_proto_size(*proto) < (size_t)bytes) return false;
    *value = 0;
    for (int i = 0; i < bytes; i++) *value |= (uint64_t)proto->at[i] << (8 * i);
    proto->at += bytes;
    return true;
}

static bool span(ew_proto *proto, ew_proto *bytes) {
    uint64_t length;
    if (!ew_proto_varint(proto, &length) || length > ew_proto_size(*proto)) return false;
    *bytes = (ew_proto){proto->at, proto->at + length};
    proto->at += length;
    return true;
}

edge_status ew_proto_next(ew_proto *proto, ew_field *field, bool *more) {
    *more = proto->at < proto->end;
    if (!*more) return EDGE_OK;
    uint64_t key;
    bool good = ew_proto_varint(proto, &key) && key >> 3 != 0 && key >> 32 == 0;
    if (good) {
        *field = (ew_field){.number = (uint32_t)(key >> 3), .wire = (int)(key & 7)};
        switch (key & 7) {
        case EW_VARINT: good = ew_proto_varint(proto, &field->value); break;
        case EW_FIXED64: good = fixed(proto, 8, &field->value); break;
        case EW_FIXED32: good = fixed(proto, 4, &field->value); break;
        case EW_BYTES: good = span(proto, &field->bytes); break;
        default: good = false;
        }
    }
    return good ? EDGE_OK : ew_fail(EDGE_INVALID_MODEL, "the file is cut off or is no ONNX model");
}

edge_status ew_proto_string(ew_proto bytes, ew_arena *arena, const char **text) {
    size_t length = ew_proto_size(bytes);
    if (length && memchr(bytes.at, 0, length))
        return ew_fail(EDGE_INVALID_MODEL, "a text in the model has a zero byte");
    char *copy = ew_arena_get(arena, length + 1);
    if (!copy) return EDGE_NO_MEMORY;
    if (length) memcpy(copy, bytes.at, length);
    *text = copy;
    return EDGE_OK;
}
