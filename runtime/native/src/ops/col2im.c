/* Col2Im. */
#include "movement.h"

#define SPATIAL_MAX (EDGE_MAX_RANK - 2)

/* Sizes per spatial axis. */
typedef struct geometry {
    int rank;
    int64_t image[SPATIAL_MAX], block[SPATIAL_MAX], blocks[SPATIAL_MAX];
    int64_t stride[SPATIAL_MAX], dilation[SPATIAL_MAX], pad[SPATIAL_MAX], pad_end[SPATIAL_MAX];
} geometry;

static edge_status read_positive(const char *name, int least, int count, const int64_t *from, int64_t *to) {
    for (int i = 0; i < count; i++) {
        if (from[i] < least || from[i] > INT32_MAX)
            return ew_fail(EDGE_INVALID_MODEL, "%s has %lld, expected %d to %d", name, (long long)from[i], least,
                           INT32_MAX);
        to[i] = from[i];
    }
    return EDGE_OK;
}

static edge_status read_list(const ew_call *call, const char *name, int least, int count, int64_t *values) {
    int given;
    const int64_t *list = ew_attr_ints(call->node, name, &given);
    for (int i = 0; given < 0 && i < count; i++) values[i] = least;
    if (given < 0) return EDGE_OK;
    if (given != count) return ew_fail(EDGE_INVALID_MODEL, "%s has %d entries, expected %d", name, given, count);
    return read_positive(name, least, count, list, values);
}

static edge_status read_sizes(const ew_call *call, geometry *g) {
    int64_t image[SPATIAL_MAX], block[SPATIAL_MAX];
    int count;
    EW_TRY(ew_ints(call, 1, image, SPATIAL_MAX, &g->rank));
    EW_TRY(ew_ints(call, 2, block, SPATIAL_MAX, &count));
    if (g->rank < 1 || count != g->rank)
        return ew_fail(EDGE_INVALID_MODEL, "image_shape and block_shape have %d and %d entries", g->rank, count);
    EW_TRY(read_positive("image_shape", 1, count, image, g->image));
    return read_positive("block_shape", 1, count, block, g->block);
}

static edge_status read_geometry(const ew_call *call, geometry *g) {
    EW_TRY(read_sizes(call, g));
    int64_t pads[2 * SPATIAL_MAX];
    EW_TRY(read_list(call, "strides", 1, g->rank, g->stride));
    EW_TRY(read_list(call, "dilations", 1, g->rank, g->dilation));
    EW_TRY(read_list(call, "pads", 0, 2 * g->rank, pads));
    for (int i = 0; i < g->rank; i++) {
        g->pad[i] = pads[i];
        const int64_t room = g->image[i] + pads[i] + pads[g->rank + i] - (g->dilation[i] * (g->block[i] - 1) + 1);
        if (room < 0)
            return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of the image is smaller than a block of %lld", i,
                           (long long)g->block[i]);
        g->blocks[i] = room / g->stride[i] + 1;
    }
    return EDGE_OK;
}

/* The product of sizes, -1 when it is beyond what a tensor may have. */
static int64_t product(const int64_t *sizes, int count) {
    int64_t result = 1;
    for (int i = 0; i < count; i++)
        if (__builtin_mul_overflow(result, sizes[i], &result)) return -1;
    return result;
}

edge_status ew_infer_col2im(ew_call *call) {
    EW_TRY(ew_move_need(call, 3, 1));
    const ew_tensor *in = ew_in(call, 0);
    geometry g;
    EW_TRY(read_geometry(call, &g));
    if (in->rank != 3) return ew_fail(EDGE_INVALID_MODEL, "the input has rank %d, expected 3", (int)in->rank);
    const int64_t area = product(g.block, g.rank), blocks = product(g.blocks, g.rank);
    if (area < 0 || in->dims[1] % area || in->dims[2] != blocks)
        return ew_fail(EDGE_SHAPE_MISMATCH, "the input has %lld rows and %lld columns, expected a multiple of %lld and "
                                            "%lld", (long long)in->dims[1], (long long)in->dims[2], (long long)area,
                       (long long)blocks);
    int64_t dims[EDGE_MAX_RANK] = {in->dims[0], in->dims[1] / area};
    for (int i = 0; i < g.rank; i++) dims[2 + i] = g.image[i];
    return ew_shape(ew_out(call, 0), in->dtype, 2 + g.rank, dims);
}

