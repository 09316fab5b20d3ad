/* A file of packed weights, `packed/<isa>-v1.bin`: runtime/BUNDLE.md. */
#ifndef EW_PACKED_H
#define EW_PACKED_H

#include "blob.h"
#include "edge_kernels.h"

/* The version of what the packers write; it is in the code of every packing. */
#define EW_PACKING_VERSION 1

/* What packing depends on: columns of a panel of f32 and of 8 bits, and taps of a depthwise kernel for 8 bits that lie
 * together.  Of every instruction set, whether this build has it or not. */
typedef struct ew_layout {
    uint8_t f32, s8, taps;
} ew_layout;

extern const ew_layout ew_layouts[EDGE_ISA_COUNT];

#define EW_PACKED_MAGIC 0x4b43415045474445u /* "EDGEPACK", lowest byte first */

typedef struct ew_packed_entry {
    uint64_t source; /* where the constant lies in the model's file */
    uint64_t offset; /* of the packed bytes in this file, a multiple of 64 */
    uint64_t bytes;
    uint32_t code;
    uint32_t zero;
} ew_packed_entry;

typedef struct ew_packed_header {
    uint64_t magic;
    uint32_t version, count; /* of entries, which follow */
    uint64_t bytes;          /* of this file */
    uint64_t model_bytes;
    uint8_t model_sha256[32];
} ew_packed_header;

typedef struct ew_packed {
    ew_blob file; /* the caller's to release */
    const ew_packed_entry *entries;
    size_t count;
} ew_packed;

/* Takes a file whose `file` is set: without entries where it was made from another model or by another version. */
edge_status ew_packed_open(ew_packed *packed, const char *model_sha256, size_t model_bytes, ew_arena *arena);
/* NULL when it is not there with so many bytes. */
const void *ew_packed_find(const ew_packed *packed, uint64_t source, uint32_t code, size_t bytes);

#endif
