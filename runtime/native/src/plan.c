/* Greedy by size (Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference", section 5.2). */
#include "plan.h"

#include "sort.h"

static int larger_first(const void *a, const void *b) {
    const ew_interval *x = *(ew_interval *const *)a, *y = *(ew_interval *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x < y ? -1 : 1;
}

static bool overlap(const ew_interval *a, const ew_interval *b) { return a->first <= b->last && b->first <= a->last; }

/* placed: in order of their offsets. */
static void place(ew_interval *next, ew_interval **placed, int count) {
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        if (!overlap(next, placed[i])) continue;
        if (placed[i]->offset >= at && placed[i]->offset - at >= next->bytes) break;
        size_t end = placed[i]->offset + placed[i]->bytes;
        at = end > at ? end : at;
    }
    next->offset = at;
    int slot = count;
    for (; slot > 0 && placed[slot - 1]->offset > at; slot--) placed[slot] = placed[slot - 1];
    placed[slot] = next;
}

edge_status ew_plan(ew_interval *intervals, int count, ew_arena *scratch, size_t *total_bytes) {
    ew_interval **order = ew_arena_get(scratch, (size_t)count * sizeof *order);
    ew_interval **placed = ew_arena_get(scratch, (size_t)count * sizeof *placed);
    if (!order || !placed) return EDGE_NO_MEMORY;
    int used = 0;
    for (int i = 0; i < count; i++) {
        size_t rounded;
        if (!ew_add(intervals[i].bytes, 63, &rounded))
            return ew_fail(EDGE_NO_MEMORY, "a value is larger than memory can be");
        intervals[i].bytes = rounded / 64 * 64;
        intervals[i].offset = 0;
        if (intervals[i].first <= intervals[i].last && intervals[i].bytes) order[used++] = &intervals[i];
    }
    ew_sort(order, (size_t)used, sizeof *order, larger_first);
    *total_bytes = 0;
    for (int i = 0; i < used; i++) {
        place(order[i], placed, i);
        size_t end;
        if (!ew_add(order[i]->offset, order[i]->bytes, &end) || (uint64_t)end > INT64_MAX)
            return ew_fail(EDGE_NO_MEMORY, "the values together are larger than memory can be");
        if (end > *total_bytes) *total_bytes = end;
    }
    return EDGE_OK;
}
