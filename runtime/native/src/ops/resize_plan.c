#include "resize.h"

#include <math.h>

#include "real.h"

/* ---- sizes ---- */

/* Axes that roi, scales and sizes are about; all of them when the node does not say. */
static edge_status read_axes(const ew_call *call, int rank, int *axes, int *count) {
    int given;
    bool seen[EDGE_MAX_RANK] = {false};
    const int64_t *list = ew_attr_ints(call->node, "axes", &given);
    *count = given < 0 ? rank : given;
    if (*count > rank) return ew_fail(EDGE_INVALID_MODEL, "axes has %d entries for rank %d", given, rank);
    for (int i = 0; i < *count; i++) {
        axes[i] = i;
        if (given >= 0) EW_TRY(ew_axis(list[i], rank, &axes[i]));
        if (seen[axes[i]]) return ew_fail(EDGE_INVALID_MODEL, "axes has axis %d twice", axes[i]);
        seen[axes[i]] = true;
    }
    return EDGE_OK;
}

static edge_status check_list(const ew_call *call, const ew_tensor *t, const char *name, int64_t count) {
    if (t->rank != 1 || t->dims[0] != count) {
        return ew_fail(EDGE_INVALID_MODEL, "%s has rank %d and %lld elements, expected rank 1 and %lld", name,
                       (int)t->rank, (long long)ew_count(t), (long long)count);
    }
    if (!ew_known(call, t)) {
        return ew_fail(EDGE_UNSUPPORTED, "%s must be a constant or a fixed input, because shapes depend on it", name);
    }
    return EDGE_OK;
}

/* The product in float32, as exporters compute it. */
static edge_status apply_scale(ew_resize_axis *axis, float scale) {
    float length = floorf((float)axis->in * scale);
    if (!(scale > 0) || !(length < 1e12f)) {
        return ew_fail(EDGE_INVALID_ARGUMENT, "a scale is %g for a length of %lld, expected a positive number",
                       (double)scale, (long long)axis->in);
    }
    axis->scale = scale;
    axis->out = (int64_t)length;
    return EDGE_OK;
}

static edge_status apply_scales(const ew_call *call, ew_resize *r, const ew_tensor *scales, const int *axes,
                                int count) {
    EW_TRY(check_list(call, scales, "scales", count));
    if (scales->dtype != EDGE_F32) {
        return ew_fail(EDGE_INVALID_MODEL, "scales is %s, expected float32", ew_dtype_name(scales->dtype));
    }
    for (int i = 0; i < count; i++) EW_TRY(apply_scale(&r->axes[axes[i]], (float)ew_get(scales, i)));
    return EDGE_OK;
}

static edge_status keep_aspect(const ew_call *call, ew_resize *r, const int *axes, int count) {
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller", NULL};
    int policy;
    EW_TRY(ew_seq_choice(call, "keep_aspect_ratio_policy", "stretch", policies, &policy));
    if (policy == 0 || count == 0) return EDGE_OK;
    double scale = r->axes[axes[0]].scale;
    for (int i = 1; i < count; i++) {
        double other = r->axes[axes[i]].scale;
        if (policy == 1 ? other < scale : other > scale) scale = other;
    }
    for (int i = 0; i < count; i++) {
        ew_resize_axis *axis = &r->axes[axes[i]];
        double length = floor(scale * (double)axis->in + 0.5);
        if (!(length < 1e12)) return ew_fail(EDGE_INVALID_ARGUMENT, "the scale %g is too large", scale);
        axis->scale = scale;
        axis->out = (int64_t)length;
    }
    return EDGE_OK;
}

static edge_status apply_sizes(const ew_call *call, ew_resize *r, const ew_tensor *sizes, const int *axes, int count) {
    int64_t values[EDGE_MAX_RANK];
    int given;
    EW_TRY(check_list(call, sizes, "sizes", count));
    EW_TRY(ew_ints(call, 3, values, EDGE_MAX_RANK, &given));
    for (int i = 0; i < count; i++) {
        ew_resize_axis *axis = &r->axes[axes[i]];
        if (values[i] < 0 || (values[i] > 0 && axis->in == 0)) {
            return ew_fail(EDGE_INVALID_ARGUMENT, "sizes asks for %lld on axis %d of length %lld", (long long)values[i],
                           axes[i], (long long)axis->in);
        }
        axis->out = values[i];
        axis->scale = axis->in ? (double)values[i] / (double)axis->in : 1;
    }
    return keep_aspect(call, r, axes, count);
}

