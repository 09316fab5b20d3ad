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

/* What is called on its own: one graph. */
typedef struct ew_entry {
    const char *name;
    ew_blob file;
    ew_axis_bound *bounds;
    int bound_count;
    const ew_json *about; /* in the manifest */
} ew_entry;

/* What runs hand from one to the next. */
typedef struct ew_state_spec {
    const char *input, *output; /* names of the manifest */
    edge_dtype dtype;
    int32_t rank, axis; /* axis -1: runs replace it */
    int64_t dims[EDGE_MAX_RANK], max_length; /* dims[axis] is max_length */
    size_t outer, position_bytes; /* of a growing one: [outer][max_length] positions */
    size_t bytes, offset;         /* of all; in the memory of an edge_state */
    bool carried; /* one entry reads and replaces it */
} ew_state_spec;

typedef struct ew_bundle {
    ew_entry *entries; /* the first is "main" */
    int entry_count;
    ew_state_spec *states;
    int state_count;
    size_t state_bytes;
    const char *weights; /* the file of whose constants weights are packed */
    ew_packed packed;    /* those for this machine; without a file where there are none */
    const ew_json *manifest;
    const char **labels; /* one a class, or none at all */
    size_t label_count;
} ew_bundle;

/* Reads and checks a bundle; the files of the entries and packed.file are the caller's to release, on failure too. */
edge_status ew_bundle_read(ew_store *store, bool check_hashes, ew_arena *arena, ew_bundle *bundle);
/* A text or whole number that an object of the manifest must have. */
edge_status ew_json_string_at(const ew_json *object, const char *name, const char **text);
edge_status ew_json_int_at(const ew_json *object, const char *name, int64_t *number);
/* The constants of all entries, where they lie in one file. */
#define EW_WEIGHTS_FILE "weights.bin"
/* Whether the manifest lists a file. */
bool ew_bundle_lists(const ew_bundle *bundle, const char *name);
/* What the manifest says of states; states_manifest.c. */
edge_status ew_states_read(const ew_json *manifest, ew_arena *arena, ew_bundle *bundle);
/* The name by which the engine knows an input ("inputs") or output ("outputs") of an entry, NULL: it has none. */
const char *ew_entry_binding(const ew_entry *entry, const char *side, const char *name);
/* Lines of a file into the bundle's labels; preprocess_labels.c. */
edge_status ew_labels_read(const ew_blob *file, ew_arena *arena, ew_bundle *bundle);

#endif
