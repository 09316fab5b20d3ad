/* Bytes that were got from somewhere and go back there. */
#ifndef EW_BLOB_H
#define EW_BLOB_H

#include "base.h"

typedef struct ew_blob {
    const uint8_t *data;
    size_t bytes;
    edge_source from; /* release == NULL: nothing to give back */
} ew_blob;

/* A range of a source: mapped where it can be, else read into the arena. */
edge_status ew_blob_get(const edge_source *source, uint64_t offset, uint64_t bytes, ew_arena *arena, ew_blob *result);
void ew_blob_release(ew_blob *bytes);
/* A source over memory; the bytes stay the caller's. */
edge_source ew_source_of_memory(const ew_blob *memory);

#endif
