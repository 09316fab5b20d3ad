/* Names of a graph's values: a table from name to index. */
#ifndef EW_NAMES_H
#define EW_NAMES_H

#include "base.h"

typedef struct ew_names {
    const char **keys;
    int *indices;
    size_t slots; /* a power of two, more than twice the names */
} ew_names;

edge_status ew_names_init(ew_names *names, ew_arena *arena, size_t most);
/* The place of a name: *index is there already, or -1 and to be set by the caller. The key is not copied. */
int *ew_names_at(ew_names *names, const char *key);

#endif
