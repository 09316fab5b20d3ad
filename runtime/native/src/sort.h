/* Sorting in place: n log n comparisons whatever the order of the items, no memory. */
#ifndef EW_SORT_H
#define EW_SORT_H

#include <stddef.h>

#define EW_SORT_BYTES 64 /* the largest item */

/* Negative, zero or positive, as for qsort and bsearch. */
typedef int (*ew_compare)(const void *, const void *);
/* Items that compare equal may change places. */
void ew_sort(void *items, size_t count, size_t bytes, ew_compare compare);
/* Makes the items from `parent` on a heap, the greatest on top, when those behind it are one. */
void ew_sink(void *items, size_t parent, size_t count, size_t bytes, ew_compare compare);

#endif
