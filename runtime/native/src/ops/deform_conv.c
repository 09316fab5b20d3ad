#include "linear.h"

#include <math.h>

typedef struct deformed {
    ew_conv c;
    int64_t offset_groups;
    edge_dtype dtype;
    const ew_tensor *x, *offset, *mask;
    /* of the tile that is sampled */
    int64_t image, group, begin, end;
    void *columns;
} deformed;

static edge_status check_like_result(const ew_tensor *t, const char *name, const ew_conv *c, int64_t channels) {
    bool fits = t->rank == c->w.spatial + 2 && t->dims[0] == c->batch && t->dims[1] == channels;
    for (int i = 0; fits && i < c->w.spatial; i++) fits = t->dims[2 + i] == c->w.out[3 - c->w.spatial + i];
    if (fits) return EDGE_OK;
    return ew_fail(EDGE_SHAPE_MISMATCH, "%s must have batch %lld, %lld channels and the spatial lengths of the result",
                   name, (long long)c->batch, (long long)channels);
}

static edge_status read_deformed(const ew_call *call, deformed *d) {
    *d = (deformed){.offset_groups = ew_attr_int(call->node, "offset_group", 1),
                    .x = ew_in(call, 0),
                    .offset = ew_in(call, 2),
                    .mask = ew_in(call, 4)};
    d->dtype = d->x->dtype;
    EW_TRY(ew_conv_read(call, d->x, ew_in(call, 1), &d->c));
    if (d->offset_groups < 1 || d->x->dims[1] % d->offset_groups)
        return ew_fail(EDGE_INVALID_MODEL, "%lld channels do not divide into %lld offset groups",
                       (long long)d->x->dims[1], (long long)d->offset_groups);
    int64_t taps;
    if (__builtin_mul_overflow(d->offset_groups, d->c.taps, &taps) || taps > INT64_MAX / 4)
        return ew_fail(EDGE_SHAPE_MISMATCH, "%lld offset groups are too many", (long long)d->offset_groups);
    EW_TRY(check_like_result(d->offset, "input 2", &d->c, taps * d->c.w.spatial));
    return d->mask ? check_like_result(d->mask, "input 4", &d->c, taps) : EDGE_OK;
}

edge_status ew_infer_deform_conv(ew_call *call) {
    deformed d;
    EW_TRY(ew_require(call, 3));
    for (int i = 1; i < 5; i++) EW_TRY(ew_like_first(call, i));
    EW_TRY(read_deformed(call, &d));
    int64_t channels = ew_in(call, 1)->dims[0];
    EW_TRY(ew_conv_bias(call, 3, d.dtype, channels));
    return ew_window_shape(&d.c.w, d.dtype, d.c.batch, channels, ew_out(call, 0));
}

static double load(const ew_tensor *t, int64_t i) {
    return t->dtype == EDGE_F32 ? (double)((const float *)t->data)[i] : ((const double *)t->data)[i];
}

/* Linear between the elements around a point, zeros outside of the image. */
static double sample(const deformed *d, int64_t channel, const double point[3]) {
    const int64_t *in = d->c.w.in;
    int64_t low[3], base = (d->image * d->x->dims[1] + channel) * d->c.in_size;
    double far[3], sum = 0;
    for (int axis = 0; axis < 3; axis++) {
        if (!(point[axis] > -1 && point[axis] < (double)in[axis])) return 0;
        double floored = floor(point[axis]);
        low[axis] = (int64_t)floored;
        far[axis] = point[axis] - floored;
    }
    for (int corner = 0; corner < 8; corner++) {
        double weight = 1;
        int64_t at = 0;
        for (int axis = 0; axis < 3; axis++) {
            int high = corner >> axis & 1;
            int64_t i = low[axis] + high;
            weight *= high ? far[axis] : 1 - far[axis];
            if (i < 0 || i >= in[axis]) weight = 0;
            at = at * in[axis] + i;
        }
        if (weight != 0) sum += weight * load(d->x, base + at);
    }
    return sum;
}

