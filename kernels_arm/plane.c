#include "plane.h"

size_t edge_plane_floats(const edge_depthwise_plane_f32 *job) {
    plane p = plane_of(job);
    return (size_t)(p.height * p.line + 3 * EDGE_PLANE_SLACK);
}
