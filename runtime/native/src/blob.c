#include "blob.h"

edge_status ew_blob_get(const edge_source *source, uint64_t offset, uint64_t bytes, ew_arena *arena, ew_blob *result) {
    if (offset > source->bytes || bytes > source->bytes - offset || bytes > SIZE_MAX)
        return ew_fail(EDGE_INVALID_MODEL, "bytes %llu to %llu are beyond the end of the file",
                       (unsigned long long)offset, (unsigned long long)(offset + bytes));
    const void *mapped = source->map ? source->map(source->user, offset, (size_t)bytes) : NULL;
    if (mapped) {
        *result = (ew_blob){mapped, (size_t)bytes, *source};
        return EDGE_OK;
    }
    void *copy = ew_arena_get(arena, (size_t)bytes);
    if (!copy) return EDGE_NO_MEMORY;
    if (bytes && source->read_at(source->user, offset, copy, (size_t)bytes) != EDGE_OK)
        return ew_fail(EDGE_IO, "%llu bytes at %llu cannot be read", (unsigned long long)bytes,
                       (unsigned long long)offset);
    *result = (ew_blob){.data = copy, .bytes = (size_t)bytes};
    return EDGE_OK;
}

void ew_blob_release(ew_blob *bytes) {
    if (bytes->from.release) bytes->from.release(bytes->from.user, bytes->data, bytes->bytes);
    *bytes = (ew_blob){0};
}

static edge_status read_memory(void *user, uint64_t offset, void *into, size_t bytes) {
    memcpy(into, (const uint8_t *)user + offset, bytes);
    return EDGE_OK;
}

static const void *map_memory(void *user, uint64_t offset, size_t bytes) {
    (void)bytes;
    return (const uint8_t *)user + offset;
}

edge_source ew_source_of_memory(const ew_blob *memory) {
    return (edge_source){.struct_size = sizeof(edge_source),
                         .user = (void *)(uintptr_t)memory->data,
                         .bytes = memory->bytes,
                         .read_at = read_memory,
                         .map = map_memory};
}