/* Where tap k of the kernel looks at for this position of the output. */
static void point_of(const deformed *d, int64_t offset_row, int64_t k, int64_t position, double point[3]) {
    const ew_window *w = &d->c.w;
    int first = 3 - w->spatial;
    int64_t tap = k, at = position;
    for (int axis = 2; axis >= 0; axis--) {
        point[axis] =
            (double)(at % w->out[axis] * w->stride[axis] + tap % w->kernel[axis] * w->dilation[axis] - w->pad[axis]);
        if (axis >= first)
            point[axis] += load(d->offset, (offset_row * w->spatial + axis - first) * d->c.out_size + position);
        at /= w->out[axis];
        tap /= w->kernel[axis];
    }
}

/* Rows of columns: (channel of the group, tap). */
static void sample_rows(void *context, int64_t begin, int64_t end) {
    const deformed *d = context;
    int64_t count = d->end - d->begin, per_offset = d->x->dims[1] / d->offset_groups;
    for (int64_t row = begin; row < end; row++) {
        int64_t k = row % d->c.taps, channel = d->group * d->c.in_channels + row / d->c.taps;
        int64_t offset_row = (d->image * d->offset_groups + channel / per_offset) * d->c.taps + k;
        for (int64_t i = 0; i < count; i++) {
            double point[3], value;
            point_of(d, offset_row, k, d->begin + i, point);
            value = sample(d, channel, point);
            if (d->mask) value *= load(d->mask, offset_row * d->c.out_size + d->begin + i);
            if (d->dtype == EDGE_F32)
                ((float *)d->columns)[row * count + i] = (float)value;
            else
                ((double *)d->columns)[row * count + i] = value;
        }
    }
}

static int64_t column_bytes(const deformed *d) { return d->c.depth * (d->dtype == EDGE_F64 ? 8 : 4); }

static size_t columns_workspace(const ew_call *call) {
    deformed d;
    return read_deformed(call, &d) == EDGE_OK ? ew_tile_bytes(column_bytes(&d), d.c.out_size) : 0;
}

size_t ew_workspace_deform_conv(const ew_call *call) { return ew_half_workspace(call, columns_workspace(call)); }

static void run_tile(const ew_call *call, deformed *d) {
    const ew_tensor *weights = ew_in(call, 1), *bias = ew_in(call, 3);
    const ew_conv *c = &d->c;
    size_t size = ew_dtype_bytes(d->dtype);
    int64_t first = d->group * c->out_channels, row = d->image * c->groups * c->out_channels + first;
    ew_gemm g = {.m = c->out_channels,
                 .n = d->end - d->begin,
                 .k = c->depth,
                 .a_row = c->depth,
                 .a_col = 1,
                 .b = d->columns,
                 .b_row = d->end - d->begin,
                 .b_col = 1,
                 .c_row = c->out_size,
                 .accumulate = true};
    g.a = (const uint8_t *)weights->data + (size_t)(first * c->depth) * size;
    g.c = (uint8_t *)ew_out(call, 0)->data + (size_t)(row * c->out_size + d->begin) * size;
    ew_parallel(call, c->depth, 1 + 1024 / g.n, sample_rows, d);
    ew_fill_rows(g.c, g.c_row, g.m, g.n, bias ? (const uint8_t *)bias->data + (size_t)first * size : NULL, size);
    ew_gemm_any(call, d->dtype, &g);
}

static edge_status run_wide(ew_call *call) {
    deformed d;
    EW_TRY(read_deformed(call, &d));
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    int64_t tile = ew_tile(column_bytes(&d), d.c.out_size);
    d.columns = call->workspace;
    for (d.image = 0; d.image < d.c.batch; d.image++) {
        for (d.group = 0; d.group < d.c.groups; d.group++) {
            for (d.begin = 0; d.begin < d.c.out_size; d.begin = d.end) {
                d.end = d.begin + tile < d.c.out_size ? d.begin + tile : d.c.out_size;
                run_tile(call, &d);
            }
        }
    }
    return EDGE_OK;
}

edge_status ew_run_deform_conv(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, columns_workspace(call), run_wide) : run_wide(call);
}
