#include "sort.h"

#include <stdint.h>
#include <string.h>

static void swap(uint8_t *a, uint8_t *b, size_t bytes) {
    uint8_t kept[EW_SORT_BYTES];
    memcpy(kept, a, bytes);
    memcpy(a, b, bytes);
    memcpy(b, kept, bytes);
}

/* Moves an item down until no child in the heap is greater. */
void ew_sink(void *heap, size_t parent, size_t count, size_t bytes, ew_compare compare) {
    uint8_t *items = heap;
    for (size_t child; (child = 2 * parent + 1) < count; parent = child) {
        if (child + 1 < count && compare(items + child * bytes, items + (child + 1) * bytes) < 0) child++;
        if (compare(items + parent * bytes, items + child * bytes) >= 0) return;
        swap(items + parent * bytes, items + child * bytes, bytes);
    }
}

/* Heapsort (Williams, 1964). */
void ew_sort(void *items, size_t count, size_t bytes, ew_compare compare) {
    for (size_t i = count / 2; i-- > 0;) ew_sink(items, i, count, bytes, compare);
    for (size_t i = count; i-- > 1;) {
        swap(items, (uint8_t *)items + i * bytes, bytes);
        ew_sink(items, 0, i, bytes, compare);
    }
}
