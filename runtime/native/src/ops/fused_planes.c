/* Convolutions on images with their channels first. */
#include "../session.h"
#include "fused.h"

edge_status ew_infer_planes(ew_call *call) {
    ew_conv c;
    EW_TRY(ew_conv_read(call, ew_in(call, 0), ew_in(call, 1), &c));
    return ew_window_shape(&c.w, EDGE_F32, c.batch, ew_in(call, 1)->dims[0], ew_out(call, 0));
}

/* Rows x[depth], x_row apart, of places from `origin` on; images are x_image apart. */
typedef struct product {
    const ew_sparse *sparse;
    edge_spmm_f32 job;
    int64_t x_image, origin, end, tiles;
    const float *x, *add;
    float *y;
} product;

enum { PARTS = 4 }; /* of the memory that columns may have elsewhere */

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Some rows of the result at places [first, last) of it. */
static void multiply(const product *p, int64_t image, int64_t begin, int64_t end, int64_t first, int64_t last) {
    const ew_sparse *s = p->sparse;
    int64_t at = image * s->outputs * p->job.c_row + first;
    float work[EDGE_SPMM_FLOATS] __attribute__((aligned(64)));
    ((edge_spmm_f32_run *)s->kernel->run)(&p->job, begin, end, last - first, p->x + image * p->x_image + first - p->origin,
                                          p->y + at, p->add ? p->add + at : NULL, work);
    for (int64_t row = begin; row < end && s->map; row++) {
        float *y = p->y + at + row * p->job.c_row;
        s->map(y, y, last - first);
    }
}

/* Tiles of places [begin, end) of all images. */
static void run_tiles(void *context, int64_t begin, int64_t end) {
    const product *p = context;
    int64_t tile = p->sparse->kernel->mr;
    while (begin < end) {
        int64_t image = begin / p->tiles, first = begin % p->tiles, count = least(end - begin, p->tiles - first);
        multiply(p, image, 0, p->sparse->outputs, p->origin + first * tile, least(p->origin + (first + count) * tile, p->end));
        begin += count;
    }
}

/* Rows by their share of the work of all. */
static void run_rows(void *context, int64_t begin, int64_t end) {
    const product *p = context;
    int64_t first = ew_sparse_output(p->sparse, begin), last = ew_sparse_output(p->sparse, end);
    if (first < last) multiply(p, 0, first, last, p->origin, p->end);
}

/* Few tiles are shared out badly. */
static void run_product(const ew_call *call, const product *p, int64_t images) {
    enum { FEW = 8, GRAIN = 65536 };
    const ew_sparse *s = p->sparse;
    int64_t work = ew_sparse_work(s), side = s->kernel->nr;
    if (images == 1 && p->tiles < FEW) ew_parallel(call, work, 1 + GRAIN / ((p->end - p->origin) * side), run_rows, (void *)(uintptr_t)p);
    else ew_parallel(call, images * p->tiles, 1 + GRAIN / (work * side * s->kernel->mr), run_tiles, (void *)(uintptr_t)p);
}

static void set_range(product *p, int64_t origin, int64_t end) {
    p->origin = origin;
    p->end = end;
    p->tiles = (end - origin + p->sparse->kernel->mr - 1) / p->sparse->kernel->mr;
}

/* Below a window values are copied side by side first, for so many places at once: as the second cache holds, whole tiles. */
static int64_t places_of(const ew_sparse *s, const ew_conv *c) {
    int64_t places = ew_tile(PARTS * c->depth * (int64_t)sizeof(float), c->out_size), rest = places % s->kernel->mr;
    return places == c->out_size || places == rest ? places : places - rest;
}

size_t ew_workspace_sparse_conv(const ew_call *call) {
    ew_conv c;
    if (ew_conv_read(call, ew_in(call, 0), ew_in(call, 1), &c) != EDGE_OK || ew_conv_is_pointwise(&c)) return 0;
    return ew_tile_bytes(PARTS * c.depth * (int64_t)sizeof(float), c.out_size) / PARTS;
}

static void run_windows(const ew_call *call, const ew_conv *c, const float *x, product p) {
    int64_t places = places_of(p.sparse, c), image_size = p.sparse->outputs * c->out_size;
    p.x = call->workspace;
    for (int64_t image = 0; image < c->batch; image++) {
        for (int64_t begin = 0; begin < c->out_size; begin += places) {
            set_range(&p, begin, least(begin + places, c->out_size));
            ew_columns job = {.w = &c->w, .channels = c->in_channels, .begin = p.origin, .end = p.end,
                              .image = x + image * c->in_channels * c->in_size, .columns = call->workspace,
                              .element_bytes = sizeof(float)};
            ew_columns_of(call, &job);
            p.job.x_row = p.end - p.origin;
            run_product(call, &p, 1);
        }
        p.y += image_size;
        if (p.add) p.add += image_size;
    }
}

