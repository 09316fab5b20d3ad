/* Where values lie in one block of memory: no two that are alive at the same time overlap. */
#ifndef EW_PLAN_H
#define EW_PLAN_H

#include "base.h"

typedef struct ew_interval {
    int first, last; /* steps, inclusive, in which the memory is in use; first > last: never */
    size_t bytes;
    size_t offset; /* result, a multiple of 64 */
} ew_interval;

/* Sets every offset, largest intervals first, each at the lowest place that is free while it lives. */
edge_status ew_plan(ew_interval *intervals, int count, ew_arena *scratch, size_t *total_bytes);

#endif
