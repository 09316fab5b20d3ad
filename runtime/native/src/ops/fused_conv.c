/* Convolutions on images whose channels are last. */
#include <math.h>

#include "../session.h"
#include "fused.h"

enum { MOST_LINES = 64 };

ew_tensor ew_channels_first_view(const ew_tensor *x) {
    ew_tensor view = *x;
    view.dims[1] = x->dims[x->rank - 1];
    for (int i = 2; i < x->rank; i++) view.dims[i] = x->dims[i - 1];
    return view;
}

edge_status ew_channels_last_shape(ew_tensor *y) {
    int64_t dims[EDGE_MAX_RANK];
    dims[0] = y->dims[0];
    dims[y->rank - 1] = y->dims[1];
    for (int i = 2; i < y->rank; i++) dims[i - 1] = y->dims[i];
    return ew_shape(y, y->dtype, y->rank, dims);
}

edge_status ew_infer_fused_conv(ew_call *call) {
    const ew_tensor view = ew_channels_first_view(ew_in(call, 0)), *weights = ew_in(call, 1);
    ew_conv c;
    EW_TRY(ew_conv_read(call, &view, weights, &c));
    EW_TRY(ew_window_shape(&c.w, ew_y_dtype(ew_detail(call)), c.batch, weights->dims[0], ew_out(call, 0)));
    return ew_channels_last_shape(ew_out(call, 0));
}

edge_status ew_infer_channels_last_pool(ew_call *call) {
    const ew_tensor view = ew_channels_first_view(ew_in(call, 0));
    ew_window w;
    EW_TRY(ew_window_read(call, &view, NULL, &w));
    EW_TRY(ew_window_place(&w, ew_attr_int(call->node, "ceil_mode", 0) != 0));
    EW_TRY(ew_window_shape(&w, EDGE_F32, view.dims[0], view.dims[1], ew_out(call, 0)));
    return ew_channels_last_shape(ew_out(call, 0));
}

typedef struct image {
    const ew_window *w;
    const uint8_t *x, *zeros;
    int64_t pixel; /* bytes */
    int64_t in_pixels, out_pixels;
} image;

/* Where the window of an output pixel begins; found once for a range of them, then moved on: divisions are slow. */
typedef struct place {
    const uint8_t *x; /* the image */
    int64_t row, column; /* of the output */
    int64_t top, left;   /* of the window in the input */
} place;

static void settle(const ew_window *w, place *at) {
    at->top = at->row * w->stride[1] - w->pad[1];
    at->left = at->column * w->stride[2] - w->pad[2];
}

static place place_of(const image *m, int64_t number) {
    const ew_window *w = m->w;
    int64_t pixel = number % m->out_pixels;
    place at = {m->x + number / m->out_pixels * m->in_pixels * m->pixel, pixel / w->out[2], pixel % w->out[2], 0, 0};
    settle(w, &at);
    return at;
}

static void move_on(const image *m, place *at) {
    const ew_window *w = m->w;
    at->left += w->stride[2];
    if (++at->column < w->out[2]) return;
    at->column = 0;
    if (++at->row == w->out[1]) {
        at->row = 0;
        at->x += m->in_pixels * m->pixel;
    }
    settle(w, at);
}

/* The pixel under tap (i, j) of the window, or zeros. */
static const uint8_t *pixel(const image *m, const place *at, int64_t i, int64_t j) {
    const ew_window *w = m->w;
    int64_t row = at->top + i * w->dilation[1], column = at->left + j * w->dilation[2];
    if (row < 0 || row >= w->in[1] || column < 0 || column >= w->in[2]) return m->zeros;
    return at->x + (row * w->in[2] + column) * m->pixel;
}

static void fill_taps(const ew_product *p, int64_t begin, int64_t count, const void **a, uint8_t *scratch) {
    (void)scratch;
    const image *m = p->context;
    const ew_window *w = m->w;
    place at = place_of(m, begin);
    for (int64_t r = 0; r < count; r++, move_on(m, &at))
        for (int64_t i = 0; i < w->kernel[1]; i++)
            for (int64_t j = 0; j < w->kernel[2]; j++) *a++ = pixel(m, &at, i, j);
}

/* A line of the window whose ends are outside of the image. */
static void copy_line(const image *m, const uint8_t *line, int64_t left, uint8_t *to) {
    for (int64_t j = 0; j < m->w->kernel[2]; j++, to += m->pixel) {
        bool inside = left + j >= 0 && left + j < m->w->in[2];
        memcpy(to, inside ? line + (left + j) * m->pixel : m->zeros, (size_t)m->pixel);
    }
}

