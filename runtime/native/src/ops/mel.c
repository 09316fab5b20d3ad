#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

typedef struct filters {
    int64_t count, length, rate, bins; /* filters, points of the transform, samples a second, rows of the result */
    double lowest, step;               /* mel */
} filters;

static edge_status read_sizes(const ew_call *call, filters *f) {
    int64_t *sizes[] = {&f->count, &f->length, &f->rate};
    static const char *const names[] = {"num_mel_bins", "dft_length", "sample_rate"};
    for (int i = 0; i < 3; i++) {
        int count;
        EW_TRY(ew_ints(call, i, sizes[i], 1, &count));
        if (count != 1 || *sizes[i] < 1 || *sizes[i] > INT32_MAX)
            return ew_fail(EDGE_INVALID_ARGUMENT, "%s must be one number from 1 to %d", names[i], INT32_MAX);
    }
    f->bins = f->length / 2 + 1;
    return EDGE_OK;
}

edge_status ew_infer_mel(ew_call *call) {
    filters f;
    EW_TRY(ew_needs(call, 5, 1));
    EW_TRY(read_sizes(call, &f));
    for (int i = 3; i < 5; i++) {
        const ew_tensor *edge = ew_in(call, i);
        if (!(EW_T(edge->dtype) & EW_FLOATS) || ew_count(edge) != 1)
            return ew_fail(EDGE_INVALID_MODEL, "input %d must be one float", i);
    }
    int64_t dtype = ew_attr_int(call->node, "output_datatype", EDGE_F32), dims[] = {f.bins, f.count};
    if (dtype < 1 || dtype > EDGE_U64 || !(EW_T(dtype) & EW_NUMBERS))
        return ew_fail(EDGE_UNSUPPORTED, "output_datatype %lld is no number that the engine has", (long long)dtype);
    return ew_shape(ew_out(call, 0), (edge_dtype)dtype, 2, dims);
}

static double mel_of(double hertz) { return 2595 * log10(1 + hertz / 700); }

/* The bin at which filter i begins, filter i - 1 has its peak and filter i - 2 ends; at most all bins. */
static edge_status corner(const filters *f, int64_t i, int64_t *bin) {
    double hertz = 700 * (pow(10, (f->lowest + (double)i * f->step) / 2595) - 1);
    double place = floor((double)(f->length + 1) * hertz / (double)f->rate);
    if (!(place >= 0 && place <= (double)f->bins))
        return ew_fail(EDGE_INVALID_ARGUMENT, "%g hertz lies outside the spectrum of %lld bins", hertz,
                       (long long)f->bins);
    *bin = (int64_t)place;
    return EDGE_OK;
}

/* Integers are truncated: weights lie between 0 and 1. */
static void put(ew_tensor *y, int64_t index, double value) {
    if (EW_T(y->dtype) & EW_FLOATS) {
        ew_store_double(y->data, y->dtype, index, value);
        return;
    }
    size_t bytes = ew_dtype_bytes(y->dtype);
    bool whole = value >= 1;
    if (bytes == 1) ((uint8_t *)y->data)[index] = whole;
    if (bytes == 2) ((uint16_t *)y->data)[index] = whole;
    if (bytes == 4) ((uint32_t *)y->data)[index] = whole;
    if (bytes == 8) ((uint64_t *)y->data)[index] = whole;
}

/* Rises from left to 1 at centre and falls to right; without a rise the peak stays. */
static void put_filter(ew_tensor *y, const filters *f, int64_t filter, int64_t left, int64_t centre, int64_t right) {
    for (int64_t i = left; i < centre; i++)
        put(y, i * f->count + filter, (double)(i - left) / (double)(centre - left));
    if (centre < f->bins) put(y, centre * f->count + filter, 1);
    for (int64_t i = centre + 1; i < right; i++)
        put(y, i * f->count + filter, (double)(right - i) / (double)(right - centre));
}

edge_status ew_run_mel(ew_call *call) {
    ew_tensor *y = ew_out(call, 0);
    filters f;
    EW_TRY(read_sizes(call, &f));
    f.lowest = mel_of(ew_get(ew_in(call, 3), 0));
    f.step = (mel_of(ew_get(ew_in(call, 4), 0)) - f.lowest) / (double)(f.count + 2);
    if (y->dims[0] != f.bins || y->dims[1] != f.count)
        return ew_fail(EDGE_SHAPE_MISMATCH, "num_mel_bins and dft_length differ from those of the session");
    memset(y->data, 0, ew_bytes(y));
    for (int64_t i = 0; i < f.count; i++) {
        int64_t left, centre, right;
        EW_TRY(corner(&f, i, &left));
        EW_TRY(corner(&f, i + 1, &centre));
        EW_TRY(corner(&f, i + 2, &right));
        put_filter(y, &f, i, left, centre, right);
    }
    return EDGE_OK;
}
