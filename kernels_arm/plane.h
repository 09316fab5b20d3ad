/* How a kernel lays out the image of a depthwise convolution to work on: lines as windows see them, of which the columns that
 * one tap reads are neighbours. */
#ifndef EDGE_PLANE_H
#define EDGE_PLANE_H

#include "edge_kernels.h"

enum { EDGE_PLANE_SLACK = 16 }; /* floats of the longest vector, which may be written and read behind a part */

typedef struct plane {
    int64_t height, width; /* that windows see */
    int64_t part, line;    /* floats of each stride_x-th column, and of all columns */
} plane;

static inline plane plane_of(const edge_depthwise_plane_f32 *j) {
    plane p = {.height = (j->out_height - 1) * j->stride_y + (j->kernel_height - 1) * j->dilation_y + 1,
               .width = (j->out_width - 1) * j->stride_x + (j->kernel_width - 1) * j->dilation_x + 1};
    p.part = (p.width + j->stride_x - 1) / j->stride_x + (j->stride_x > 1 ? EDGE_PLANE_SLACK : 0);
    p.line = p.part * j->stride_x;
    return p;
}

/* Where a column that windows see is in its line. */
static inline int64_t plane_column(const edge_depthwise_plane_f32 *j, const plane *p, int64_t column) {
    return column % j->stride_x * p->part + column / j->stride_x;
}

#endif