/* A tap is a whole line of the window: its pixels are neighbours in memory. */
static void fill_lines(const ew_product *p, int64_t begin, int64_t count, const void **a, uint8_t *scratch) {
    const image *m = p->context;
    const ew_window *w = m->w;
    place at = place_of(m, begin);
    for (int64_t r = 0; r < count; r++, move_on(m, &at)) {
        bool inside = at.left >= 0 && at.left + w->kernel[2] <= w->in[2];
        for (int64_t i = 0; i < w->kernel[1]; i++) {
            int64_t row = at.top + i * w->dilation[1];
            const uint8_t *line = at.x + row * w->in[2] * m->pixel;
            if (row < 0 || row >= w->in[1]) {
                *a++ = m->zeros;
            } else if (inside) {
                *a++ = line + at.left * m->pixel;
            } else {
                copy_line(m, line, at.left, scratch);
                *a++ = scratch;
                scratch += p->depth * ew_x_bytes(p->fused);
            }
        }
    }
}

static void swap(int64_t pair[3]) {
    int64_t first = pair[1];
    pair[1] = pair[2];
    pair[2] = first;
}

/* An image one pixel wide is an image one pixel high: then its lines are long.  Not with weights of 8 bits, which are
 * packed for one of both. */
static void turn(ew_window *w) {
    int64_t *const all[] = {w->in, w->out, w->kernel, w->stride, w->dilation, w->pad, w->pad_end};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) swap(all[i]);
}

static edge_status read(const ew_call *call, ew_conv *c, image *m) {
    const ew_tensor *x = ew_in(call, 0), view = ew_channels_first_view(x);
    EW_TRY(ew_conv_read(call, &view, ew_in(call, 1), c));
    *m = (image){.w = &c->w,
                 .x = x->data,
                 .zeros = ew_detail(call)->zeros,
                 .pixel = x->dims[x->rank - 1] * ew_x_bytes(ew_detail(call)),
                 .in_pixels = c->in_size,
                 .out_pixels = c->out_size};
    if (!ew_detail(call)->quantized && c->w.in[2] == 1 && c->w.kernel[2] == 1 && !c->w.pad[2] && !c->w.pad_end[2]) turn(&c->w);
    return EDGE_OK;
}

/* One tap, which moves over the image as the output does: its pixels are rows in order. */
static bool is_pointwise(const ew_conv *c) {
    const ew_window *w = &c->w;
    return c->taps == 1 && w->in[1] == w->out[1] && w->in[2] == w->out[2] && !w->pad[1] && !w->pad[2];
}

edge_status ew_run_fused_conv(ew_call *call) {
    const ew_tensor *add = ew_in(call, 2);
    ew_conv c;
    image m;
    EW_TRY(read(call, &c, &m));
    const ew_fused *f = ew_detail(call);
    bool lines = f->quantized ? f->quantized->by_lines
                              : ew_by_lines(c.w.kernel[1], c.w.kernel[2], c.w.dilation[2], f->depth);
    ew_product p = {.fused = f,
                    .taps = lines ? c.w.kernel[1] : c.taps,
                    .rows = c.batch * c.out_size,
                    .depth = lines ? c.w.kernel[2] * f->depth : f->depth,
                    .c = ew_out(call, 0)->data,
                    .add = add ? add->data : NULL,
                    .context = &m,
                    .fill = lines ? fill_lines : fill_taps,
                    .needs_scratch = lines};
    const void *zeros = f->zeros;
    if (f->quantized) p.rescale = ew_rescale_of(call, &zeros);
    m.zeros = zeros;
    if (is_pointwise(&c)) {
        p.context = m.x;
        p.fill = ew_rows_in_order;
    }
    ew_run_product(call, &p);
    return EDGE_OK;
}

typedef struct depthwise {
    edge_depthwise_f32 f32;
    edge_depthwise_s8 s8;
    const ew_fused *fused;
    const image *m;
    uint8_t *y;
    int64_t line; /* values of one */
} depthwise;

static void run_line(const depthwise *d, const void *const *line, void *y) {
    const ew_fused *f = d->fused;
    if (f->quantized) {
        ((edge_depthwise_s8_run *)f->kernel->run)(&d->s8, (const uint8_t *const *)line, y);
        return;
    }
    ((edge_depthwise_f32_run *)f->kernel->run)(&d->f32, (const float *const *)line, y);
    if (f->map) f->map(y, y, d->line);
}

