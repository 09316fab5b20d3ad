#include <math.h>

#include "real.h"
#include "sequence.h"

typedef struct job {
    const ew_tensor *x, *rois, *batches;
    ew_tensor *y;
    int64_t channels, height, width, out_height, out_width, ratio;
    double scale, shift;
    bool max, half_pixel;
} job;

static edge_status check_shapes(const job *j) {
    if (j->x->rank != 4 || j->rois->rank != 2) {
        return ew_fail(EDGE_INVALID_MODEL, "X and rois have ranks %d and %d, expected 4 and 2", (int)j->x->rank,
                       (int)j->rois->rank);
    }
    EW_TRY(ew_seq_expect(j->rois, "rois", j->x->dtype, 2, (int64_t[]){j->rois->dims[0], 4}));
    return ew_seq_expect(j->batches, "batch_indices", EDGE_S64, 1, &j->rois->dims[0]);
}

static edge_status read_job(const ew_call *call, job *j) {
    static const char *const modes[] = {"avg", "max", NULL};
    static const char *const coordinates[] = {"half_pixel", "output_half_pixel", NULL};
    int64_t limit = (int64_t)1 << 30;
    int mode, coordinate = 1;
    *j = (job){0};
    EW_TRY(ew_seq_need(call, 3));
    j->x = ew_in(call, 0);
    j->rois = ew_in(call, 1);
    j->batches = ew_in(call, 2);
    j->y = ew_out(call, 0);
    EW_TRY(check_shapes(j));
    EW_TRY(ew_seq_choice(call, "mode", "avg", modes, &mode));
    if (call->node->opset >= 16) {
        EW_TRY(ew_seq_choice(call, "coordinate_transformation_mode", "half_pixel", coordinates, &coordinate));
    }
    EW_TRY(ew_seq_integer(call, "output_height", 1, 1, limit, &j->out_height));
    EW_TRY(ew_seq_integer(call, "output_width", 1, 1, limit, &j->out_width));
    EW_TRY(ew_seq_integer(call, "sampling_ratio", 0, 0, 4096, &j->ratio));
    j->scale = ew_attr_float(call->node, "spatial_scale", 1);
    j->max = mode == 1;
    j->half_pixel = coordinate == 0;
    j->shift = j->half_pixel ? 0.5 : 0;
    j->channels = j->x->dims[1];
    j->height = j->x->dims[2];
    j->width = j->x->dims[3];
    return EDGE_OK;
}

edge_status ew_infer_roi_align(ew_call *call) {
    job j;
    EW_TRY(read_job(call, &j));
    int64_t dims[4] = {j.rois->dims[0], j.channels, j.out_height, j.out_width};
    return j.y ? ew_shape(j.y, j.x->dtype, 4, dims) : EDGE_OK;
}

/* The sampling points of all bins along one axis. */
typedef struct line {
    double start, bin, points; /* points: for each bin */
    int64_t length;
} line;

/* A sampling point between two pixels. */
typedef struct between {
    int64_t low, high;
    double low_weight, high_weight;
} between;

static line make_line(const job *j, double begin, double end, int64_t bins, int64_t length) {
    line l = {.start = begin * j->scale - j->shift, .length = length};
    double size = end * j->scale - j->shift - l.start;
    if (!j->half_pixel && !(size >= 1)) size = 1;
    l.bin = size / (double)bins;
    l.points = j->ratio ? (double)j->ratio : ceil(l.bin);
    if (!(l.points > 0)) l.points = 0;
    return l;
}

static double place(const line *l, double bin, double point) {
    return l->start + bin * l->bin + (point + 0.5) * l->bin / l->points;
}

/* The points [*first, *end) of a bin that may lie on the map: a region may be far larger than the map. */
static void visible(const line *l, double bin, double *first, double *end) {
    double step = l->bin / l->points, zero = l->start + bin * l->bin;
    *first = 0;
    *end = l->points;
    if (!(step > 0) || !isfinite(zero)) {
        if (!(isfinite(step) && isfinite(zero))) *end = 0;
        return;
    }
    double low = floor((-1 - zero) / step) - 2, high = ceil(((double)l->length - zero) / step) + 2;
    if (low > *first) *first = fmin(low, *end);
    if (high < *end) *end = fmax(high, *first);
    /* Beyond 2^53 a point and the next one are the same double. */
    if (*end > 9e15) *end = *first;
}

static bool make_between(const line *l, double at, between *b) {
    if (!(at >= -1 && at <= (double)l->length)) return false;
    if (at < 0) at = 0;
    b->low = (int64_t)at;
    b->high = b->low + 1;
    if (b->low >= l->length - 1) {
        b->low = b->high = l->length - 1;
        at = (double)b->low;
    }
    b->high_weight = at - (double)b->low;
    b->low_weight = 1 - b->high_weight;
    return true;
}

