/* How a kernel lays out the image of a depthwise convolution to work on: lines as windows see them, of which the columns that
 * one tap reads are neighbours. */
#ifndef EDGE_PLANE_H
#define EDGE_PLANE_H

#include <string.h>

#include "edge_kernels.h"

typedef struct plane {
    int64_t height, width; /* that windows see */
    int64_t part, line;    /* floats of each stride_x-th column, and of all columns */
} plane;

static inline plane plane_of(const edge_depthwise_plane_f32 *j) {
    plane p = {.height = (j->out_height - 1) * j->stride_y + (j->kernel_height - 1) * j->dilation_y + 1,
               .width = (j->out_width - 1) * j->stride_x + (j->kernel_width - 1) * j->dilation_x + 1};
    p.part = (p.width + j->stride_x - 1) / j->stride_x;
    p.line = p.part * j->stride_x;
    return p;
}

/* Where a tap of the first window is. */
static inline int64_t plane_offset(const edge_depthwise_plane_f32 *j, const plane *p, int64_t row, int64_t column) {
    int64_t at = column * j->dilation_x;
    return row * j->dilation_y * p->line + at % j->stride_x * p->part + at / j->stride_x;
}

/* Columns first, first + stride, .. of a line that begins pad columns before the image. */
static inline void plane_part(const float *x, int64_t width, int64_t pad, int64_t first, int64_t stride, int64_t count,
                              float *to) {
    int64_t before = first < pad ? (pad - first + stride - 1) / stride : 0;
    int64_t end = pad + width > first ? (pad + width - first + stride - 1) / stride : 0;
    if (end > count) end = count;
    if (before > end) before = end;
    memset(to, 0, (size_t)before * sizeof *to);
    x += first - pad;
    if (stride == 1) memcpy(to + before, x + before, (size_t)(end - before) * sizeof *to);
    else if (stride == 2)
        for (int64_t i = before; i < end; i++) to[i] = x[i * 2];
    else
        for (int64_t i = before; i < end; i++) to[i] = x[i * stride];
    memset(to + end, 0, (size_t)(count - end) * sizeof *to);
}

static inline void plane_copy(const edge_depthwise_plane_f32 *j, const plane *p, const float *x, float *to) {
    for (int64_t row = -j->pad_top; row < p->height - j->pad_top; row++, to += p->line) {
        if (row < 0 || row >= j->in_height) {
            memset(to, 0, (size_t)p->line * sizeof *to);
            continue;
        }
        for (int64_t first = 0; first < j->stride_x; first++)
            plane_part(x + row * j->in_width, j->in_width, j->pad_left, first, j->stride_x, p->part, to + first * p->part);
    }
}

#endif
