/* Transpose, DepthToSpace, SpaceToDepth. */
#include "movement.h"

static edge_status read_permutation(const ew_call *call, int *permutation) {
    int rank = ew_in(call, 0)->rank, count;
    const int64_t *given = ew_attr_ints(call->node, "perm", &count);
    if (count < 0) {
        for (int i = 0; i < rank; i++) permutation[i] = rank - 1 - i;
        return EDGE_OK;
    }
    if (count != rank) return ew_fail(EDGE_INVALID_MODEL, "perm has %d entries, the input has rank %d", count, rank);
    unsigned seen = 0;
    for (int i = 0; i < rank; i++) {
        if (given[i] < 0 || given[i] >= rank || (seen >> given[i] & 1))
            return ew_fail(EDGE_INVALID_MODEL, "perm has %lld at %d, expected each of 0 to %d once",
                           (long long)given[i], i, rank - 1);
        seen |= 1u << given[i];
        permutation[i] = (int)given[i];
    }
    return EDGE_OK;
}

edge_status ew_infer_transpose(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 1));
    const ew_tensor *in = ew_in(call, 0);
    int permutation[EDGE_MAX_RANK];
    EW_TRY(read_permutation(call, permutation));
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < in->rank; i++) dims[i] = in->dims[permutation[i]];
    return ew_shape(ew_out(call, 0), in->dtype, in->rank, dims);
}

edge_status ew_run_transpose(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    ew_tensor *out = ew_out(call, 0);
    int permutation[EDGE_MAX_RANK];
    EW_TRY(read_permutation(call, permutation));
    int64_t strides[EDGE_MAX_RANK];
    ew_move_dense(in, strides);
    ew_strided layout = {.rank = out->rank};
    ew_move_dense(out, layout.to);
    for (int i = 0; i < out->rank; i++) {
        layout.dims[i] = out->dims[i];
        layout.from[i] = strides[permutation[i]];
    }
    ew_move_strided(call, &layout, ew_dtype_bytes(in->dtype), in->data, out->data);
    return EDGE_OK;
}

/* Blocks of pixels that become channels, seen from the image: batch, depth, h, w, and block rows and columns. */
typedef struct blocks {
    int64_t size;
    bool depth_first; /* CRD: the depth is the slowest part of the channels */
} blocks;

static edge_status read_blocks(const ew_call *call, blocks *b) {
    EW_TRY(ew_move_need(call, 1, 1));
    const ew_tensor *in = ew_in(call, 0);
    if (in->rank != 4) return ew_fail(EDGE_INVALID_MODEL, "the input has rank %d, expected 4", (int)in->rank);
    b->size = ew_attr_int(call->node, "blocksize", 0);
    if (b->size < 1 || b->size > INT32_MAX)
        return ew_fail(EDGE_INVALID_MODEL, "blocksize %lld is not in [1, %d]", (long long)b->size, INT32_MAX);
    const char *mode = ew_attr_string(call->node, "mode", "DCR");
    b->depth_first = strcmp(mode, "CRD") == 0;
    if (!b->depth_first && strcmp(mode, "DCR") != 0)
        return ew_fail(EDGE_INVALID_MODEL, "mode \"%s\" is not DCR or CRD", mode);
    return EDGE_OK;
}

/* Layout of the image's elements: dims in the order batch, depth, h, block row, w, block column. */
static void block_layout(const blocks *b, const ew_tensor *image, const ew_tensor *channels, ew_strided *layout,
                         int64_t *of_image, int64_t *of_channels) {
    const int64_t size = b->size, depth = image->dims[1];
    int64_t outer[EDGE_MAX_RANK], inner[EDGE_MAX_RANK];
    ew_move_dense(image, outer);
    ew_move_dense(channels, inner);
    layout->rank = 6;
    const int64_t dims[6] = {image->dims[0], depth, channels->dims[2], size, channels->dims[3], size};
    memcpy(layout->dims, dims, sizeof dims);
    const int64_t image_steps[6] = {outer[0], outer[1], size * outer[2], outer[2], size * outer[3], outer[3]};
    memcpy(of_image, image_steps, sizeof image_steps);
    const int64_t unit = inner[1], row = b->depth_first ? size * unit : size * depth * unit;
    const int64_t column = b->depth_first ? unit : depth * unit, deep = b->depth_first ? size * size * unit : unit;
    const int64_t channel_steps[6] = {inner[0], deep, inner[2], row, inner[3], column};
    memcpy(of_channels, channel_steps, sizeof channel_steps);
}

static edge_status bad_blocks(const char *what, int64_t given, int64_t divisor) {
    return ew_fail(EDGE_SHAPE_MISMATCH, "%s %lld is no multiple of %lld", what, (long long)given, (long long)divisor);
}

edge_status ew_infer_depth_to_space(ew_call *call) {
    blocks b;
    EW_TRY(read_blocks(call, &b));
    const ew_tensor *in = ew_in(call, 0);
    const int64_t area = b.size * b.size;
    if (in->dims[1] % area) return bad_blocks("the number of channels", in->dims[1], area);
    int64_t dims[4] = {in->dims[0], in->dims[1] / area};
    for (int i = 2; i < 4; i++)
        if (__builtin_mul_overflow(in->dims[i], b.size, &dims[i]))
            return ew_fail(EDGE_SHAPE_MISMATCH, "%lld times blocksize %lld is too large", (long long)in->dims[i],
                           (long long)b.size);
    return ew_shape(ew_out(call, 0), in->dtype, 4, dims);
}

edge_status ew_run_depth_to_space(ew_call *call) {
    blocks b;
    EW_TRY(read_blocks(call, &b));
    ew_tensor *in = ew_in(call, 0), *out = ew_out(call, 0);
    if (ew_count(out) == 0) return EDGE_OK;
    ew_strided layout;
    block_layout(&b, out, in, &layout, layout.to, layout.from);
    ew_move_strided(call, &layout, ew_dtype_bytes(in->dtype), in->data, out->data);
    return EDGE_OK;
}

edge_status ew_infer_space_to_depth(ew_call *call) {
    blocks b;
    EW_TRY(read_blocks(call, &b));
    const ew_tensor *in = ew_in(call, 0);
    if (in->dims[2] % b.size) return bad_blocks("the height", in->dims[2], b.size);
    if (in->dims[3] % b.size) return bad_blocks("the width", in->dims[3], b.size);
    int64_t dims[4] = {in->dims[0], 0, in->dims[2] / b.size, in->dims[3] / b.size};
    if (__builtin_mul_overflow(in->dims[1], b.size * b.size, &dims[1]))
        return ew_fail(EDGE_SHAPE_MISMATCH, "%lld channels times blocksize %lld squared are too many",
                       (long long)in->dims[1], (long long)b.size);
    return ew_shape(ew_out(call, 0), in->dtype, 4, dims);
}

edge_status ew_run_space_to_depth(ew_call *call) {
    blocks b;
    EW_TRY(read_blocks(call, &b));
    ew_tensor *in = ew_in(call, 0), *out = ew_out(call, 0);
    if (ew_count(out) == 0) return EDGE_OK;
    ew_strided layout;
    block_layout(&b, in, out, &layout, layout.from, layout.to);
    ew_move_strided(call, &layout, ew_dtype_bytes(in->dtype), in->data, out->data);
    return EDGE_OK;
}
