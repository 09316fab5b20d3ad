#include "bundle.h"
#include "files/files.h"
#include "graph.h"

static edge_status read_options(const edge_model_options *given, edge_model_options *options) {
    *options = (edge_model_options){0};
    if (!given) return EDGE_OK;
    EW_TRY(ew_read_struct("model's options", given, options, sizeof *options));
    const edge_allocator *allocator = options->allocator;
    if (allocator && (allocator->struct_size < sizeof *allocator || !allocator->allocate || !allocator->release))
        return ew_fail(EDGE_INVALID_ARGUMENT, "the allocator lacks a function or its struct_size");
    return EDGE_OK;
}

static edge_status new_model(const edge_model_options *options, edge_model **result) {
    ew_arena arena;
    ew_arena_init(&arena, options->allocator);
    edge_model *model = ew_arena_get(&arena, sizeof *model);
    if (!model) return EDGE_NO_MEMORY;
    model->arena = arena;
    *result = model;
    return EDGE_OK;
}

void edge_model_free(edge_model *model) {
    if (!model) return;
    ew_weights_free(&model->weights);
    ew_blob_release(&model->bundle.packed.file);
    for (int i = 0; i < model->bundle.entry_count; i++) ew_blob_release(&model->bundle.entries[i].file);
    for (ew_outside *file = model->outside; file; file = file->next) ew_blob_release(&file->bytes);
    ew_blob_release(&model->archive);
    ew_arena arena = model->arena; /* the model lies in its own arena */
    ew_arena_free(&arena);
}

const ew_blob *ew_weights_file(const edge_model *model) {
    for (const ew_outside *file = model->outside; file; file = file->next)
        if (model->bundle.weights && strcmp(file->name, model->bundle.weights) == 0) return &file->bytes;
    return &model->bundle.entries[0].file;
}

static edge_status read_entries(edge_model *model) {
    model->graphs = ew_arena_get(&model->arena, (size_t)model->bundle.entry_count * sizeof *model->graphs);
    if (!model->graphs) return EDGE_NO_MEMORY;
    for (int i = 0; i < model->bundle.entry_count; i++) {
        edge_status status = ew_read_onnx(model, i);
        if (status != EDGE_OK && model->bundle.entry_count > 1)
            ew_prefix_error("entry '%s'", model->bundle.entries[i].name);
        if (status != EDGE_OK) return status;
    }
    return ew_weights_init(&model->weights, ew_weights_file(model), &model->bundle.packed, &model->arena.allocator);
}

static edge_status read_bundle(edge_model *model, ew_store *store, const edge_model_options *options) {
    model->store = store;
    EW_TRY(ew_bundle_read(store, !options->skip_hashes, &model->arena, &model->bundle));
    return read_entries(model);
}

/* A bare ONNX file. */
static edge_status read_file(edge_model *model, const edge_source *source) {
    ew_entry *entry = ew_arena_get(&model->arena, sizeof *entry);
    if (!entry) return EDGE_NO_MEMORY;
    EW_TRY(ew_blob_get(source, 0, source->bytes, &model->arena, &entry->file));
    entry->name = "main";
    model->bundle.entries = entry;
    model->bundle.entry_count = 1;
    return read_entries(model);
}

/* An archive begins with a local header of zip, "PK\3\4"; no ONNX file does, because field 10 of ModelProto does not
 * exist. */
static edge_status read_source(edge_model *model, const edge_source *source, const edge_model_options *options) {
    ew_blob start;
    EW_TRY(ew_blob_get(source, 0, source->bytes < 4 ? source->bytes : 4, &model->arena, &start));
    bool archive = start.bytes == 4 && memcmp(start.data, "PK\3\4", 4) == 0;
    ew_blob_release(&start);
    if (archive) {
        ew_store *store;
        EW_TRY(ew_store_of_archive(source, &model->arena, &store));
        return read_bundle(model, store, options);
    }
    return read_file(model, source);
}

static edge_status finish(edge_status status, edge_model *model, edge_model **result) {
    model->store = NULL;
    if (status == EDGE_OK) *result = model;
    else edge_model_free(model);
    return status;
}

edge_status edge_model_open_source(const edge_source *source, const edge_model_options *given, edge_model **result) {
    if (!source || !result || source->struct_size < sizeof *source || !source->read_at)
        return ew_fail(
            EDGE_INVALID_ARGUMENT,
            "edge_model_open_source needs a source with read_at and its struct_size, and a place for the model");
    edge_model_options options;
    edge_model *model = NULL;
    EW_TRY(read_options(given, &options));
    EW_TRY(new_model(&options, &model));
    return finish(read_source(model, source, &options), model, result);
}

edge_status edge_model_open_memory(const void *data, size_t bytes, const edge_model_options *options,
                                   edge_model **result) {
    if (!data) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_model_open_memory needs data");
    edge_source source = ew_source_of_memory(&(ew_blob){.data = data, .bytes = bytes});
    return edge_model_open_source(&source, options, result);
}

/* A bare ONNX file may have its constants beside it; an archive has its own files. */
static edge_status files_beside(edge_model *model, const char *path) {
    const char *end = strrchr(path, '/');
    size_t length = end ? (size_t)(end - path) + (end == path) : 0;
    char *folder = ew_arena_get(&model->arena, length + 2);
    if (!folder) return EDGE_NO_MEMORY;
    memcpy(folder, end ? path : ".", end ? length : 1);
    return ew_store_of_folder(folder, &model->arena, &model->store);
}

static edge_status read_path(edge_model *model, const char *path, const edge_model_options *options) {
    if (ew_is_folder(path)) {
        ew_store *store;
        EW_TRY(ew_store_of_folder(path, &model->arena, &store));
        return read_bundle(model, store, options);
    }
    EW_TRY(ew_blob_of_file(path, &model->archive));
    EW_TRY(files_beside(model, path));
    edge_source source = ew_source_of_memory(&model->archive);
    return read_source(model, &source, options);
}

const char *edge_model_entry(const edge_model *model, size_t index) {
    return model && index < (size_t)model->bundle.entry_count ? model->bundle.entries[index].name : NULL;
}

edge_status edge_model_open_path(const char *path, const edge_model_options *given, edge_model **result) {
    if (!path || !result)
        return ew_fail(EDGE_INVALID_ARGUMENT, "edge_model_open_path needs a path and a place for the model");
    edge_model_options options;
    edge_model *model = NULL;
    EW_TRY(read_options(given, &options));
    EW_TRY(new_model(&options, &model));
    edge_status status = read_path(model, path, &options);
    if (status != EDGE_OK) ew_prefix_error("'%s'", path);
    return finish(status, model, result);
}

size_t edge_model_memory_bytes(const edge_model *model) {
    return model ? model->arena.total_bytes + ew_weights_bytes(&model->weights) : 0;
}
