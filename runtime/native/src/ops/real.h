/* Elements of any dtype as real numbers: for f16 and for slow paths. */
#ifndef EW_REAL_H
#define EW_REAL_H

#include "op.h"

double ew_real_get(const void *data, edge_dtype dtype, int64_t index);
/* Integers are truncated and saturated, NaN becomes 0 there. */
void ew_real_put(void *data, edge_dtype dtype, int64_t index, double value);

/* Elements [first, first + count) of f32 or f16: in place where they are f32, else converted into scratch. */
const float *ew_real_read(const void *data, edge_dtype dtype, int64_t first, int64_t count, float *scratch);
/* Writes f32 or f16. */
void ew_real_write(void *data, edge_dtype dtype, int64_t first, int64_t count, const float *values);

/* Bytes of so many elements; a size that nothing can allocate where that overflows. */
static inline size_t ew_real_bytes(double elements, size_t each) {
    double bytes = elements * (double)each;
    return bytes < (double)(SIZE_MAX / 4) ? (size_t)bytes : SIZE_MAX / 4;
}

#endif
