/* What engine.js takes for granted of edgewright.h on this processor. */
#include "edgewright.h"

#define AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #type "." #member)
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)

SIZE(void *, 4);
SIZE(size_t, 4);

AT(edge_tensor, dtype, 0);
AT(edge_tensor, rank, 4);
AT(edge_tensor, shape, 8);
AT(edge_tensor, data, 72);
AT(edge_tensor, bytes, 76);
SIZE(edge_tensor, 80);

AT(edge_tensor_info, name, 0);
AT(edge_tensor_info, dtype, 4);
AT(edge_tensor_info, rank, 8);
AT(edge_tensor_info, min_shape, 16);
AT(edge_tensor_info, max_shape, 80);
SIZE(edge_tensor_info, 144);

AT(edge_fixed_input, name, 0);
AT(edge_fixed_input, value, 8);
SIZE(edge_fixed_input, 88);

AT(edge_bound, dimension, 0);
AT(edge_bound, min, 8);
AT(edge_bound, max, 16);
SIZE(edge_bound, 24);

AT(edge_session_options, struct_size, 0);
AT(edge_session_options, fixed_inputs, 12);
AT(edge_session_options, fixed_input_count, 16);
AT(edge_session_options, bounds, 20);
AT(edge_session_options, bound_count, 24);
AT(edge_session_options, profile, 32);
AT(edge_session_options, entry, 36);
SIZE(edge_session_options, 40);

AT(edge_step_info, node, 0);
AT(edge_step_info, op, 4);
AT(edge_step_info, kernel, 8);
AT(edge_step_info, runs, 16);
AT(edge_step_info, nanoseconds, 24);
SIZE(edge_step_info, 32);

AT(edge_photo, struct_size, 0);
AT(edge_photo, pixel, 4);
AT(edge_photo, width, 8);
AT(edge_photo, height, 12);
AT(edge_photo, data, 16);
AT(edge_photo, row_bytes, 20);
AT(edge_photo, bytes, 24);
AT(edge_photo, orientation, 28);
SIZE(edge_photo, 32);

AT(edge_image, struct_size, 0);
AT(edge_image, size, 4);
SIZE(edge_image, 80);

AT(edge_ranking, struct_size, 0);
AT(edge_ranking, top_k, 8);
AT(edge_ranking, output, 12);
SIZE(edge_ranking, 16);

AT(edge_class, index, 0);
AT(edge_class, score, 8);
AT(edge_class, label, 16);
SIZE(edge_class, 24);