edge_status ew_run_sparse_conv(ew_call *call) {
    const ew_sparse *s = call->node->detail;
    const ew_tensor *x = ew_in(call, 0), *add = ew_in(call, 2);
    ew_conv c;
    EW_TRY(ew_conv_read(call, x, ew_in(call, 1), &c));
    product p = {.sparse = s,
                 .job = {c.depth, c.in_size, c.out_size, c.out_size, s->bias, s->low, s->high, s->start, s->index, s->value},
                 .x_image = c.in_channels * c.in_size,
                 .x = x->data,
                 .add = add ? add->data : NULL,
                 .y = ew_out(call, 0)->data};
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    if (!ew_conv_is_pointwise(&c)) {
        run_windows(call, &c, x->data, p);
        return EDGE_OK;
    }
    set_range(&p, 0, c.out_size);
    run_product(call, &p, c.batch);
    return EDGE_OK;
}

/* ---- depthwise ---- */

enum { MOST_FLOATS = 8192 }; /* they stay in the first cache */

/* Lines of the result for which there is room, 0: not for one. */
static int64_t lines_of(edge_depthwise_plane_f32 job) {
    int64_t low = 0, high = job.out_height;
    while (low < high) {
        job.out_height = (low + high + 1) / 2;
        if (edge_plane_floats(&job) <= MOST_FLOATS) low = job.out_height;
        else high = job.out_height - 1;
    }
    return low;
}

static edge_depthwise_plane_f32 job_of(const ew_window *w) {
    return (edge_depthwise_plane_f32){
        .in_height = w->in[1], .in_width = w->in[2], .out_height = w->out[1], .out_width = w->out[2],
        .kernel_height = w->kernel[1], .kernel_width = w->kernel[2], .stride_y = w->stride[1], .stride_x = w->stride[2],
        .dilation_y = w->dilation[1], .dilation_x = w->dilation[2], .pad_top = w->pad[1], .pad_left = w->pad[2]};
}

bool ew_plane_fits(const ew_call *call) {
    ew_conv c;
    return ew_conv_read(call, ew_in(call, 0), ew_in(call, 1), &c) == EDGE_OK && lines_of(job_of(&c.w)) > 0;
}

typedef struct planes {
    const ew_fused *fused;
    edge_depthwise_plane_f32 job;
    int64_t lines, taps, in_size, out_size;
    const float *x, *weights;
    float *y;
} planes;

/* Channels [begin, end) of an image. */
static void run_bands(const planes *p, int64_t image, int64_t begin, int64_t end, float *work) {
    const ew_fused *f = p->fused;
    int64_t first = image * f->outputs + begin;
    edge_depthwise_plane_f32 job = p->job;
    for (int64_t line = 0; line < p->job.out_height; line += p->lines) {
        job.out_height = least(p->lines, p->job.out_height - line);
        job.pad_top = p->job.pad_top - line * job.stride_y;
        ((edge_depthwise_plane_f32_run *)f->kernel->run)(&job, end - begin, p->weights + begin * p->taps, f->bias + begin,
                                                         p->x + first * p->in_size, p->in_size,
                                                         p->y + first * p->out_size + line * job.out_width, p->out_size, work);
    }
}

static void run_channels(void *context, int64_t begin, int64_t end) {
    const planes *p = context;
    float work[MOST_FLOATS] __attribute__((aligned(64)));
    while (begin < end) {
        int64_t channels = p->fused->outputs, image = begin / channels, first = begin % channels;
        int64_t count = least(end - begin, channels - first);
        run_bands(p, image, first, first + count, work);
        if (p->fused->map) p->fused->map(p->y + begin * p->out_size, p->y + begin * p->out_size, count * p->out_size);
        begin += count;
    }
}

edge_status ew_run_plane_depthwise(ew_call *call) {
    ew_conv c;
    EW_TRY(ew_conv_read(call, ew_in(call, 0), ew_in(call, 1), &c));
    planes p = {.fused = ew_detail(call),
                .job = job_of(&c.w),
                .taps = c.taps,
                .in_size = c.in_size,
                .out_size = c.out_size,
                .x = ew_in(call, 0)->data,
                .weights = ew_in(call, 1)->data,
                .y = ew_out(call, 0)->data};
    p.lines = lines_of(p.job);
    p.job.low = p.fused->low;
    p.job.high = p.fused->high;
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    ew_parallel(call, c.batch * p.fused->outputs, 1 + 65536 / (c.out_size * c.taps + 1), run_channels, &p);
    return EDGE_OK;
}
