/* Convolutions on images whose channels are last. */
#include <math.h>

#include "../session.h"
#include "fused.h"

enum { SHORT_LINE = 64, MOST_SCRATCH = 1024, MOST_LINES = 64 };

/* The input as the operators for channels-first images see it. */
static ew_tensor channels_first(const ew_tensor *x) {
    ew_tensor view = *x;
    view.dims[1] = x->dims[x->rank - 1];
    for (int i = 2; i < x->rank; i++) view.dims[i] = x->dims[i - 1];
    return view;
}

static edge_status channels_last(ew_tensor *y) {
    int64_t dims[EDGE_MAX_RANK];
    dims[0] = y->dims[0];
    dims[y->rank - 1] = y->dims[1];
    for (int i = 2; i < y->rank; i++) dims[i - 1] = y->dims[i];
    return ew_shape(y, y->dtype, y->rank, dims);
}

edge_status ew_infer_fused_conv(ew_call *call) {
    const ew_tensor view = channels_first(ew_in(call, 0)), *weights = ew_in(call, 1);
    ew_conv c;
    EW_TRY(ew_conv_read(call, &view, weights, &c));
    EW_TRY(ew_window_shape(&c.w, EDGE_F32, c.batch, weights->dims[0], ew_out(call, 0)));
    return channels_last(ew_out(call, 0));
}

edge_status ew_infer_channels_last_pool(ew_call *call) {
    const ew_tensor view = channels_first(ew_in(call, 0));
    ew_window w;
    EW_TRY(ew_window_read(call, &view, NULL, &w));
    EW_TRY(ew_window_place(&w, ew_attr_int(call->node, "ceil_mode", 0) != 0));
    EW_TRY(ew_window_shape(&w, EDGE_F32, view.dims[0], view.dims[1], ew_out(call, 0)));
    return channels_last(ew_out(call, 0));
}

typedef struct image {
    const ew_window *w;
    const float *x, *zeros;
    int64_t channels, in_pixels, out_pixels;
} image;

/* The pixel under a tap of the window at (top, left), or zeros. */
static const float *pixel(const image *m, const float *x, int64_t top, int64_t left, int64_t i, int64_t j) {
    const ew_window *w = m->w;
    int64_t row = top + i * w->dilation[1], column = left + j * w->dilation[2];
    if (row < 0 || row >= w->in[1] || column < 0 || column >= w->in[2]) return m->zeros;
    return x + (row * w->in[2] + column) * m->channels;
}

static void pixel_taps(const image *m, int64_t number, const float **a) {
    const ew_window *w = m->w;
    const float *x = m->x + number / m->out_pixels * m->in_pixels * m->channels;
    int64_t at = number % m->out_pixels;
    int64_t top = at / w->out[2] * w->stride[1] - w->pad[1], left = at % w->out[2] * w->stride[2] - w->pad[2];
    for (int64_t i = 0; i < w->kernel[1]; i++)
        for (int64_t j = 0; j < w->kernel[2]; j++) *a++ = pixel(m, x, top, left, i, j);
}

static void fill_taps(const ew_product *p, int64_t begin, int64_t count, const float **a, float *scratch) {
    (void)scratch;
    for (int64_t r = 0; r < count; r++) pixel_taps(p->context, begin + r, a + r * p->taps);
}

/* A line of the window whose ends are outside of the image. */
static void copy_line(const image *m, const float *line, int64_t left, float *to) {
    for (int64_t j = 0; j < m->w->kernel[2]; j++, to += m->channels) {
        bool inside = left + j >= 0 && left + j < m->w->in[2];
        memcpy(to, inside ? line + (left + j) * m->channels : m->zeros, (size_t)m->channels * sizeof *to);
    }
}

