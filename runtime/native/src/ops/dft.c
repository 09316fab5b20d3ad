#include "fft.h"
#include "real.h"

/* Lines along an axis: [outer, length, inner, parts], parts: 1 for real, 2 for complex numbers. */
typedef struct dft {
    const ew_tensor *x;
    ew_tensor *y;
    int axis;
    bool inverse, onesided;
    int64_t length, inner, in, out; /* in and out: lengths of the axis */
    int64_t in_parts, out_parts;
} dft;

static edge_status read_number(const ew_call *call, int i, int64_t *value) {
    int count;
    EW_TRY(ew_ints(call, i, value, 1, &count));
    return count == 1 ? EDGE_OK : ew_fail(EDGE_INVALID_MODEL, "input %d has no element, expected one", i);
}

static edge_status read_axis(const ew_call *call, dft *d) {
    int64_t axis = -2;
    if (call->node->opset < 20) axis = ew_attr_int(call->node, "axis", 1);
    else if (ew_in(call, 2)) EW_TRY(read_number(call, 2, &axis));
    EW_TRY(ew_axis(axis, d->x->rank, &d->axis));
    if (d->axis < d->x->rank - 1) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "axis is %lld, the last one, which holds real and imaginary parts",
                   (long long)axis);
}

static edge_status read_length(const ew_call *call, dft *d) {
    d->length = d->inverse && d->onesided ? 2 * (d->in - 1) : d->in;
    if (ew_in(call, 1)) EW_TRY(read_number(call, 1, &d->length));
    if (d->length < 1 || d->length > EW_FFT_LONGEST) {
        return ew_fail(EDGE_INVALID_ARGUMENT, "the length of the transform is %lld, expected 1 to %d",
                       (long long)d->length, (int)EW_FFT_LONGEST);
    }
    return EDGE_OK;
}

static edge_status read_dft(const ew_call *call, dft *d) {
    int64_t value;
    *d = (dft){0};
    EW_TRY(ew_seq_need(call, 1));
    d->x = ew_in(call, 0);
    d->y = ew_out(call, 0);
    int rank = d->x->rank;
    d->in_parts = rank > 0 ? d->x->dims[rank - 1] : 0;
    if (rank < 2 || d->in_parts < 1 || d->in_parts > 2) {
        return ew_fail(EDGE_INVALID_MODEL, "input has rank %d and last dimension %lld, expected 2 axes or more and 1 "
                       "or 2", rank, (long long)d->in_parts);
    }
    EW_TRY(read_axis(call, d));
    EW_TRY(ew_seq_integer(call, "inverse", 0, 0, 1, &value));
    d->inverse = value != 0;
    EW_TRY(ew_seq_integer(call, "onesided", 0, 0, 1, &value));
    d->onesided = value != 0;
    d->in = d->x->dims[d->axis];
    d->inner = ew_span(d->x, d->axis + 1, rank - 1);
    EW_TRY(read_length(call, d));
    d->out = d->onesided && !d->inverse ? d->length / 2 + 1 : d->length;
    d->out_parts = d->onesided && d->inverse ? 1 : 2;
    return EDGE_OK;
}

edge_status ew_infer_dft(ew_call *call) {
    dft d;
    int64_t dims[EDGE_MAX_RANK];
    EW_TRY(read_dft(call, &d));
    if (!d.y) return EDGE_OK;
    memcpy(dims, d.x->dims, sizeof dims);
    dims[d.axis] = d.out;
    dims[d.x->rank - 1] = d.out_parts;
    return ew_shape(d.y, d.x->dtype, d.x->rank, dims);
}

/* Fewer elements than the length are padded with zeros; a one-sided spectrum gets its mirror image. */
static void load(const ew_fft_job *job, int64_t line, double *data) {
    const dft *d = job->context;
    int64_t half = d->length / 2 + 1, first = line / d->inner * d->in * d->inner + line % d->inner;
    int64_t given = d->onesided && d->inverse ? half : d->length;
    if (given > d->in) given = d->in;
    memset(data, 0, (size_t)(2 * d->length) * sizeof *data);
    for (int64_t i = 0; i < given; i++) {
        int64_t at = (first + i * d->inner) * d->in_parts;
        data[2 * i] = ew_real_get(d->x->data, d->x->dtype, at);
        if (d->in_parts == 2) data[2 * i + 1] = ew_real_get(d->x->data, d->x->dtype, at + 1);
    }
    if (!(d->onesided && d->inverse)) return;
    data[1] = 0;
    if (d->length % 2 == 0) data[d->length + 1] = 0;
    for (int64_t i = 1; i < (d->length + 1) / 2; i++) {
        data[2 * (d->length - i)] = data[2 * i];
        data[2 * (d->length - i) + 1] = -data[2 * i + 1];
    }
}

static void store(const ew_fft_job *job, int64_t line, const double *data) {
    const dft *d = job->context;
    int64_t first = line / d->inner * d->out * d->inner + line % d->inner;
    for (int64_t i = 0; i < d->out; i++) {
        int64_t at = (first + i * d->inner) * d->out_parts;
        ew_real_put(d->y->data, d->y->dtype, at, data[2 * i]);
        if (d->out_parts == 2) ew_real_put(d->y->data, d->y->dtype, at + 1, data[2 * i + 1]);
    }
}

edge_status ew_run_dft(ew_call *call) {
    dft d;
    EW_TRY(read_dft(call, &d));
    if (!d.y || !ew_count(d.y)) return EDGE_OK;
    /* Complex float32 in float32, as in numpy: the rounding shows in the values that ONNX's tests expect. */
    bool narrow = d.in_parts == 2 && d.x->dtype != EDGE_F64;
    ew_fft_job job = {.lines = ew_span(d.x, 0, d.axis) * d.inner, .length = d.length, .inverse = d.inverse,
                      .narrow = narrow, .load = load, .store = store, .context = &d};
    ew_fft_run_lines(call, &job);
    return EDGE_OK;
}

size_t ew_workspace_dft(const ew_call *call) {
    dft d;
    return read_dft(call, &d) == EDGE_OK ? ew_fft_workspace(d.length) : 0;
}
