/* JSON (RFC 8259) as a tree, for manifests: strict, no name twice in one object, no byte order mark.
 *
 * Every accessor takes NULL for a value that is absent, so calls can be nested: a wrong path ends in NULL or false. */
#ifndef EW_JSON_H
#define EW_JSON_H

#include "base.h"

#define EW_JSON_MAX_DEPTH 64 /* of arrays and objects in each other */

typedef struct ew_json ew_json;

typedef enum ew_json_type {
    EW_JSON_ABSENT,
    EW_JSON_NULL,
    EW_JSON_FALSE,
    EW_JSON_TRUE,
    EW_JSON_INTEGER, /* written without fraction and exponent, fits in int64_t */
    EW_JSON_REAL,    /* every other number */
    EW_JSON_STRING,
    EW_JSON_ARRAY,
    EW_JSON_OBJECT
} ew_json_type;

/* The tree lies in the arena; the text is not needed afterwards.  Errors name line and column, both from 1 on. */
edge_status ew_json_parse(const char *text, size_t bytes, ew_arena *arena, const ew_json **root);

ew_json_type ew_json_type_of(const ew_json *value);
/* Values in an array or object, else 0. */
size_t ew_json_count(const ew_json *value);
/* One of them, NULL beyond the last.  Those of an object are in the order of their names' bytes. */
const ew_json *ew_json_at(const ew_json *value, size_t index);
/* The name under which an object holds this value, else NULL. */
const char *ew_json_name(const ew_json *value);
const ew_json *ew_json_get(const ew_json *object, const char *name);

/* These are false, and set nothing, when the value is of another type; an int is an EW_JSON_INTEGER. */
bool ew_json_string(const ew_json *value, const char **text);
bool ew_json_int(const ew_json *value, int64_t *integer);
bool ew_json_number(const ew_json *value, double *number);

#endif
