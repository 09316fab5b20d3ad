/* Resize and Upsample as resize_plan.c reads them and resize.c runs them. */
#ifndef EW_RESIZE_H
#define EW_RESIZE_H

#include "sequence.h"

typedef enum ew_resize_mode { EW_RESIZE_NEAREST, EW_RESIZE_LINEAR, EW_RESIZE_CUBIC } ew_resize_mode;

/* In the order of the names in resize_plan.c. */
typedef enum ew_resize_coordinate {
    EW_RESIZE_HALF_PIXEL,
    EW_RESIZE_HALF_PIXEL_SYMMETRIC,
    EW_RESIZE_PYTORCH_HALF_PIXEL,
    EW_RESIZE_ALIGN_CORNERS,
    EW_RESIZE_ASYMMETRIC,
    EW_RESIZE_CROP,
    EW_RESIZE_TF_HALF_PIXEL
} ew_resize_coordinate;

typedef enum ew_resize_rounding {
    EW_ROUND_PREFER_FLOOR,
    EW_ROUND_PREFER_CEIL,
    EW_ROUND_FLOOR,
    EW_ROUND_CEIL,
    EW_ROUND_SIMPLE /* before opset 11: up where the axis shrinks, else down */
} ew_resize_rounding;

typedef struct ew_resize_axis {
    bool active;
    int64_t in, out;
    double scale, start, end; /* start and end: of the region of interest */
} ew_resize_axis;

typedef struct ew_resize {
    int rank;
    ew_resize_axis axes[EDGE_MAX_RANK];
    ew_resize_mode mode;
    ew_resize_coordinate coordinate;
    ew_resize_rounding rounding;
    bool antialias, exclude_outside;
    double cubic, extrapolation;
} ew_resize;

edge_status ew_read_resize(const ew_call *call, ew_resize *r);

/* Elements of the input that each element of the output is made of. */
int64_t ew_resize_taps(const ew_resize *r, int axis);
/* A bound of taps * out that only grows with both lengths, while taps itself may shrink. */
double ew_resize_tap_bound(const ew_resize_axis *axis);
/* Fills taps indices and weights for each element of the output; the first index is -1 where the element is
 * extrapolated.  Without weights: the nearest index. */
void ew_resize_table(const ew_resize *r, int axis, int64_t *index, double *weights);

#endif
