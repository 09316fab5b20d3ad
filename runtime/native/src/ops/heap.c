/* A heap of ranked entries: sorting without memory. */
#include "movement.h"

static bool below(const ew_ranked *a, const ew_ranked *b) {
    return a->key != b->key ? a->key < b->key : a->index < b->index;
}

static void sift_from(ew_ranked *heap, int64_t at, int64_t count) {
    ew_ranked moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && below(&heap[child], &heap[child + 1])) child++;
        if (!below(&moved, &heap[child])) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

void ew_heap_sift(ew_ranked *heap, int64_t count) {
    if (count > 1) sift_from(heap, 0, count);
}

void ew_heap_make(ew_ranked *heap, int64_t count) {
    for (int64_t at = count / 2 - 1; at >= 0; at--) sift_from(heap, at, count);
}

void ew_heap_sort(ew_ranked *heap, int64_t count) {
    while (count > 1) {
        ew_ranked last = heap[--count];
        heap[count] = heap[0];
        heap[0] = last;
        ew_heap_sift(heap, count);
    }
}