static edge_status apply_region(const ew_call *call, ew_resize *r, const ew_tensor *roi, const int *axes, int count) {
    if (r->coordinate != EW_RESIZE_CROP) return EDGE_OK;
    if (!roi || roi->rank != 1 || roi->dims[0] != 2 * count) {
        return ew_fail(EDGE_INVALID_MODEL, "tf_crop_and_resize needs a roi of rank 1 with %d elements", 2 * count);
    }
    for (int i = 0; i < count; i++) {
        ew_resize_axis *axis = &r->axes[axes[i]];
        axis->active = true;
        axis->start = ew_known(call, roi) ? ew_get(roi, i) : 0;
        axis->end = ew_known(call, roi) ? ew_get(roi, count + i) : 1;
    }
    return EDGE_OK;
}

/* ---- attributes ---- */

static edge_status read_modes(const ew_call *call, ew_resize *r) {
    static const char *const modes[] = {"nearest", "linear", "cubic", NULL};
    static const char *const old_modes[] = {"nearest", "linear", "bilinear", NULL};
    static const char *const coordinates[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",
                                              "align_corners", "asymmetric", "tf_crop_and_resize",
                                              "tf_half_pixel_for_nn", NULL};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", NULL};
    int mode, coordinate = EW_RESIZE_ASYMMETRIC, rounding = EW_ROUND_SIMPLE;
    bool old = call->node->opset < 11;
    EW_TRY(ew_seq_choice(call, "mode", "nearest", old ? old_modes : modes, &mode));
    if (!old) {
        EW_TRY(ew_seq_choice(call, "coordinate_transformation_mode", "half_pixel", coordinates, &coordinate));
        EW_TRY(ew_seq_choice(call, "nearest_mode", "round_prefer_floor", roundings, &rounding));
    }
    r->mode = old && mode ? EW_RESIZE_LINEAR : (ew_resize_mode)mode;
    r->coordinate = (ew_resize_coordinate)coordinate;
    r->rounding = (ew_resize_rounding)rounding;
    return EDGE_OK;
}

static edge_status read_attributes(const ew_call *call, ew_resize *r) {
    int64_t antialias, exclude;
    EW_TRY(read_modes(call, r));
    EW_TRY(ew_seq_integer(call, "antialias", 0, 0, 1, &antialias));
    EW_TRY(ew_seq_integer(call, "exclude_outside", 0, 0, 1, &exclude));
    if (antialias && r->mode == EW_RESIZE_NEAREST) {
        return ew_fail(EDGE_INVALID_MODEL, "antialias is 1 for mode nearest, expected linear or cubic");
    }
    r->antialias = antialias != 0;
    r->exclude_outside = exclude != 0;
    r->cubic = ew_attr_float(call->node, "cubic_coeff_a", -0.75f);
    r->extrapolation = ew_attr_float(call->node, "extrapolation_value", 0);
    return EDGE_OK;
}

/* Upsample 7 and 8 have scales as an attribute. */
static edge_status apply_attribute(const ew_call *call, ew_resize *r) {
    const ew_attribute *scales = ew_attr(call->node, "scales");
    if (!scales || scales->type != EW_ATTR_FLOATS || scales->count != (size_t)r->rank) {
        return ew_fail(EDGE_INVALID_MODEL, "attribute scales must have %d numbers, as many as the rank", r->rank);
    }
    for (int i = 0; i < r->rank; i++) EW_TRY(apply_scale(&r->axes[i], scales->floats[i]));
    return EDGE_OK;
}

static edge_status apply_inputs(const ew_call *call, ew_resize *r) {
    bool old = call->node->opset < 11;
    int axes[EDGE_MAX_RANK], count;
    const ew_tensor *scales = ew_in(call, old ? 1 : 2), *sizes = old ? NULL : ew_in(call, 3);
    EW_TRY(read_axes(call, r->rank, axes, &count));
    bool has_scales = scales && ew_count(scales) > 0, has_sizes = sizes && ew_count(sizes) > 0;
    if (has_scales == has_sizes && count > 0) {
        return ew_fail(EDGE_INVALID_MODEL, "%s of scales and sizes is given, expected one",
                       has_scales ? "each" : "neither");
    }
    if (has_sizes) EW_TRY(apply_sizes(call, r, sizes, axes, count));
    if (has_scales) EW_TRY(apply_scales(call, r, scales, axes, count));
    return old ? EDGE_OK : apply_region(call, r, ew_in(call, 1), axes, count);
}

edge_status ew_read_resize(const ew_call *call, ew_resize *r) {
    *r = (ew_resize){0};
    EW_TRY(ew_seq_need(call, 1));
    const ew_tensor *x = ew_in(call, 0);
    r->rank = x->rank;
    for (int i = 0; i < r->rank; i++) {
        r->axes[i] = (ew_resize_axis){.in = x->dims[i], .out = x->dims[i], .scale = 1, .end = 1};
    }
    EW_TRY(read_attributes(call, r));
    EW_TRY(call->node->opset < 9 ? apply_attribute(call, r) : apply_inputs(call, r));
    for (int i = 0; i < r->rank; i++) {
        ew_resize_axis *axis = &r->axes[i];
        axis->active |= axis->in != axis->out || fabs(axis->scale - 1) > 1e-9;
        axis->active |= r->coordinate == EW_RESIZE_TF_HALF_PIXEL;
    }
    return EDGE_OK;
}

