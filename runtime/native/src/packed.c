#include "packed.h"

#include "sha256.h"

const ew_layout ew_layouts[EDGE_ISA_COUNT] = {
    [EDGE_ISA_SCALAR] = {8, 8, 1},       [EDGE_ISA_AVX2] = {16, 8, 1},    [EDGE_ISA_AVX512VNNI] = {32, 32, 4},
    [EDGE_ISA_NEON] = {8, 8, 1},         [EDGE_ISA_NEON_DOT] = {8, 8, 1}, [EDGE_ISA_WASM] = {8, 8, 1},
    [EDGE_ISA_WASM_RELAXED] = {8, 8, 1},
};

/* Made from this model by this version, with the bytes of numbers in the order of this machine. */
static bool is_ours(const ew_packed_header *header, const char *model_sha256, size_t model_bytes) {
    char hex[65];
    ew_sha256_hex(header->model_sha256, hex);
    return header->magic == EW_PACKED_MAGIC && header->version == EW_PACKING_VERSION &&
           header->model_bytes == model_bytes && strcmp(hex, model_sha256) == 0;
}

static edge_status check(const ew_packed_entry *entries, size_t count, size_t bytes) {
    for (size_t i = 0; i < count; i++)
        if (entries[i].offset % 64 || entries[i].offset > bytes || entries[i].bytes > bytes - entries[i].offset)
            return ew_fail(EDGE_INVALID_MODEL, "packed weights: entry %zu lies outside of the file or is not aligned",
                           i);
    return EDGE_OK;
}

edge_status ew_packed_open(ew_packed *packed, const char *model_sha256, size_t model_bytes, ew_arena *arena) {
    ew_packed_header header;
    if (packed->file.bytes < sizeof header) return EDGE_OK;
    memcpy(&header, packed->file.data, sizeof header);
    if (!is_ours(&header, model_sha256, model_bytes)) return EDGE_OK;
    if (header.bytes != packed->file.bytes || header.count > (header.bytes - sizeof header) / sizeof *packed->entries)
        return ew_fail(EDGE_INVALID_MODEL,
                       "packed weights: the file has %zu bytes, its header says %llu and %u entries",
                       packed->file.bytes, (unsigned long long)header.bytes, header.count);
    size_t bytes = header.count * sizeof *packed->entries;
    ew_packed_entry *entries = ew_arena_get(arena, bytes); /* a copy: the file may not be aligned */
    if (!entries) return EDGE_NO_MEMORY;
    memcpy(entries, packed->file.data + sizeof header, bytes);
    packed->entries = entries;
    packed->count = header.count;
    return check(entries, packed->count, packed->file.bytes);
}

const void *ew_packed_find(const ew_packed *packed, uint64_t source, uint32_t code, size_t bytes) {
    for (size_t i = 0; i < packed->count; i++) {
        const ew_packed_entry *e = &packed->entries[i];
        const uint8_t *at = packed->file.data + e->offset;
        if (e->source == source && e->code == code && e->bytes == bytes && (uintptr_t)at % sizeof(float) == 0)
            return at;
    }
    return NULL;
}