/* Sums of one plane of the image: double or, for integers, uint64_t. */
size_t ew_workspace_col2im(const ew_call *call) {
    const ew_tensor *out = ew_out(call, 0);
    return ew_move_workspace(ew_span(out, 2, out->rank), sizeof(double));
}

/* Adds count elements, from flat index begin on, to sums that are step apart. */
static void add_run(const ew_tensor *in, int64_t begin, int64_t count, void *sums, int64_t step) {
    double *real = sums;
    uint64_t *whole = sums;
    if (in->dtype == EDGE_F32) {
        const float *from = (const float *)in->data + begin;
        for (int64_t i = 0; i < count; i++) real[i * step] += (double)from[i];
    } else if (ew_move_is_float(in->dtype)) {
        for (int64_t i = 0; i < count; i++) real[i * step] += ew_get(in, begin + i);
    } else {
        for (int64_t i = 0; i < count; i++) whole[i * step] += (uint64_t)ew_get_int(in, begin + i);
    }
}

/* The pixel that place k of the first block covers on this axis. */
static int64_t origin(const geometry *g, int axis, int64_t k) { return k * g->dilation[axis] - g->pad[axis]; }

/* Where a row of blocks begins in the plane, without the last axis; -1: outside of the image. */
static int64_t row_start(const geometry *g, int64_t row, const int64_t *place) {
    int64_t start = 0, step = 1;
    for (int i = g->rank - 1; i >= 0; i--) {
        if (i < g->rank - 1) {
            const int64_t pixel = row % g->blocks[i] * g->stride[i] + origin(g, i, place[i]);
            row /= g->blocks[i];
            if (pixel < 0 || pixel >= g->image[i]) return -1;
            start += pixel * step;
        }
        step *= g->image[i];
    }
    return start;
}

/* Adds a row of the input: the same place in every block. */
static void add_place(const geometry *g, const ew_tensor *in, int64_t from, int64_t k, void *sums) {
    const int last = g->rank - 1;
    int64_t place[SPATIAL_MAX];
    for (int i = last; i >= 0; i--) {
        place[i] = k % g->block[i];
        k /= g->block[i];
    }
    const int64_t first = origin(g, last, place[last]), step = g->stride[last], size = g->image[last];
    const int64_t begin = first < 0 ? (step - 1 - first) / step : 0;
    int64_t end = first < size ? (size - 1 - first) / step + 1 : 0;
    if (end > g->blocks[last]) end = g->blocks[last];
    const int64_t rows = product(g->blocks, last);
    for (int64_t row = 0; begin < end && row < rows; row++) {
        const int64_t start = row_start(g, row, place);
        if (start < 0) continue;
        char *to = (char *)sums + (start + first + begin * step) * (int64_t)sizeof(double);
        add_run(in, from + row * g->blocks[last] + begin, end - begin, to, step);
    }
}

edge_status ew_run_col2im(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    ew_tensor *out = ew_out(call, 0);
    geometry g;
    EW_TRY(read_geometry(call, &g));
    if (ew_count(out) == 0) return EDGE_OK;
    const int64_t pixels = product(g.image, g.rank), area = product(g.block, g.rank);
    for (int64_t plane = 0; plane < out->dims[0] * out->dims[1]; plane++) {
        memset(call->workspace, 0, (size_t)pixels * sizeof(double));
        for (int64_t k = 0; k < area; k++)
            add_place(&g, in, (plane * area + k) * in->dims[2], k, call->workspace);
        for (int64_t i = 0; i < pixels; i++) {
            if (ew_move_is_float(out->dtype))
                ew_move_put(out, plane * pixels + i, ((const double *)call->workspace)[i]);
            else
                ew_move_put_int(out, plane * pixels + i, (int64_t)((const uint64_t *)call->workspace)[i]);
        }
    }
    return EDGE_OK;
}