/* A tap is a whole line of the window: its pixels are neighbours in memory. */
static void fill_lines(const ew_product *p, int64_t begin, int64_t count, const float **a, float *scratch) {
    const image *m = p->context;
    const ew_window *w = m->w;
    for (int64_t number = begin; number < begin + count; number++) {
        const float *x = m->x + number / m->out_pixels * m->in_pixels * m->channels;
        int64_t at = number % m->out_pixels;
        int64_t top = at / w->out[2] * w->stride[1] - w->pad[1], left = at % w->out[2] * w->stride[2] - w->pad[2];
        bool inside = left >= 0 && left + w->kernel[2] <= w->in[2];
        for (int64_t i = 0; i < w->kernel[1]; i++) {
            int64_t row = top + i * w->dilation[1];
            const float *line = x + row * w->in[2] * m->channels;
            if (row < 0 || row >= w->in[1]) {
                *a++ = m->zeros;
            } else if (inside) {
                *a++ = line + left * m->channels;
            } else {
                copy_line(m, line, left, scratch);
                *a++ = scratch;
                scratch += p->depth;
            }
        }
    }
}

static void swap(int64_t pair[3]) {
    int64_t first = pair[1];
    pair[1] = pair[2];
    pair[2] = first;
}

/* An image one pixel wide is an image one pixel high: then its lines are long. */
static void turn(ew_window *w) {
    int64_t *const all[] = {w->in, w->out, w->kernel, w->stride, w->dilation, w->pad, w->pad_end};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) swap(all[i]);
}

static edge_status read(const ew_call *call, ew_conv *c, image *m) {
    const ew_tensor *x = ew_in(call, 0), view = channels_first(x);
    EW_TRY(ew_conv_read(call, &view, ew_in(call, 1), c));
    *m = (image){.w = &c->w,
                 .x = x->data,
                 .zeros = ew_detail(call)->zeros,
                 .channels = x->dims[x->rank - 1],
                 .in_pixels = c->in_size,
                 .out_pixels = c->out_size};
    if (c->w.in[2] == 1 && c->w.kernel[2] == 1 && !c->w.pad[2] && !c->w.pad_end[2]) turn(&c->w);
    return EDGE_OK;
}

edge_status ew_run_fused_conv(ew_call *call) {
    const ew_tensor *add = ew_in(call, 2);
    ew_conv c;
    image m;
    EW_TRY(read(call, &c, &m));
    int64_t line = c.w.kernel[2] * m.channels, depth = c.taps * m.channels;
    bool lines = c.taps > 1 && c.w.dilation[2] == 1 && (line <= SHORT_LINE || c.w.kernel[1] == 1) && depth <= MOST_SCRATCH;
    ew_product p = {.fused = ew_detail(call),
                    .taps = lines ? c.w.kernel[1] : c.taps,
                    .rows = c.batch * c.out_size,
                    .depth = lines ? line : m.channels,
                    .c = ew_out(call, 0)->data,
                    .add = add ? add->data : NULL,
                    .context = &m,
                    .fill = lines ? fill_lines : fill_taps,
                    .needs_scratch = lines};
    ew_run_product(call, &p);
    return EDGE_OK;
}

typedef struct depthwise {
    edge_depthwise_f32 job;
    const ew_call *call;
    const image *m;
} depthwise;

static void run_lines(void *context, int64_t begin, int64_t end) {
    const depthwise *d = context;
    const image *m = d->m;
    const ew_window *w = m->w;
    const ew_fused *f = ew_detail(d->call);
    const float *line[MOST_LINES];
    for (int64_t i = begin; i < end; i++) {
        const float *x = m->x + i / w->out[1] * m->in_pixels * m->channels;
        int64_t top = i % w->out[1] * w->stride[1] - w->pad[1];
        for (int64_t k = 0; k < w->kernel[1]; k++) {
            int64_t row = top + k * w->dilation[1];
            line[k] = row < 0 || row >= w->in[1] ? NULL : x + row * w->in[2] * m->channels;
        }
        int64_t length = w->out[2] * m->channels;
        float *y = (float *)ew_out(d->call, 0)->data + i * length;
        ((edge_depthwise_f32_run *)f->kernel->run)(&d->job, line, y);
        if (f->map) f->map(y, y, length);
    }
}

