/* Convolutions on images with their channels first. */
#include "../session.h"
#include "fused.h"

edge_status ew_infer_planes(ew_call *call) {
    ew_conv c;
    EW_TRY(ew_conv_read(call, ew_in(call, 0), ew_in(call, 1), &c));
    return ew_window_shape(&c.w, EDGE_F32, c.batch, ew_in(call, 1)->dims[0], ew_out(call, 0));
}

typedef struct product {
    const ew_sparse *sparse;
    edge_spmm_f32 job;
    int64_t depth, pixels, tiles, groups;
    const float *x, *add;
    float *y;
} product;

/* Some rows of the result at some of its pixels. */
static void multiply(const product *p, int64_t image, int64_t begin, int64_t end, int64_t first, int64_t last) {
    const ew_sparse *s = p->sparse;
    int64_t at = image * s->outputs * p->pixels + first;
    const float *x = p->x + image * p->depth * p->pixels + first;
    ((edge_spmm_f32_run *)s->kernel->run)(&p->job, begin, end, last - first, x, p->y + at, p->add ? p->add + at : NULL);
    if (!s->map) return;
    for (int64_t row = begin; row < end; row++) {
        float *y = p->y + at + row * p->pixels;
        s->map(y, y, last - first);
    }
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Tiles of pixels [begin, end) of all images. */
static void run_tiles(void *context, int64_t begin, int64_t end) {
    const product *p = context;
    int64_t tile = p->sparse->kernel->mr;
    while (begin < end) {
        int64_t image = begin / p->tiles, first = begin % p->tiles, count = least(end - begin, p->tiles - first);
        multiply(p, image, 0, p->sparse->outputs, first * tile, least((first + count) * tile, p->pixels));
        begin += count;
    }
}

/* The first group of rows, of whole blocks of four, before which there is no less work than this. */
static int64_t group_at(const product *p, int64_t work) {
    int64_t low = 0, high = p->groups, each = 4 / p->sparse->kernel->nr, all = (p->sparse->outputs + p->sparse->kernel->nr - 1) / p->sparse->kernel->nr;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (p->sparse->start[least(middle * each, all)] + middle < work) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Rows by their share of the work of all: their blocks, and one for each four rows. */
static void run_rows(void *context, int64_t begin, int64_t end) {
    const product *p = context;
    int64_t first = group_at(p, begin) * 4, last = least(group_at(p, end) * 4, p->sparse->outputs);
    if (first < last) multiply(p, 0, first, last, 0, p->pixels);
}

edge_status ew_run_sparse_conv(ew_call *call) {
    const ew_sparse *s = call->node->detail;
    const ew_tensor *x = ew_in(call, 0), *add = ew_in(call, 2);
    product p = {.sparse = s,
                 .depth = x->dims[1],
                 .pixels = ew_span(x, 2, x->rank),
                 .groups = (s->outputs + 3) / 4,
                 .x = x->data,
                 .add = add ? add->data : NULL,
                 .y = ew_out(call, 0)->data};
    int64_t blocks = s->start[(s->outputs + s->kernel->nr - 1) / s->kernel->nr];
    p.tiles = (p.pixels + s->kernel->mr - 1) / s->kernel->mr;
    p.job = (edge_spmm_f32){p.pixels, p.pixels, p.pixels, s->bias, s->low, s->high, s->start, s->index, s->value};
    if (ew_count(ew_out(call, 0)) == 0) return EDGE_OK;
    /* Few tiles are shared out badly. */
    if (x->dims[0] == 1 && p.tiles < 8) ew_parallel(call, blocks + p.groups, 1 + 65536 / (p.pixels * s->kernel->nr), run_rows, &p);
    else ew_parallel(call, x->dims[0] * p.tiles, 1 + 65536 / ((blocks + p.groups) * s->kernel->nr * s->kernel->mr), run_tiles, &p);
    return EDGE_OK;
}

/* ---- depthwise ---- */

enum { MOST_FLOATS = 16384 };

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
