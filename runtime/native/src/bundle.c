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

edge_status ew_json_string_at(const ew_json *object, const char *name, const char **text) {
    const ew_json *value = object ? ew_json_get(object, name) : NULL;
    if (value && ew_json_string(value, text)) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "the manifest has no text '%s'", name);
}

edge_status ew_json_int_at(const ew_json *object, const char *name, int64_t *number) {
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
    EW_TRY(ew_json_int_at(about, "bytes", &bytes));
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
    EW_TRY(ew_json_string_at(manifest, "schema", &schema));
    if (strncmp(schema, SCHEMA_MAJOR, strlen(SCHEMA_MAJOR)) != 0)
        return ew_fail(EDGE_UNSUPPORTED, "the bundle has schema %s, this engine reads %sx", schema, SCHEMA_MAJOR);
    EW_TRY(ew_json_string_at(manifest, "format", &format));
    if (strcmp(format, "onnx") != 0)
        return ew_fail(EDGE_UNSUPPORTED, "the bundle holds a model in format '%s'; this engine runs 'onnx'", format);
    return EDGE_OK;
}

static edge_status add_bounds(const ew_json *input, ew_entry *entry) {
    const char *binding, *dimension;
    EW_TRY(ew_json_string_at(input, "binding", &binding));
    const ew_json *shape = ew_json_get(input, "shape"), *bounds = ew_json_get(input, "bounds");
    for (size_t axis = 0; shape && axis < ew_json_count(shape) && axis < EDGE_MAX_RANK; axis++) {
        if (!ew_json_string(ew_json_at(shape, axis), &dimension)) continue;
        const ew_json *limits = bounds ? ew_json_get(bounds, dimension) : NULL;
        ew_axis_bound *bound = &entry->bounds[entry->bound_count++];
        *bound = (ew_axis_bound){.input = binding, .axis = (int)axis};
        EW_TRY(ew_json_int_at(limits, "min", &bound->min));
        EW_TRY(ew_json_int_at(limits, "max", &bound->max));
    }
    return EDGE_OK;
}

bool ew_bundle_lists(const ew_bundle *bundle, const char *name) {
    return ew_json_get(ew_json_get(bundle->manifest, "files"), name) != NULL;
}

static edge_status read_entry(ew_store *store, const ew_json *about, ew_arena *arena, const ew_bundle *bundle,
                              ew_entry *entry) {
    const char *file;
    EW_TRY(ew_json_string_at(about, "file", &file));
    const ew_json *inputs = ew_json_get(about, "inputs");
    if (!ew_bundle_lists(bundle, file))
        return ew_fail(EDGE_INVALID_MODEL, "entry '%s' is in '%s', which the manifest does not list", ew_json_name(about),
                       file);
    size_t count = inputs ? ew_json_count(inputs) : 0;
    *entry = (ew_entry){.name = ew_json_name(about), .about = about};
    entry->bounds = ew_arena_get(arena, count * EDGE_MAX_RANK * sizeof *entry->bounds);
    if (!entry->bounds) return EDGE_NO_MEMORY;
    for (size_t i = 0; i < count; i++) EW_TRY(add_bounds(ew_json_at(inputs, i), entry));
    return ew_store_get(store, file, &entry->file);
}

/* Weights packed for the instruction set in use, or for one whose kernels read the same. */
static edge_status read_packed(ew_store *store, const ew_json *files, ew_arena *arena, ew_bundle *bundle) {
    char name[48];
    const char *sha256;
    int64_t bytes;
    EW_TRY(ew_json_string_at(bundle->entries[0].about, "file", &bundle->weights));
    if (ew_bundle_lists(bundle, EW_WEIGHTS_FILE)) bundle->weights = EW_WEIGHTS_FILE;
    EW_TRY(ew_json_string_at(ew_json_get(files, bundle->weights), "sha256", &sha256));
    EW_TRY(ew_json_int_at(ew_json_get(files, bundle->weights), "bytes", &bytes));
    int own = edge_isa_chosen();
    for (int isa = 0; own >= 0 && isa < EDGE_ISA_COUNT; isa++) {
        snprintf(name, sizeof name, "packed/%s-v%d.bin", edge_isa_name((edge_isa)isa), EW_PACKING_VERSION);
        if (memcmp(&ew_layouts[isa], &ew_layouts[own], sizeof *ew_layouts) != 0 || !ew_json_get(files, name)) continue;
        EW_TRY(ew_store_get(store, name, &bundle->packed.file));
        return ew_packed_open(&bundle->packed, sha256, (size_t)bytes, arena);
    }
    return EDGE_OK;
}

/* "main" comes first. */
static edge_status read_entries(ew_store *store, const ew_json *manifest, ew_arena *arena, ew_bundle *bundle) {
    const ew_json *entries = ew_json_get(manifest, "entries"), *first = ew_json_get(entries, "main");
    if (!first) return ew_fail(EDGE_INVALID_MODEL, "the manifest has no entry 'main'");
    size_t count = ew_json_count(entries);
    bundle->entries = ew_arena_get(arena, count * sizeof *bundle->entries);
    if (!bundle->entries) return EDGE_NO_MEMORY;
    EW_TRY(read_entry(store, first, arena, bundle, &bundle->entries[bundle->entry_count++]));
    for (size_t i = 0; i < count; i++)
        if (ew_json_at(entries, i) != first)
            EW_TRY(read_entry(store, ew_json_at(entries, i), arena, bundle, &bundle->entries[bundle->entry_count++]));
    return EDGE_OK;
}

const char *ew_entry_binding(const ew_entry *entry, const char *side, const char *name) {
    const ew_json *tensors = ew_json_get(entry->about, side);
    for (size_t i = 0; i < ew_json_count(tensors); i++) {
        const ew_json *tensor = ew_json_at(tensors, i);
        const char *known, *binding;
        if (ew_json_string(ew_json_get(tensor, "name"), &known) && strcmp(known, name) == 0)
            return ew_json_string(ew_json_get(tensor, "binding"), &binding) ? binding : NULL;
    }
    return NULL;
}

static edge_status read_labels(ew_store *store, const ew_json *manifest, ew_arena *arena, ew_bundle *bundle) {
    const char *name;
    ew_blob file = {0};
    if (ew_json_type_of(ew_json_get(manifest, "labels")) == EW_JSON_NULL) return EDGE_OK;
    EW_TRY(ew_json_string_at(manifest, "labels", &name));
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
    EW_TRY(read_entries(store, manifest, arena, bundle));
    EW_TRY(read_packed(store, ew_json_get(manifest, "files"), arena, bundle));
    return ew_states_read(manifest, arena, bundle);
}

edge_status ew_bundle_read(ew_store *store, bool check_hashes, ew_arena *arena, ew_bundle *bundle) {
    ew_blob manifest = {0};
    *bundle = (ew_bundle){0};
    EW_TRY(ew_store_get(store, "manifest.json", &manifest));
    edge_status status = read_manifest(store, &manifest, check_hashes, arena, bundle);
    ew_blob_release(&manifest);
    return status;
}