/* ---- tables ---- */

static double source(const ew_resize *r, const ew_resize_axis *axis, double x) {
    double in = (double)axis->in, out = (double)axis->out, width = axis->scale * in;
    switch (r->coordinate) {
    case EW_RESIZE_HALF_PIXEL: break;
    case EW_RESIZE_HALF_PIXEL_SYMMETRIC: return in / 2 * (1 - out / width) + (x + 0.5) / axis->scale - 0.5;
    case EW_RESIZE_PYTORCH_HALF_PIXEL:
        if (out <= 1) return 0;
        break;
    case EW_RESIZE_ALIGN_CORNERS: return width == 1 ? 0 : x * (in - 1) / (width - 1);
    case EW_RESIZE_ASYMMETRIC: return x / axis->scale;
    case EW_RESIZE_CROP:
        if (out <= 1) return 0.5 * (axis->start + axis->end) * (in - 1);
        return axis->start * (in - 1) + x * (axis->end - axis->start) * (in - 1) / (out - 1);
    case EW_RESIZE_TF_HALF_PIXEL: return (x + 0.5) / axis->scale;
    }
    return (x + 0.5) / axis->scale - 0.5;
}

static double nearest(const ew_resize *r, const ew_resize_axis *axis, double x) {
    double low = floor(x);
    if (x == low) return x;
    switch (r->rounding) {
    case EW_ROUND_PREFER_FLOOR: return x - low <= 0.5 ? low : low + 1;
    case EW_ROUND_PREFER_CEIL: return x - low < 0.5 ? low : low + 1;
    case EW_ROUND_FLOOR: return low;
    case EW_ROUND_CEIL: return low + 1;
    case EW_ROUND_SIMPLE: return axis->scale < 1 ? low + 1 : low;
    }
    return low;
}

static double kernel(const ew_resize *r, double x) {
    double a = r->cubic;
    x = fabs(x);
    if (r->mode == EW_RESIZE_LINEAR) return x < 1 ? 1 - x : 0;
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

/* How much the kernel is stretched. */
static double stretch(const ew_resize *r, const ew_resize_axis *axis) {
    return r->antialias && axis->scale < 1 ? axis->scale : 1;
}

int64_t ew_resize_taps(const ew_resize *r, int axis) {
    const ew_resize_axis *a = &r->axes[axis];
    if (!a->active || r->mode == EW_RESIZE_NEAREST || !a->out) return 1;
    return 2 * (int64_t)ceil((r->mode == EW_RESIZE_CUBIC ? 2 : 1) / stretch(r, a));
}

double ew_resize_tap_bound(const ew_resize_axis *axis) { return 8 * (double)axis->in + 4 * (double)axis->out + 8; }

static int64_t clamp(double x, int64_t length) {
    if (!(x > 0)) return 0;
    return x >= (double)length - 1 ? length - 1 : (int64_t)x;
}

static void fill_taps(const ew_resize *r, const ew_resize_axis *axis, double x, int64_t taps, int64_t *index,
                      double *weights) {
    double base = floor(x), sum = 0, narrow = stretch(r, axis);
    for (int64_t i = 0; i < taps; i++) {
        double at = base + (double)(i + 1 - taps / 2);
        bool outside = at < 0 || at > (double)axis->in - 1;
        weights[i] = r->exclude_outside && outside ? 0 : kernel(r, (at - x) * narrow);
        sum += weights[i];
        index[i] = clamp(at, axis->in);
    }
    if (sum == 0 || !(r->exclude_outside || r->antialias)) return;
    for (int64_t i = 0; i < taps; i++) weights[i] /= sum;
}

void ew_resize_table(const ew_resize *r, int number, int64_t *index, double *weights) {
    const ew_resize_axis *axis = &r->axes[number];
    int64_t taps = ew_resize_taps(r, number);
    for (int64_t i = 0; i < axis->out; i++) {
        double x = axis->active ? source(r, axis, (double)i) : (double)i;
        bool inside = x >= 0 && x <= (double)axis->in - 1;
        if (taps == 1) {
            index[i] = clamp(nearest(r, axis, x), axis->in);
            if (weights) weights[i] = 1;
        } else {
            fill_taps(r, axis, x, taps, index + i * taps, weights + i * taps);
        }
        if (axis->active && r->coordinate == EW_RESIZE_CROP && !inside) index[i * taps] = -1;
    }
}
