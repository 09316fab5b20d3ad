#include <math.h>

#include "real.h"
#include "sequence.h"

/* MOST: combinations of taps of all axes, 4^3 for cubic and 2^6 for linear. */
enum { TAPS = 4, AXES = EDGE_MAX_RANK - 2, MOST = 64 };

typedef enum padding { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION } padding;
typedef enum sampling { SAMPLE_LINEAR, SAMPLE_NEAREST, SAMPLE_CUBIC } sampling;

typedef struct job {
    sampling mode;
    padding pad;
    bool align;
    int axes;
    int64_t lengths[AXES]; /* of the input */
    int64_t channels, points, in_size;
    const ew_tensor *x, *grid;
    ew_tensor *y;
} job;

typedef struct tap {
    int64_t at; /* -1: outside, counts as zero */
    double weight;
} tap;

static edge_status check_shapes(const ew_tensor *x, const ew_tensor *grid) {
    if (x->rank < 3 || grid->rank != x->rank || grid->dims[0] != x->dims[0] ||
        grid->dims[grid->rank - 1] != x->rank - 2) {
        return ew_fail(EDGE_INVALID_MODEL, "input of rank %d and grid of rank %d do not fit: expected a grid of batch, "
                       "output size and one coordinate for each spatial axis", (int)x->rank, (int)grid->rank);
    }
    if (!(EW_T(grid->dtype) & EW_FLOATS)) {
        return ew_fail(EDGE_INVALID_MODEL, "grid is %s, expected a floating type", ew_dtype_name(grid->dtype));
    }
    int64_t points = ew_span(grid, 1, grid->rank - 1);
    for (int i = 2; i < x->rank; i++) {
        if (x->dims[i] || !points || !x->dims[1]) continue;
        return ew_fail(EDGE_INVALID_MODEL, "axis %d of the input has length 0, there is nothing to sample", i);
    }
    return EDGE_OK;
}

static edge_status read_job(const ew_call *call, job *j) {
    static const char *const old_modes[] = {"bilinear", "nearest", "bicubic", NULL};
    static const char *const modes[] = {"linear", "nearest", "cubic", NULL};
    static const char *const pads[] = {"zeros", "border", "reflection", NULL};
    bool old = call->node->opset < 20;
    int mode, pad;
    int64_t align;
    *j = (job){0};
    EW_TRY(ew_seq_need(call, 2));
    j->x = ew_in(call, 0);
    j->grid = ew_in(call, 1);
    j->y = ew_out(call, 0);
    EW_TRY(ew_seq_choice(call, "mode", old ? "bilinear" : "linear", old ? old_modes : modes, &mode));
    EW_TRY(ew_seq_choice(call, "padding_mode", "zeros", pads, &pad));
    EW_TRY(ew_seq_integer(call, "align_corners", 0, 0, 1, &align));
    EW_TRY(check_shapes(j->x, j->grid));
    j->mode = (sampling)mode;
    j->pad = (padding)pad;
    j->align = align != 0;
    j->axes = j->x->rank - 2;
    if (j->mode == SAMPLE_CUBIC && j->axes > 3) {
        return ew_fail(EDGE_UNSUPPORTED, "cubic sampling over %d axes, at most 3 are possible", j->axes);
    }
    for (int i = 0; i < j->axes; i++) j->lengths[i] = j->x->dims[2 + i];
    j->channels = j->x->dims[1];
    j->points = ew_span(j->grid, 1, j->grid->rank - 1);
    j->in_size = ew_span(j->x, 2, j->x->rank);
    return EDGE_OK;
}

edge_status ew_infer_grid_sample(ew_call *call) {
    job j;
    EW_TRY(read_job(call, &j));
    if (!j.y) return EDGE_OK;
    int64_t dims[EDGE_MAX_RANK] = {j.x->dims[0], j.channels};
    for (int i = 0; i < j.axes; i++) dims[2 + i] = j.grid->dims[1 + i];
    return ew_shape(j.y, j.x->dtype, j.x->rank, dims);
}

static double reflect(double x, double low, double high) {
    double range = high - low;
    if (x >= low && x <= high) return x;
    if (!(range > 0)) return low;
    double over = x < low ? low - x : x - high, turns = trunc(over / range), rest = over - turns * range;
    bool even = fmod(turns, 2) == 0;
    return (x < low) == even ? low + rest : high - rest;
}

