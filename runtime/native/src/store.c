/* The files of a bundle, in a folder or in an archive. */
#include <stdio.h>

#include "bundle.h"
#include "files/files.h"
#include "zip.h"

struct ew_store {
    ew_arena *arena;
    const char *folder; /* NULL: an archive */
    edge_source source;
    ew_zip zip;
};

edge_status ew_store_of_folder(const char *path, ew_arena *arena, ew_store **result) {
    ew_store *store = ew_arena_get(arena, sizeof *store);
    if (!store) return EDGE_NO_MEMORY;
    *store = (ew_store){.arena = arena, .folder = path};
    *result = store;
    return EDGE_OK;
}

edge_status ew_store_of_archive(const edge_source *source, ew_arena *arena, ew_store **result) {
    ew_store *store = ew_arena_get(arena, sizeof *store);
    if (!store) return EDGE_NO_MEMORY;
    *store = (ew_store){.arena = arena, .source = *source};
    EW_TRY(ew_zip_open(source->read_at, source->user, source->bytes, arena, &store->zip));
    *result = store;
    return EDGE_OK;
}

/* Relative, in normal form, and no way out of the folder. */
static bool is_safe(const char *name) {
    if (!*name || strpbrk(name, "\\:")) return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += part != name;
        size_t length = strcspn(part, "/");
        if (!length || (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
            return false;
    }
    return true;
}

static edge_status get_plain(ew_store *store, const char *name, ew_blob *bytes) {
    size_t length = strlen(store->folder) + strlen(name) + 2;
    char *path = ew_arena_get(store->arena, length);
    if (!path) return EDGE_NO_MEMORY;
    snprintf(path, length, "%s/%s", store->folder, name);
    return ew_blob_of_file(path, bytes);
}

edge_status ew_store_get(ew_store *store, const char *name, ew_blob *bytes) {
    if (!is_safe(name))
        return ew_fail(EDGE_INVALID_MODEL, "the bundle names a file '%s', which is no relative path in normal form",
                       name);
    if (store->folder) return get_plain(store, name, bytes);
    const ew_zip_entry *entry = ew_zip_find(&store->zip, name);
    if (entry) return ew_blob_get(&store->source, entry->offset, entry->bytes, store->arena, bytes);
    return ew_fail(EDGE_INVALID_MODEL, "the bundle has no file '%s'", name);
}
