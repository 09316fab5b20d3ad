/* Depthwise convolutions of images with their channels first, a channel at a time. */
#include "../plane.h"
#include "vector.h"

enum { WIDE = 4 };

/* The tap of all windows of a line, at `offset` from the first result. */
typedef struct taps {
    int64_t count;
    const float *weights;
    int32_t offset[EDGE_PLANE_MOST_TAPS];
} taps;

EDGE_INLINE void sums(const int wide, const taps *all, vf bias, const float *x, vf *acc) {
#pragma GCC unroll 4
    for (int v = 0; v < wide; v++) acc[v] = bias;
    for (int64_t t = 0; t < all->count; t++) {
        vf w = v_set(all->weights[t]);
        const float *from = x + all->offset[t];
#pragma GCC unroll 4
        for (int v = 0; v < wide; v++) acc[v] = v_madd(w, v_load(from + v * EDGE_LANES), acc[v]);
    }
}

#define CASE(wide)                                                                                                     \
    case wide:                                                                                                         \
        sums(wide, all, bias, x + at, acc);                                                                            \
        for (int v = 0; v < wide; v++) v_store(y + at + v * EDGE_LANES, v_clamp(acc[v], low, high));                   \
        break;

/* One line of results; the last vector ends where the line does. */
EDGE_INLINE void line(const taps *all, vf bias, vf low, vf high, int64_t width, const float *x, float *y) {
    vf acc[WIDE];
    if (width < EDGE_LANES) {
        sums(1, all, bias, x, acc);
        v_store_some(y, v_clamp(acc[0], low, high), width);
        return;
    }
    for (int64_t at = 0; at < width;) {
        int64_t wide = (width - at) / EDGE_LANES;
        if (wide == 0) at = width - EDGE_LANES, wide = 1;
        if (wide > WIDE) wide = WIDE;
        switch (wide) { CASE(1) CASE(2) CASE(3) CASE(4) }
        at += wide * EDGE_LANES;
    }
}

void EDGE_NAME(edge_depthwise_plane_f32)(const edge_depthwise_plane_f32 *j, const float *weights, float bias,
                                         const float *x, float *y, float *work) {
    plane p = plane_of(j);
    taps all = {.count = 0, .weights = weights};
    plane_copy(j, &p, x, work);
    for (int64_t row = 0; row < j->kernel_height; row++)
        for (int64_t column = 0; column < j->kernel_width; column++)
            all.offset[all.count++] = (int32_t)plane_offset(j, &p, row, column);
    for (int64_t row = 0; row < j->out_height; row++)
        line(&all, v_set(bias), v_set(j->low), v_set(j->high), j->out_width, work + row * j->stride_y * p.line,
             y + row * j->out_width);
}
