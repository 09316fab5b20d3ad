/* Steps of a reduction: elements are added to partial results, these are put together. */
#ifndef EW_REDUCE_H
#define EW_REDUCE_H

#include "reduction.h"

typedef enum ew_step {
    EW_ADD,
    EW_ADD_ABS,
    EW_ADD_SQUARE,
    EW_ADD_EXP, /* of the element less a shift that is not below it */
    EW_MULTIPLY,
    EW_TAKE_MAX,
    EW_TAKE_MIN
} ew_step;

/* Partial results of floats or of integers.  f32 is added to part, and part to real now and then. */
typedef struct ew_partial {
    int64_t lanes;
    bool is_float;
    int pending;
    float part[EW_TILE];
    double shift[EW_TILE];
    union {
        double real[EW_TILE];
        int64_t integer[EW_TILE];
    };
} ew_partial;

static inline bool ew_is_float(edge_dtype dtype) { return (EW_T(dtype) & EW_FLOATS) != 0; }

/* Sets lanes results to those of no elements; shift stays as it is. */
void ew_partial_start(ew_partial *p, ew_step step, edge_dtype dtype, int64_t lanes);
/* Adds elements [first, first + n) to the first n lanes, one to each. */
void ew_partial_add(ew_partial *p, ew_step step, const ew_tensor *x, int64_t first, int64_t n);
/* Ends the additions: real and integer are complete. */
void ew_partial_flush(ew_partial *p, ew_step step);
/* Puts all lanes together in the first one. */
void ew_partial_fold(ew_partial *p, ew_step step);

/* The result of a contiguous row, any step but EW_MULTIPLY; and of two parts together. */
double ew_row_reduce(ew_step step, const float *x, int64_t n, double shift);
double ew_combine(ew_step step, double a, double b);

#endif
