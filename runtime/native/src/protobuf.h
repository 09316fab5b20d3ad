/* Protocol buffers on the wire: a reader over bytes that never leaves them. */
#ifndef EW_PROTOBUF_H
#define EW_PROTOBUF_H

#include "base.h"

typedef struct ew_proto {
    const uint8_t *at, *end;
} ew_proto;

typedef struct ew_field {
    uint32_t number;
    enum { EW_VARINT = 0, EW_FIXED64 = 1, EW_BYTES = 2, EW_FIXED32 = 5 } wire;
    uint64_t value; /* of a varint or fixed number */
    ew_proto bytes; /* of EW_BYTES */
} ew_field;

/* The next field.  *more is false at the end; bytes that are no field are EDGE_INVALID_MODEL. */
edge_status ew_proto_next(ew_proto *proto, ew_field *field, bool *more);
/* One number of a packed run; false at its end or when it is cut off. */
bool ew_proto_varint(ew_proto *proto, uint64_t *value);
/* Zero-terminated copy; fails on a zero byte inside. */
edge_status ew_proto_string(ew_proto bytes, ew_arena *arena, const char **text);
static inline size_t ew_proto_size(ew_proto proto) { return (size_t)(proto.end - proto.at); }

#endif
