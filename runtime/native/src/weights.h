/* What sessions make of a model's constants and share: weights packed for a kernel, copies that are aligned. */
#ifndef EW_WEIGHTS_H
#define EW_WEIGHTS_H

#include "blob.h"
#include "packed.h"
#include "threads/threads.h"

typedef struct ew_made ew_made;
struct ew_made {
    ew_made *next, *later; /* in its bucket; in the order in which they were made */
    const void *constant;  /* where it lies as it is */
    uint32_t code;         /* of the packing; 0: as it is, aligned */
    const void *data;
    size_t bytes;
};

enum { EW_WEIGHT_BUCKETS = 1024 };

typedef struct ew_weights {
    ew_arena arena;
    ew_lock *lock;
    const ew_packed *file; /* NULL: there is none */
    const ew_blob *source; /* the file that packed weights are made of */
    ew_made **buckets;
    ew_made *first, *last;
} ew_weights;

/* Fills memory that is not zeroed. */
typedef edge_status (*ew_fill)(const void *context, void *into);

edge_status ew_weights_init(ew_weights *weights, const ew_blob *source, const ew_packed *file,
                            const edge_allocator *allocator);
void ew_weights_free(ew_weights *weights);
/* A constant of the model in another form: made by fill when no session did and no packed file holds it. */
edge_status ew_weights_get(ew_weights *weights, const void *constant, uint32_t code, size_t bytes, ew_fill fill,
                           const void *context, const void **result);
/* Where a constant lies in the file that packed weights are made of; false: it is not there as it is. */
bool ew_weights_source(const ew_weights *weights, const void *constant, uint64_t *offset);
/* Bytes taken from the allocator so far. */
size_t ew_weights_bytes(const ew_weights *weights);

#endif
