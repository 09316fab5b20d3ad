/* Constants in files beside the model's, as ONNX's external data. */
#include <inttypes.h>

#include "graph.h"

static edge_status open_file(edge_model *model, const char *name, ew_outside **result) {
    for (ew_outside *file = model->outside; file; file = file->next)
        if (strcmp(file->name, name) == 0) {
            *result = file;
            return EDGE_OK;
        }
    if (!model->store)
        return ew_fail(EDGE_UNSUPPORTED, "constants lie in the file '%s', but the model was not opened by its path", name);
    if (model->bundle.manifest && !ew_bundle_lists(&model->bundle, name))
        return ew_fail(EDGE_INVALID_MODEL, "constants lie in '%s', which the manifest does not list", name);
    ew_outside *file = ew_arena_get(&model->arena, sizeof *file);
    if (!file) return EDGE_NO_MEMORY;
    EW_TRY(ew_store_get(model->store, name, &file->bytes));
    file->name = name;
    file->next = model->outside;
    *result = model->outside = file;
    return EDGE_OK;
}

edge_status ew_outside_get(edge_model *model, const char *name, uint64_t offset, uint64_t bytes, const uint8_t **data) {
    ew_outside *file = NULL;
    EW_TRY(open_file(model, name, &file));
    if (offset > file->bytes.bytes || bytes > file->bytes.bytes - offset)
        return ew_fail(EDGE_INVALID_MODEL, "a constant takes %" PRIu64 " bytes at %" PRIu64 " of '%s', which has %zu", bytes,
                       offset, name, file->bytes.bytes);
    *data = file->bytes.data + offset;
    return EDGE_OK;
}
