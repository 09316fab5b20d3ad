/* Transposed convolutions on images whose channels are last.  Output pixels whose places are alike modulo the strides
 * are a convolution of their own, with the taps that reach them: one product for each such kind. */
#include "fused.h"

edge_status ew_infer_fused_transposed(ew_call *call) {
    const ew_tensor view = ew_channels_first_view(ew_in(call, 0));
    EW_TRY(ew_transposed_shape(call, &view, -1, ew_out(call, 0)));
    return ew_channels_last_shape(ew_out(call, 0));
}

/* Output pixels of one kind. */
typedef struct kind {
    const ew_window *w;
    const float *x, *zeros;
    int64_t depth;
    int64_t first[3], count[3], taps[3]; /* of axes 1 and 2: input pixel under tap 0 of the first, pixels, taps */
} kind;

static void fill(const ew_product *p, int64_t begin, int64_t count, const void **a, uint8_t *scratch) {
    (void)scratch;
    const kind *k = p->context;
    const int64_t *in = k->w->out;
    for (int64_t r = begin; r < begin + count; r++) {
        int64_t top = k->first[1] + r / k->count[2], left = k->first[2] + r % k->count[2];
        for (int64_t i = top; i > top - k->taps[1]; i--)
            for (int64_t j = left; j > left - k->taps[2]; j--)
                *a++ = i < 0 || i >= in[1] || j < 0 || j >= in[2] ? k->zeros : k->x + (i * in[2] + j) * k->depth;
    }
}

/* Taps m, m + stride, .. of an axis and the output pixels that they reach; gives the first of these. */
static int64_t set_axis(kind *k, int axis, int64_t m) {
    const ew_window *w = k->w;
    int64_t stride = w->stride[axis], pad = w->pad[axis], start = ((m - pad) % stride + stride) % stride;
    k->first[axis] = (start + pad - m) / stride;
    k->count[axis] = (w->in[axis] - start + stride - 1) / stride;
    k->taps[axis] = ew_taps_of(w->kernel[axis], stride, m);
    return start;
}

static void run_image(const ew_call *call, kind *k, float *y, const float *add) {
    const ew_window *w = k->w;
    ew_fused part = *ew_detail(call);
    for (int64_t m = 0; m < w->stride[1] * w->stride[2]; m++) {
        int64_t top = set_axis(k, 1, m / w->stride[2]), left = set_axis(k, 2, m % w->stride[2]);
        int64_t at = (top * w->in[2] + left) * part.outputs, taps = k->taps[1] * k->taps[2];
        ew_product p = {.fused = &part,
                        .taps = taps,
                        .rows = k->count[1] * k->count[2],
                        .depth = k->depth,
                        .line = k->count[2],
                        .line_step = w->stride[1] * w->in[2] * part.outputs,
                        .c_row = w->stride[2] * part.outputs,
                        .c = y + at,
                        .add = add ? add + at : NULL,
                        .context = k,
                        .fill = fill};
        if (p.rows > 0) ew_run_product(call, &p);
        part.weights = (const float *)part.weights + edge_gemm_packed_f32(part.kernel, part.outputs, taps * k->depth);
    }
}

edge_status ew_run_fused_transposed(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), *add = ew_in(call, 2), view = ew_channels_first_view(x);
    const ew_fused *f = ew_detail(call);
    ew_transposed t;
    EW_TRY(ew_transposed_read(call, &view, ew_in(call, 1), &t));
    kind k = {.w = &t.w, .zeros = f->zeros, .depth = f->depth};
    int64_t in = ew_volume(t.w.out) * f->depth, out = ew_volume(t.w.in) * f->outputs;
    for (int64_t i = 0; i < t.batch; i++) {
        k.x = (const float *)x->data + i * in;
        run_image(call, &k, (float *)ew_out(call, 0)->data + i * out, add ? (const float *)add->data + i * out : NULL);
    }
    return EDGE_OK;
}
