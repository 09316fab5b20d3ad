/* What the files of the reduction family share: how dims are grouped, access to elements, sums of rows. */
#ifndef EW_REDUCTION_H
#define EW_REDUCTION_H

#include "op.h"

/* Elements of a buffer, and floats of one vectorized step: loops of constant length over local arrays are what
 * compilers vectorize at -O2. */
enum { EW_TILE = 1024, EW_LANES = 16 };

/* Some dims of a tensor, innermost first, with their strides in elements. */
typedef struct ew_dims {
    int rank;
    int64_t dims[EDGE_MAX_RANK], strides[EDGE_MAX_RANK];
} ew_dims;

/* A position among dims and its offset in elements; {0} is the first. */
typedef struct ew_position {
    int64_t index[EDGE_MAX_RANK], offset;
} ew_position;

/* Dims split into kept and reduced ones, neighbours of one sort merged.  The innermost group is contiguous and in
 * none of the two lists. */
typedef struct ew_split {
    int64_t inner;
    bool inner_reduced;
    ew_dims kept, reduced;
    int64_t kept_count, reduced_count; /* of all groups, the innermost included */
} ew_split;

/* The tensor must have elements. */
void ew_split_dims(const ew_tensor *t, const bool reduced[EDGE_MAX_RANK], ew_split *split);
ew_position ew_position_at(const ew_dims *dims, int64_t index);
/* To the next position; false after the last, and back at the first. */
bool ew_next_position(const ew_dims *dims, ew_position *position);

/* Attribute of an axis, also for rank 0, where -1 and 0 mean the one element. */
edge_status ew_reduction_axis(const ew_call *call, int64_t otherwise, int *axis);
/* Elements along an axis, of a scalar 1. */
static inline int64_t ew_extent(const ew_tensor *t, int axis) { return t->rank ? t->dims[axis] : 1; }
static inline int64_t ew_after(const ew_tensor *t, int axis) { return t->rank ? ew_span(t, axis + 1, t->rank) : 1; }

/* Fails unless these first inputs and output 0 are there, and no more than these outputs are wanted. */
edge_status ew_needs(const ew_call *call, int inputs, int outputs);
/* Fails unless input i has this shape and dtype; dtype 0 is any of f16, f32 and f64. */
edge_status ew_needs_vector(const ew_call *call, int i, int64_t length, edge_dtype dtype);
/* Attribute stash_type: f16, f32 (the default) or f64, others fail. */
edge_status ew_stash_type(const ew_call *call, edge_dtype *dtype);

/* Items for a part of ew_parallel when one item costs this many elements. */
static inline int64_t ew_grain(int64_t elements) { return elements > 0 && elements < 16384 ? 16384 / elements : 1; }

/* Elements of f16, f32 and f64 as double, n at most EW_TILE. */
void ew_load_doubles(double *to, const void *from, edge_dtype dtype, int64_t first, int64_t n);
void ew_store_doubles(void *to, edge_dtype dtype, int64_t first, const double *from, int64_t n);
double ew_load_double(const void *data, edge_dtype dtype, int64_t index);
void ew_store_double(void *data, edge_dtype dtype, int64_t index, double value);
/* Elements of integers and bool, n at most EW_TILE; u64 keeps its bits. */
void ew_load_integers(int64_t *to, const void *from, edge_dtype dtype, int64_t first, int64_t n);

/* The next floats of a row, of which left are there; missing ones are 0. */
static inline void ew_take_lanes(float lane[EW_LANES], const float *x, int64_t left) {
    if (left >= EW_LANES) {
        memcpy(lane, x, EW_LANES * sizeof *lane);
    } else {
        memset(lane, 0, EW_LANES * sizeof *lane);
        memcpy(lane, x, (size_t)left * sizeof *lane);
    }
}
static inline void ew_give_lanes(float *y, const float lane[EW_LANES], int64_t left) {
    if (left >= EW_LANES)
        memcpy(y, lane, EW_LANES * sizeof *lane);
    else
        memcpy(y, lane, (size_t)left * sizeof *lane);
}

/* e^x for x <= 0 within 1.5 units in the last place; 0 where the result would be denormal; NaN stays.
 * Cody and Waite's reduction x = n ln 2 + r, then a polynomial of our own minimax fit on |r| <= ln 2 / 2.  Adding
 * 1.5 * 2^23 rounds to an integer and leaves it in the low bits, from where it is shifted into the exponent.  Too low
 * values are removed by their bits, because compilers do not vectorize conditional arithmetic at -O2. */
static inline float ew_exp_negative(float x) {
    float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 0.001381446491f;
    p = p * r + 0.008368780836f;
    p = p * r + 0.04166839272f;
    p = p * r + 0.1666651964f;
    p = p * r + 0.4999999404f;
    uint32_t bits, too_low = x < -87.33f;
    memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + 0x3f800000u;
    float value;
    memcpy(&value, &bits, 4);
    value *= (p * r * r + r) + 1.0f;
    memcpy(&bits, &value, 4);
    bits &= too_low - 1;
    memcpy(&value, &bits, 4);
    return value;
}

/* Rows of f32.  Sums are added in float within blocks of 128 elements and in double between them. */
double ew_row_sum(const float *x, int64_t n);
double ew_row_sum_abs(const float *x, int64_t n);
double ew_row_sum_square(const float *x, int64_t n);
double ew_row_sum_deviation(const float *x, int64_t n, float mean); /* of (x - mean)^2 */
double ew_row_sum_exp(const float *x, int64_t n, float max);        /* of e^(x - max) */
/* NaN when there is one; the identity of an empty row is an infinity. */
float ew_row_max(const float *x, int64_t n);
float ew_row_min(const float *x, int64_t n);

/* Elements [first, first + n) of a float tensor: sum, sum of (x - mean)^2, and y = (x - mean) * scale + shift. */
double ew_stretch_sum(const ew_tensor *x, int64_t first, int64_t n);
double ew_stretch_deviation(const ew_tensor *x, int64_t first, int64_t n, double mean);
void ew_stretch_affine(ew_tensor *y, const ew_tensor *x, int64_t first, int64_t n, double mean, double scale,
                       double shift);

#endif