edge_status ew_run_fused_depthwise(ew_call *call) {
    const ew_fused *f = ew_detail(call);
    ew_conv c;
    image m;
    EW_TRY(read(call, &c, &m));
    const ew_window *w = &c.w;
    depthwise d = {.job = {.channels = m.channels,
                           .in_width = w->in[2],
                           .out_width = w->out[2],
                           .kernel_height = w->kernel[1],
                           .kernel_width = w->kernel[2],
                           .stride = w->stride[2],
                           .dilation = w->dilation[2],
                           .pad = w->pad[2],
                           .weights = f->weights,
                           .bias = f->bias,
                           .zeros = f->zeros,
                           .low = f->low,
                           .high = f->high},
                   .call = call,
                   .m = &m};
    int64_t cost = w->out[2] * m.channels * c.taps;
    ew_parallel(call, c.batch * w->out[1], 1 + 65536 / (cost + 1), run_lines, &d);
    return EDGE_OK;
}

typedef struct pooling {
    image m;
    float *y;
    edge_combine_f32 *combine;
    bool largest, count_padding;
} pooling;

static void pool_pixel(const pooling *p, int64_t number, float *y) {
    const image *m = &p->m;
    const ew_window *w = m->w;
    const float *x = m->x + number / m->out_pixels * m->in_pixels * m->channels;
    int64_t at = number % m->out_pixels, count = 0, padded = 0;
    int64_t top = at / w->out[2] * w->stride[1] - w->pad[1], left = at % w->out[2] * w->stride[2] - w->pad[2];
    for (int64_t c = 0; c < m->channels; c++) y[c] = p->largest ? -INFINITY : 0;
    for (int64_t i = 0; i < w->kernel[1]; i++)
        for (int64_t j = 0; j < w->kernel[2]; j++) {
            int64_t row = top + i * w->dilation[1], column = left + j * w->dilation[2];
            padded += row < w->in[1] + w->pad_end[1] && column < w->in[2] + w->pad_end[2];
            if (row < 0 || row >= w->in[1] || column < 0 || column >= w->in[2]) continue;
            const float *from = x + (row * w->in[2] + column) * m->channels;
            count++;
            p->combine(from, y, y, m->channels);
        }
    if (p->largest) return;
    float scale = 1.0f / (float)(p->count_padding ? padded : count);
    for (int64_t c = 0; c < m->channels; c++) y[c] *= scale;
}

static void pool_pixels(void *context, int64_t begin, int64_t end) {
    const pooling *p = context;
    for (int64_t i = begin; i < end; i++) pool_pixel(p, i, p->y + i * p->m.channels);
}

edge_status ew_run_channels_last_pool(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), view = channels_first(x);
    ew_window w;
    EW_TRY(ew_window_read(call, &view, NULL, &w));
    EW_TRY(ew_window_place(&w, ew_attr_int(call->node, "ceil_mode", 0) != 0));
    bool largest = strcmp(call->node->op_type, "MaxPool") == 0;
    pooling p = {.m = {.w = &w,
                       .x = x->data,
                       .channels = x->dims[x->rank - 1],
                       .in_pixels = ew_volume(w.in),
                       .out_pixels = ew_volume(w.out)},
                 .y = ew_out(call, 0)->data,
                 .combine = (edge_combine_f32 *)edge_kernel_find(largest ? EDGE_MAX : EDGE_ADD, EDGE_KERNEL_F32,
                                                                 EDGE_DENSE, call->session->isa)
                                ->run,
                 .largest = largest,
                 .count_padding = ew_attr_int(call->node, "count_include_pad", 0) != 0};
    int64_t cost = p.m.channels * ew_volume(w.kernel);
    ew_parallel(call, x->dims[0] * p.m.out_pixels, 1 + 65536 / (cost + 1), pool_pixels, &p);
    return EDGE_OK;
}
