#include "weights.h"

edge_status ew_weights_init(ew_weights *weights, const ew_blob *source, const ew_packed *file,
                            const edge_allocator *allocator) {
    *weights = (ew_weights){.source = source, .file = file};
    ew_arena_init(&weights->arena, allocator);
    weights->buckets = ew_arena_get(&weights->arena, EW_WEIGHT_BUCKETS * sizeof *weights->buckets);
    return weights->buckets ? ew_lock_make(&weights->arena, &weights->lock) : EDGE_NO_MEMORY;
}

void ew_weights_free(ew_weights *weights) {
    ew_lock_free(weights->lock);
    ew_arena_free(&weights->arena);
}

static ew_made **bucket_of(const ew_weights *weights, const void *constant) {
    return &weights->buckets[((uintptr_t)constant >> 4) % EW_WEIGHT_BUCKETS];
}

static const ew_made *find(const ew_weights *weights, const void *constant, uint32_t code, size_t bytes) {
    const ew_made *made = *bucket_of(weights, constant);
    while (made && (made->constant != constant || made->code != code || made->bytes != bytes)) made = made->next;
    return made;
}

/* Behind all others. */
static void add(ew_weights *weights, ew_made *made) {
    ew_made **bucket = bucket_of(weights, made->constant);
    made->next = *bucket;
    *bucket = made;
    if (weights->last) weights->last->later = made;
    else weights->first = made;
    weights->last = made;
}

bool ew_weights_source(const ew_weights *weights, const void *constant, uint64_t *offset) {
    *offset = (uintptr_t)constant - (uintptr_t)weights->source->data;
    return *offset < weights->source->bytes;
}

static const void *find_packed(const ew_weights *weights, const void *constant, uint32_t code, size_t bytes) {
    uint64_t source;
    if (!code || !weights->file || !ew_weights_source(weights, constant, &source)) return NULL;
    return ew_packed_find(weights->file, source, code, bytes);
}

static edge_status make(ew_weights *weights, const void *constant, uint32_t code, size_t bytes, ew_fill fill,
                        const void *context, const void **result) {
    const ew_made *there = find(weights, constant, code, bytes);
    if (there) {
        *result = there->data;
        return EDGE_OK;
    }
    ew_made *made = ew_arena_get(&weights->arena, sizeof *made);
    if (!made) return EDGE_NO_MEMORY;
    *result = find_packed(weights, constant, code, bytes);
    if (!*result) {
        void *into = ew_arena_get_dirty(&weights->arena, bytes);
        if (!into) return EDGE_NO_MEMORY;
        EW_TRY(fill(context, into));
        *result = into;
    }
    *made = (ew_made){.constant = constant, .code = code, .data = *result, .bytes = bytes};
    add(weights, made);
    return EDGE_OK;
}

edge_status ew_weights_get(ew_weights *weights, const void *constant, uint32_t code, size_t bytes, ew_fill fill,
                           const void *context, const void **result) {
    ew_lock_take(weights->lock);
    edge_status status = make(weights, constant, code, bytes, fill, context, result);
    ew_lock_give(weights->lock);
    return status;
}

size_t ew_weights_bytes(const ew_weights *weights) {
    ew_lock_take(weights->lock);
    size_t bytes = weights->arena.total_bytes;
    ew_lock_give(weights->lock);
    return bytes;
}
