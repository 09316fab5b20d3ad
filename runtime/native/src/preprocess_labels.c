/* The labels of a bundle: one a line of UTF-8, and only a line feed ends a line. */
#include "bundle.h"
#include "graph.h"
#include "utf8.h"

static bool is_utf8(const uint8_t *text, size_t bytes) {
    for (size_t at = 0, length; at < bytes; at += length)
        if (!(length = ew_utf8_bytes(text + at, bytes - at))) return false;
    return true;
}

edge_status ew_labels_read(const ew_blob *file, ew_arena *arena, ew_bundle *bundle) {
    size_t bytes = file->bytes, count = 1, room;
    if (!is_utf8(file->data, bytes)) return ew_fail(EDGE_INVALID_MODEL, "the labels are not UTF-8");
    if (bytes && file->data[bytes - 1] == '\n') bytes--;
    for (size_t i = 0; i < bytes; i++) count += file->data[i] == '\n';
    if (!ew_mul(count, sizeof *bundle->labels, &room)) room = SIZE_MAX;
    const char **labels = ew_arena_get(arena, room);
    char *text = labels ? ew_arena_get(arena, bytes + 1) : NULL;
    if (!text) return EDGE_NO_MEMORY;
    labels[0] = text;
    for (size_t i = 0, line = 0; i < bytes; i++) {
        bool end = file->data[i] == '\n';
        text[i] = end ? 0 : (char)file->data[i];
        if (end) labels[++line] = text + i + 1;
    }
    bundle->labels = labels;
    bundle->label_count = count;
    return EDGE_OK;
}

size_t edge_model_label_count(const edge_model *model) { return model ? model->bundle.label_count : 0; }

const char *edge_model_label(const edge_model *model, size_t index) {
    return index < edge_model_label_count(model) ? model->bundle.labels[index] : NULL;
}