static void run_lines(void *context, int64_t begin, int64_t end) {
    const depthwise *d = context;
    const image *m = d->m;
    const ew_window *w = m->w;
    const void *line[MOST_LINES];
    for (int64_t i = begin; i < end; i++) {
        const uint8_t *x = m->x + i / w->out[1] * m->in_pixels * m->pixel;
        int64_t top = i % w->out[1] * w->stride[1] - w->pad[1];
        for (int64_t k = 0; k < w->kernel[1]; k++) {
            int64_t row = top + k * w->dilation[1];
            line[k] = row < 0 || row >= w->in[1] ? NULL : x + row * w->in[2] * m->pixel;
        }
        run_line(d, line, d->y + i * d->line * ew_y_bytes(d->fused));
    }
}

/* What both kernels are told in the same words. */
#define SHAPE(w, f)                                                                                                    \
    .channels = (f)->depth, .in_width = (w)->in[2], .out_width = (w)->out[2], .kernel_height = (w)->kernel[1],         \
    .kernel_width = (w)->kernel[2], .stride = (w)->stride[2], .dilation = (w)->dilation[2], .pad = (w)->pad[2],        \
    .weights = (f)->weights, .zeros = (f)->zeros

edge_status ew_run_fused_depthwise(ew_call *call) {
    const ew_fused *f = ew_detail(call);
    ew_conv c;
    image m;
    EW_TRY(read(call, &c, &m));
    const ew_window *w = &c.w;
    depthwise d = {.fused = f, .m = &m, .y = ew_out(call, 0)->data, .line = w->out[2] * f->depth};
    if (f->quantized) d.s8 = (edge_depthwise_s8){SHAPE(w, f), .out = f->quantized->out};
    else d.f32 = (edge_depthwise_f32){SHAPE(w, f), .bias = f->bias, .low = f->low, .high = f->high};
    ew_parallel(call, c.batch * w->out[1], 1 + 65536 / (d.line * c.taps + 1), run_lines, &d);
    return EDGE_OK;
}

typedef struct pooling {
    image m;
    int64_t channels;
    float *y;
    edge_combine_f32 *combine;
    bool largest, count_padding;
} pooling;

static void pool_pixel(const pooling *p, const place *at, float *y) {
    const image *m = &p->m;
    const ew_window *w = m->w;
    int64_t count = 0, padded = 0;
    for (int64_t c = 0; c < p->channels; c++) y[c] = p->largest ? -INFINITY : 0;
    for (int64_t i = 0; i < w->kernel[1]; i++)
        for (int64_t j = 0; j < w->kernel[2]; j++) {
            int64_t row = at->top + i * w->dilation[1], column = at->left + j * w->dilation[2];
            padded += row < w->in[1] + w->pad_end[1] && column < w->in[2] + w->pad_end[2];
            if (row < 0 || row >= w->in[1] || column < 0 || column >= w->in[2]) continue;
            count++;
            p->combine((const float *)(const void *)pixel(m, at, i, j), y, y, p->channels);
        }
    if (p->largest) return;
    float scale = 1.0f / (float)(p->count_padding ? padded : count);
    for (int64_t c = 0; c < p->channels; c++) y[c] *= scale;
}

static void pool_pixels(void *context, int64_t begin, int64_t end) {
    const pooling *p = context;
    place at = place_of(&p->m, begin);
    for (int64_t i = begin; i < end; i++, move_on(&p->m, &at)) pool_pixel(p, &at, p->y + i * p->channels);
}

edge_status ew_run_channels_last_pool(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), view = ew_channels_first_view(x);
    ew_window w;
    EW_TRY(ew_window_read(call, &view, NULL, &w));
    EW_TRY(ew_window_place(&w, ew_attr_int(call->node, "ceil_mode", 0) != 0));
    bool largest = strcmp(call->node->op_type, "MaxPool") == 0;
    pooling p = {.m = {.w = &w,
                       .x = x->data,
                       .pixel = x->dims[x->rank - 1] * 4,
                       .in_pixels = ew_volume(w.in),
                       .out_pixels = ew_volume(w.out)},
                 .channels = x->dims[x->rank - 1],
                 .y = ew_out(call, 0)->data,
                 .combine = (edge_combine_f32 *)edge_kernel_find(largest ? EDGE_MAX : EDGE_ADD, EDGE_KERNEL_F32,
                                                                 EDGE_DENSE, call->session->isa)
                                ->run,
                 .largest = largest,
                 .count_padding = ew_attr_int(call->node, "count_include_pad", 0) != 0};
    int64_t cost = p.channels * ew_volume(w.kernel);
    ew_parallel(call, x->dims[0] * p.m.out_pixels, 1 + 65536 / (cost + 1), pool_pixels, &p);
    return EDGE_OK;
}