/* The index of a pixel by the padding mode; -1: outside. */
static int64_t pixel(const job *j, double at, int64_t length) {
    double last = (double)length - 1;
    if (at >= 0 && at <= last) return (int64_t)at;
    if (j->pad == PAD_ZEROS) return -1;
    if (j->pad == PAD_REFLECTION) at = trunc(reflect(at, j->align ? 0 : -0.5, j->align ? last : last + 0.5));
    return at > 0 ? (int64_t)fmin(at, last) : 0;
}

static void cubic_weights(double x, tap *taps) {
    const double a = -0.75;
    for (int i = 0; i < 4; i++) {
        double d = fabs(x - (i - 1));
        taps[i].weight = d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    }
}

/* The pixel coordinate of a grid coordinate, in float32 as other engines have it, so that ties round alike. */
static double coordinate(const job *j, double grid, int64_t length) {
    float x = (float)grid, n = (float)length;
    if (j->grid->dtype == EDGE_F64) {
        return j->align ? (grid + 1) / 2 * ((double)length - 1) : ((grid + 1) * (double)length - 1) / 2;
    }
    return j->align ? (x + 1) / 2 * (n - 1) : ((x + 1) * n - 1) / 2;
}

static int make_taps(const job *j, double grid, int64_t length, tap *taps) {
    double x = coordinate(j, grid, length), last = (double)length - 1;
    double low = j->align ? 0 : -0.5, high = j->align ? last : last + 0.5;
    if (j->mode == SAMPLE_NEAREST) x = rint(x);
    if (!isfinite(x)) x = j->pad == PAD_ZEROS ? -1e9 : x > 0 ? last : 0;
    if (x < low || x > high) {
        /* A cubic keeps its weights beyond the border, as in PyTorch; only its pixels are clamped. */
        if (j->pad == PAD_BORDER && j->mode != SAMPLE_CUBIC) x = x < 0 ? 0 : fmin(x, last);
        if (j->pad == PAD_REFLECTION) x = reflect(x, low, high);
    }
    if (j->mode == SAMPLE_NEAREST) {
        taps[0] = (tap){pixel(j, trunc(x), length), 1};
        return 1;
    }
    double base = floor(x);
    bool cubic = j->mode == SAMPLE_CUBIC;
    int count = cubic ? 4 : 2;
    for (int i = 0; i < count; i++) taps[i].at = pixel(j, base + i - (cubic ? 1 : 0), length);
    if (cubic) {
        cubic_weights(x - base, taps);
    } else {
        taps[0].weight = 1 - (x - base);
        taps[1].weight = x - base;
    }
    return count;
}

/* All combinations of the taps of the axes, as offsets into a channel; those outside are left out. */
static int combine(const job *j, int64_t point, tap *all) {
    tap next[MOST], taps[TAPS];
    int count = 1;
    all[0] = (tap){0, 1};
    for (int axis = 0; axis < j->axes; axis++) {
        int64_t from = point * j->axes + j->axes - 1 - axis;
        int own = make_taps(j, ew_real_get(j->grid->data, j->grid->dtype, from), j->lengths[axis], taps), made = 0;
        for (int i = 0; i < count; i++) {
            for (int k = 0; k < own; k++) {
                if (taps[k].at < 0) continue;
                next[made++] = (tap){all[i].at * j->lengths[axis] + taps[k].at, all[i].weight * taps[k].weight};
            }
        }
        count = made;
        memcpy(all, next, (size_t)count * sizeof *all);
    }
    return count;
}

static double sample(const job *j, int64_t from, const tap *taps, int count) {
    double sum = 0;
    if (j->x->dtype == EDGE_F32) {
        const float *x = (const float *)j->x->data + from;
        for (int i = 0; i < count; i++) sum += taps[i].weight * (double)x[taps[i].at];
    } else {
        for (int i = 0; i < count; i++) sum += taps[i].weight * ew_real_get(j->x->data, j->x->dtype, from + taps[i].at);
    }
    return sum;
}

static void run_points(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t point = begin; point < end; point++) {
        tap taps[MOST];
        int count = combine(j, point, taps);
        int64_t batch = point / j->points, at = point % j->points;
        for (int64_t c = 0; c < j->channels; c++) {
            int64_t plane = batch * j->channels + c;
            ew_real_put(j->y->data, j->y->dtype, plane * j->points + at, sample(j, plane * j->in_size, taps, count));
        }
    }
}

edge_status ew_run_grid_sample(ew_call *call) {
    job j;
    EW_TRY(read_job(call, &j));
    if (!j.y || !ew_count(j.y)) return EDGE_OK;
    ew_parallel(call, j.x->dims[0] * j.points, 1 + 2048 / j.channels, run_points, &j);
    return EDGE_OK;
}