/* Channels that one walk over the points of a bin serves. */
enum { CHANNELS = 16 };

/* What the points of a bin have come to, for each channel: sums, or the largest. */
typedef struct pooled {
    int64_t planes[CHANNELS];
    double values[CHANNELS], seen;
    int count;
} pooled;

static inline double pixel(const job *j, int64_t at) {
    return j->x->dtype == EDGE_F32 ? (double)((const float *)j->x->data)[at] : ew_real_get(j->x->data, j->x->dtype, at);
}

static double larger(double a, double b) { return a > b ? a : b; }

/* ONNX takes the largest of the four weighted pixels, not of their sums. */
static void add_point(const job *j, const between *y, const between *x, pooled *p) {
    int64_t at[4] = {y->low * j->width + x->low, y->low * j->width + x->high, y->high * j->width + x->low,
                     y->high * j->width + x->high};
    double weights[4] = {y->low_weight * x->low_weight, y->low_weight * x->high_weight,
                         y->high_weight * x->low_weight, y->high_weight * x->high_weight};
    for (int c = 0; c < p->count; c++) {
        double w[4];
        for (int i = 0; i < 4; i++) w[i] = weights[i] * pixel(j, p->planes[c] + at[i]);
        if (j->max) p->values[c] = larger(larger(larger(w[0], w[1]), larger(w[2], w[3])), p->values[c]);
        else p->values[c] += (w[0] + w[1]) + (w[2] + w[3]);
    }
    p->seen++;
}

static void pool(const job *j, const line *down, const line *across, int64_t row, int64_t column, pooled *p) {
    double count = down->points * across->points, y, y_end, x_first, x_end;
    between v, h;
    p->seen = 0;
    for (int c = 0; c < p->count; c++) p->values[c] = j->max ? -INFINITY : 0;
    visible(across, (double)column, &x_first, &x_end);
    for (visible(down, (double)row, &y, &y_end); y < y_end; y++) {
        if (!make_between(down, place(down, (double)row, y), &v)) continue;
        for (double x = x_first; x < x_end; x++) {
            if (make_between(across, place(across, (double)column, x), &h)) add_point(j, &v, &h, p);
        }
    }
    for (int c = 0; c < p->count; c++) {
        if (j->max) p->values[c] = p->seen < count || count < 1 ? larger(p->values[c], 0) : p->values[c];
        else if (count >= 1) p->values[c] /= count;
    }
}

/* An item is a region and a block of channels. */
static void run_items(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int64_t bins = j->out_height * j->out_width, blocks = (j->channels + CHANNELS - 1) / CHANNELS;
    for (int64_t item = begin; item < end; item++) {
        int64_t roi = item / blocks, channel = item % blocks * CHANNELS;
        int64_t first = ((const int64_t *)j->batches->data)[roi] * j->channels + channel;
        double box[4];
        pooled p = {.count = (int)(j->channels - channel < CHANNELS ? j->channels - channel : CHANNELS)};
        for (int c = 0; c < p.count; c++) p.planes[c] = (first + c) * j->height * j->width;
        for (int i = 0; i < 4; i++) box[i] = ew_real_get(j->rois->data, j->rois->dtype, roi * 4 + i);
        line across = make_line(j, box[0], box[2], j->out_width, j->width);
        line down = make_line(j, box[1], box[3], j->out_height, j->height);
        for (int64_t i = 0; i < bins; i++) {
            pool(j, &down, &across, i / j->out_width, i % j->out_width, &p);
            for (int c = 0; c < p.count; c++) {
                ew_real_put(j->y->data, j->y->dtype, (roi * j->channels + channel + c) * bins + i, p.values[c]);
            }
        }
    }
}

edge_status ew_run_roi_align(ew_call *call) {
    job j;
    EW_TRY(read_job(call, &j));
    int64_t count = j.rois->dims[0];
    for (int64_t i = 0; i < count; i++) {
        int64_t batch = ((const int64_t *)j.batches->data)[i];
        if (batch >= 0 && batch < j.x->dims[0]) continue;
        return ew_fail(EDGE_INVALID_ARGUMENT, "batch_indices has %lld at %lld, expected 0 to %lld", (long long)batch,
                       (long long)i, (long long)j.x->dims[0] - 1);
    }
    if (!j.y || !ew_count(j.y)) return EDGE_OK;
    if (!j.height || !j.width) {
        memset(j.y->data, 0, ew_bytes(j.y));
        return EDGE_OK;
    }
    int64_t blocks = (j.channels + CHANNELS - 1) / CHANNELS;
    ew_parallel(call, count * blocks, 1 + 64 / (j.out_height * j.out_width), run_items, &j);
    return EDGE_OK;
}
