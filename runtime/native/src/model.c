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
    ew_blob_release(&model->bundle.model);
    ew_blob_release(&model->archive);
    ew_arena arena = model->arena; /* the model lies in its own arena */
    ew_arena_free(&arena);
}

static edge_status read_model(edge_model *model) {
    const ew_blob *file = &model->bundle.model;
    EW_TRY(ew_read_onnx(model, file->data, file->bytes));
    return ew_weights_init(&model->weights, model->graph.value_count, file, &model->bundle.packed,
                           &model->arena.allocator);
}

static edge_status read_bundle(edge_model *model, ew_store *store, const edge_model_options *options) {
    EW_TRY(ew_bundle_read(store, !options->skip_hashes, &model->arena, &model->bundle));
    return read_model(model);
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
    EW_TRY(ew_blob_get(source, 0, source->bytes, &model->arena, &model->bundle.model));
    return read_model(model);
}

static edge_status finish(edge_status status, edge_model *model, edge_model **result) {
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

static edge_status read_path(edge_model *model, const char *path, const edge_model_options *options) {
    if (ew_is_folder(path)) {
        ew_store *store;
        EW_TRY(ew_store_of_folder(path, &model->arena, &store));
        return read_bundle(model, store, options);
    }
    EW_TRY(ew_blob_of_file(path, &model->archive));
    edge_source source = ew_source_of_memory(&model->archive);
    return read_source(model, &source, options);
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
