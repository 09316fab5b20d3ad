/* Products of float rows. */
#ifndef EW_DOT_H
#define EW_DOT_H

#include <stdint.h>

/* sums[j] += x . (rows + j * stride) for j < count; x and rows have size elements. */
void ew_dot_rows(const float *x, const float *rows, int64_t stride, int64_t count, int64_t size, float *sums);

/* sum += weight * row over size elements. */
void ew_add_row(const float *row, float weight, int64_t size, float *sum);
/* sum += weights[i] * (rows + picks[i] * stride) for i < count, over size elements. */
void ew_add_rows(const float *rows, int64_t stride, const int32_t *picks, const float *weights, int count, int64_t size,
                 float *sum);

#endif
