/* Attributes of a node, by name. */
#include "graph.h"

const ew_attribute *ew_attr(const ew_node *node, const char *name) {
    for (int i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0) return &node->attributes[i];
    return NULL;
}

int64_t ew_attr_int(const ew_node *node, const char *name, int64_t otherwise) {
    const ew_attribute *a = ew_attr(node, name);
    return a && a->type == EW_ATTR_INT ? a->i : otherwise;
}

float ew_attr_float(const ew_node *node, const char *name, float otherwise) {
    const ew_attribute *a = ew_attr(node, name);
    return a && a->type == EW_ATTR_FLOAT ? a->f : otherwise;
}

const char *ew_attr_string(const ew_node *node, const char *name, const char *otherwise) {
    const ew_attribute *a = ew_attr(node, name);
    return a && a->type == EW_ATTR_STRING ? a->s : otherwise;
}

const int64_t *ew_attr_ints(const ew_node *node, const char *name, int *count) {
    const ew_attribute *a = ew_attr(node, name);
    if (!a || a->type != EW_ATTR_INTS) {
        *count = -1;
        return NULL;
    }
    *count = (int)a->count;
    return a->ints;
}
