#include "bundle.h"

#include <stdio.h>

#include "edge_kernels.h"
#include "sha256.h"
#include "sha256_lanes.h"

#define SCHEMA_MAJOR "1."
#define MOST_MANIFEST_BYTES ((size_t)64 << 20)

/* Whether text is the digest in hex. */
static bool is_digest(const char *text, const uint8_t digest[32]) {
    char hex[65];
    ew_sha256_hex(digest, hex);
    return memcmp(text, hex, 64) == 0;
}

/* manifest.sha256 holds 64 digits and a line feed, nothing else. */
static edge_status check_manifest(ew_store *store, const ew_blob *manifest) {
    ew_blob seal = {0};
    ew_sha256 hash;
    uint8_t digest[32];
    EW_TRY(ew_store_get(store, "manifest.sha256", &seal));
    ew_sha256_init(&hash);
    ew_sha256_add(&hash, manifest->data, manifest->bytes);
    ew_sha256_finish(&hash, digest);
    bool same = seal.bytes == 65 && is_digest((const char *)seal.data, digest) && seal.data[64] == '\n';
    ew_blob_release(&seal);
    return same ? EDGE_OK : ew_fail(EDGE_HASH_MISMATCH, "manifest.json differs from manifest.sha256");
}

static edge_status string_at(const ew_json *object, const char *name, const char **text) {
    const ew_json *value = object ? ew_json_get(object, name) : NULL;
    if (value && ew_json_string(value, text)) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "the manifest has no text '%s'", name);
}

static edge_status int_at(const ew_json *object, const char *name, int64_t *number) {
    const ew_json *value = object ? ew_json_get(object, name) : NULL;
    if (value && ew_json_int(value, number)) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "the manifest has no whole number '%s'", name);
}

/* By its chunks, as many as one call takes at a time: their hashes and the length are all in the sealed manifest. */
static bool same_chunks(const ew_blob *file, const ew_json *chunks) {
    uint8_t digests[EW_SHA256_MOST_LANES][32];
    const size_t most = (size_t)EW_SHA256_MOST_LANES * EW_SHA256_CHUNK;
    for (size_t i = 0, at = 0; at < file->bytes; at += most) {
        size_t bytes = file->bytes - at < most ? file->bytes - at : most;
        ew_sha256_chunks(file->data + at, bytes, digests);
        for (size_t k = 0; k * EW_SHA256_CHUNK < bytes; k++) {
            const char *wanted;
            if (!ew_json_string(ew_json_at(chunks, i++), &wanted) || strlen(wanted) != 64 ||
                !is_digest(wanted, digests[k]))
                return false;
        }
    }
    return true;
}

static edge_status compare(const ew_blob *file, const char *name, const ew_json *about, bool check_hashes) {
    int64_t bytes;
    const ew_json *chunks = ew_json_get(about, "chunk_sha256");
    EW_TRY(int_at(about, "bytes", &bytes));
    if (bytes < 0 || (uint64_t)bytes != file->bytes)
        return ew_fail(EDGE_HASH_MISMATCH, "'%s' has %zu bytes, the manifest says %lld", name, file->bytes,
                       (long long)bytes);
    size_t wanted = file->bytes / EW_SHA256_CHUNK + (file->bytes % EW_SHA256_CHUNK != 0);
    if (ew_json_type_of(chunks) != EW_JSON_ARRAY || ew_json_count(chunks) != wanted)
        return ew_fail(EDGE_INVALID_MODEL, "the manifest has %zu chunk hashes of '%s', its %zu bytes need %zu",
                       ew_json_count(chunks), name, file->bytes, wanted);
    return !check_hashes || same_chunks(file, chunks)
               ? EDGE_OK
               : ew_fail(EDGE_HASH_MISMATCH, "'%s' differs from its hashes in the manifest", name);
}

static edge_status check_file(ew_store *store, const char *name, const ew_json *about, bool check_hashes) {
    ew_blob file = {0};
    EW_TRY(ew_store_get(store, name, &file));
    edge_status status = compare(&file, name, about, check_hashes);
    ew_blob_release(&file);
    return status;
}

static edge_status check_files(ew_store *store, const ew_json *manifest, bool check_hashes) {
    const ew_json *files = ew_json_get(manifest, "files");
    if (!files) return ew_fail(EDGE_INVALID_MODEL, "the manifest lists no files");
    for (size_t i = 0; i < ew_json_count(files); i++) {
        const ew_json *file = ew_json_at(files, i);
        const char *name = ew_json_name(file);
        if (!name) return ew_fail(EDGE_INVALID_MODEL, "the manifest's 'files' is no object");
        EW_TRY(check_file(store, name, file, check_hashes));
    }
    return EDGE_OK;
}

static edge_status check_kind(const ew_json *manifest) {
    const char *schema, *format;
    EW_TRY(string_at(manifest, "schema", &schema));
    if (strncmp(schema, SCHEMA_MAJOR, strlen(SCHEMA_MAJOR)) != 0)
        return ew_fail(EDGE_UNSUPPORTED, "the bundle has schema %s, this engine reads %sx", schema, SCHEMA_MAJOR);
    EW_TRY(string_at(manifest, "format", &format));
    if (strcmp(format, "onnx") != 0)
        return ew_fail(EDGE_UNSUPPORTED, "the bundle holds a model in format '%s'; this engine runs 'onnx'", format);
    return EDGE_OK;
}

