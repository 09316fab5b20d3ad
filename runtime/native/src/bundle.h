/* A bundle: what runtime/BUNDLE.md says, as far as a board needs it. */
#ifndef EW_BUNDLE_H
#define EW_BUNDLE_H

#include "blob.h"
#include "json.h"
#include "packed.h"

/* The files of a bundle, by name: of a folder or of an archive. */
typedef struct ew_store ew_store;
edge_status ew_store_of_folder(const char *path, ew_arena *arena, ew_store **store);
edge_status ew_store_of_archive(const edge_source *source, ew_arena *arena, ew_store **store);
edge_status ew_store_get(ew_store *store, const char *name, ew_blob *bytes);

/* The bounds that a manifest gives to axis `axis` of an input, by the name that the engine knows the input by. */
typedef struct ew_axis_bound {
    const char *input;
    int axis;
    int64_t min, max;
} ew_axis_bound;

typedef struct ew_bundle {
    ew_blob model; /* the file of entry "main" */
    ew_packed packed; /* its weights for this machine; without a file where there is none */
    ew_axis_bound *bounds;
    int bound_count;
    const ew_json *manifest;
    const char **labels; /* one a class, or none at all */
    size_t label_count;
} ew_bundle;

/* Reads and checks a bundle; bundle->model and bundle->packed.file are the caller's to release, on failure too. */
edge_status ew_bundle_read(ew_store *store, bool check_hashes, ew_arena *arena, ew_bundle *bundle);
/* Lines of a file into the bundle's labels; preprocess_labels.c. */
edge_status ew_labels_read(const ew_blob *file, ew_arena *arena, ew_bundle *bundle);

#endif
