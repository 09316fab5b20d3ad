#include "plane.h"

/* Where lines are shorter than a vector, the last one is read beyond its end. */
size_t edge_plane_floats(const edge_depthwise_plane_f32 *job) {
    enum { LONGEST_VECTOR = 16 };
    plane p = plane_of(job);
    return (size_t)(p.height * p.line + LONGEST_VECTOR);
}