static edge_status add_bounds(const ew_json *input, ew_bundle *bundle) {
    const char *binding, *dimension;
    EW_TRY(string_at(input, "binding", &binding));
    const ew_json *shape = ew_json_get(input, "shape"), *bounds = ew_json_get(input, "bounds");
    for (size_t axis = 0; shape && axis < ew_json_count(shape) && axis < EDGE_MAX_RANK; axis++) {
        if (!ew_json_string(ew_json_at(shape, axis), &dimension)) continue;
        const ew_json *limits = bounds ? ew_json_get(bounds, dimension) : NULL;
        ew_axis_bound *bound = &bundle->bounds[bundle->bound_count++];
        *bound = (ew_axis_bound){.input = binding, .axis = (int)axis};
        EW_TRY(int_at(limits, "min", &bound->min));
        EW_TRY(int_at(limits, "max", &bound->max));
    }
    return EDGE_OK;
}

/* Weights packed for the instruction set in use, or for one whose kernels read the same. */
static edge_status read_packed(ew_store *store, const ew_json *files, const char *model, ew_arena *arena,
                               ew_bundle *bundle) {
    char name[48];
    const char *sha256;
    EW_TRY(string_at(ew_json_get(files, model), "sha256", &sha256));
    int own = edge_isa_chosen();
    for (int isa = 0; own >= 0 && isa < EDGE_ISA_COUNT; isa++) {
        snprintf(name, sizeof name, "packed/%s-v%d.bin", edge_isa_name((edge_isa)isa), EW_PACKING_VERSION);
        if (memcmp(&ew_layouts[isa], &ew_layouts[own], sizeof *ew_layouts) != 0 || !ew_json_get(files, name)) continue;
        EW_TRY(ew_store_get(store, name, &bundle->packed.file));
        return ew_packed_open(&bundle->packed, sha256, bundle->model.bytes, arena);
    }
    return EDGE_OK;
}

static edge_status read_entry(ew_store *store, const ew_json *manifest, ew_arena *arena, ew_bundle *bundle) {
    const ew_json *entries = ew_json_get(manifest, "entries"), *entry = entries ? ew_json_get(entries, "main") : NULL;
    const char *file;
    EW_TRY(string_at(entry, "file", &file));
    const ew_json *inputs = ew_json_get(entry, "inputs"), *files = ew_json_get(manifest, "files");
    if (!ew_json_get(files, file))
        return ew_fail(EDGE_INVALID_MODEL, "entry 'main' is in '%s', which the manifest does not list", file);
    size_t count = inputs ? ew_json_count(inputs) : 0;
    bundle->bounds = ew_arena_get(arena, count * EDGE_MAX_RANK * sizeof *bundle->bounds);
    if (!bundle->bounds) return EDGE_NO_MEMORY;
    for (size_t i = 0; i < count; i++) EW_TRY(add_bounds(ew_json_at(inputs, i), bundle));
    EW_TRY(ew_store_get(store, file, &bundle->model));
    return read_packed(store, files, file, arena, bundle);
}

static edge_status read_labels(ew_store *store, const ew_json *manifest, ew_arena *arena, ew_bundle *bundle) {
    const char *name;
    ew_blob file = {0};
    if (ew_json_type_of(ew_json_get(manifest, "labels")) == EW_JSON_NULL) return EDGE_OK;
    EW_TRY(string_at(manifest, "labels", &name));
    if (!ew_json_get(ew_json_get(manifest, "files"), name))
        return ew_fail(EDGE_INVALID_MODEL, "the labels are in '%s', which the manifest does not list", name);
    EW_TRY(ew_store_get(store, name, &file));
    edge_status status = ew_labels_read(&file, arena, bundle);
    ew_blob_release(&file);
    return status;
}

static edge_status read_manifest(ew_store *store, const ew_blob *bytes, bool check_hashes, ew_arena *arena,
                                 ew_bundle *bundle) {
    const ew_json *manifest;
    if (bytes->bytes > MOST_MANIFEST_BYTES)
        return ew_fail(EDGE_INVALID_MODEL, "manifest.json has %zu bytes", bytes->bytes);
    EW_TRY(check_manifest(store, bytes));
    EW_TRY(ew_json_parse((const char *)bytes->data, bytes->bytes, arena, &manifest));
    EW_TRY(check_kind(manifest));
    EW_TRY(check_files(store, manifest, check_hashes));
    EW_TRY(read_labels(store, manifest, arena, bundle));
    bundle->manifest = manifest;
    return read_entry(store, manifest, arena, bundle);
}

edge_status ew_bundle_read(ew_store *store, bool check_hashes, ew_arena *arena, ew_bundle *bundle) {
    ew_blob manifest = {0};
    *bundle = (ew_bundle){0};
    EW_TRY(ew_store_get(store, "manifest.json", &manifest));
    edge_status status = read_manifest(store, &manifest, check_hashes, arena, bundle);
    ew_blob_release(&manifest);
    return status;
}
