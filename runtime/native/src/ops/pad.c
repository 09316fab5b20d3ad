/* Pad, CenterCropPad. */
#include "movement.h"

typedef enum pad_mode { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP } pad_mode;

/* Elements before and after each axis; negative: elements that are cut off. */
typedef struct padding {
    int64_t before[EDGE_MAX_RANK], after[EDGE_MAX_RANK];
} padding;

static edge_status read_mode(const ew_call *call, pad_mode *mode) {
    static const char *const names[] = {"constant", "reflect", "edge", "wrap"};
    const char *given = ew_attr_string(call->node, "mode", "constant");
    for (int i = 0; i < 4; i++) {
        if (strcmp(given, names[i]) != 0) continue;
        *mode = (pad_mode)i;
        return EDGE_OK;
    }
    return ew_fail(EDGE_INVALID_MODEL, "mode \"%s\" is not constant, reflect, edge or wrap", given);
}

static edge_status read_amounts(const ew_call *call, int64_t *amounts, int *count) {
    if (call->node->opset >= 11) return ew_ints(call, 1, amounts, 2 * EDGE_MAX_RANK, count);
    const int64_t *given = ew_attr_ints(call->node, "pads", count);
    if (*count < 0 || *count > 2 * EDGE_MAX_RANK)
        return ew_fail(EDGE_INVALID_MODEL, "the attribute pads is missing or has more than %d entries",
                       2 * EDGE_MAX_RANK);
    for (int i = 0; i < *count; i++) amounts[i] = given[i];
    return EDGE_OK;
}

static edge_status read_padding(const ew_call *call, padding *p) {
    const int rank = ew_in(call, 0)->rank;
    int64_t amounts[2 * EDGE_MAX_RANK];
    int axes[EDGE_MAX_RANK], count, axis_count = -1;
    EW_TRY(read_amounts(call, amounts, &count));
    if (ew_in(call, 3)) EW_TRY(ew_axes(call, 3, rank, axes, &axis_count));
    if (axis_count < 0)
        for (axis_count = 0; axis_count < rank; axis_count++) axes[axis_count] = axis_count;
    if (count != 2 * axis_count)
        return ew_fail(EDGE_INVALID_MODEL, "there are %d pads for %d axes, expected two for each", count, axis_count);
    *p = (padding){{0}, {0}};
    for (int i = 0; i < axis_count; i++) {
        p->before[axes[i]] = amounts[i];
        p->after[axes[i]] = amounts[axis_count + i];
    }
    return EDGE_OK;
}

static int64_t cut(int64_t amount) { return amount < 0 ? -amount : 0; }

/* The part of an axis that is kept; zero or less: none. */
static int64_t kept(const padding *p, const ew_tensor *in, int axis) {
    return in->dims[axis] - cut(p->before[axis]) - cut(p->after[axis]);
}

static edge_status check_axis(const padding *p, const ew_tensor *in, int axis, pad_mode mode, int64_t *size) {
    const int64_t limit = (int64_t)1 << 48, before = p->before[axis], after = p->after[axis];
    bool fits = before > -limit && before < limit && after > -limit && after < limit && in->dims[axis] < limit;
    *size = fits ? in->dims[axis] + before + after : -1;
    if (*size < 0)
        return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d of size %lld cannot be padded by %lld and %lld", axis,
                       (long long)in->dims[axis], (long long)before, (long long)after);
    if (mode != PAD_CONSTANT && *size > 0 && kept(p, in, axis) <= 0)
        return ew_fail(EDGE_SHAPE_MISMATCH, "nothing is left of axis %d of size %lld to pad with", axis,
                       (long long)in->dims[axis]);
    return EDGE_OK;
}

static edge_status infer_padded(ew_call *call, const padding *p, pad_mode mode) {
    const ew_tensor *in = ew_in(call, 0);
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < in->rank; i++) EW_TRY(check_axis(p, in, i, mode, &dims[i]));
    return ew_shape(ew_out(call, 0), in->dtype, in->rank, dims);
}

/* A padded tensor as rows of units: what follows the last padded axis is one unit. */
typedef struct pad_job {
    const padding *p;
    const ew_tensor *in;
    ew_tensor *out;
    pad_mode mode;
    int last; /* padded axis, -1: none */
    size_t unit, element;
    uint64_t value;
} pad_job;

/* Where a position of the output comes from on this axis; -1: from nowhere. */
static int64_t source(const pad_job *j, int axis, int64_t position) {
    const int64_t before = j->p->before[axis], size = kept(j->p, j->in, axis);
    int64_t at = position - (before > 0 ? before : 0);
    if (at < 0 || at >= size) {
        if (j->mode == PAD_CONSTANT) return -1;
        if (j->mode == PAD_EDGE) {
            at = at < 0 ? 0 : size - 1;
        } else {
            const int64_t period = j->mode == PAD_WRAP ? size : size > 1 ? 2 * (size - 1) : 1;
            at %= period;
            if (at < 0) at += period;
            if (at >= size) at = period - at;
        }
    }
    return at + cut(before);
}

static void fill_units(const pad_job *j, char *to, int64_t units) {
    ew_move_fill(to, units * (int64_t)(j->unit / j->element), j->element, &j->value);
}

static void pad_ends(const pad_job *j, char *to, const char *from, int64_t begin, int64_t end) {
    if (j->mode == PAD_CONSTANT) {
        fill_units(j, to + begin * (int64_t)j->unit, end - begin);
        return;
    }
    for (int64_t i = begin; i < end; i++)
        ew_move_element(to + i * (int64_t)j->unit, from + source(j, j->last, i) * (int64_t)j->unit, j->unit);
}

static void pad_row(const pad_job *j, char *to, const char *from) {
    const int64_t before = j->p->before[j->last], length = j->out->dims[j->last];
    int64_t begin = before < 0 ? 0 : before < length ? before : length, middle = kept(j->p, j->in, j->last);
    if (middle < 0) middle = 0;
    if (middle > length - begin) middle = length - begin;
    pad_ends(j, to, from, 0, begin);
    if (middle)
        memcpy(to + begin * (int64_t)j->unit, from + cut(before) * (int64_t)j->unit, (size_t)middle * j->unit);
    pad_ends(j, to, from, begin + middle, length);
}

static void pad_rows(void *context, int64_t begin, int64_t end) {
    const pad_job *j = context;
    const int64_t length = j->out->dims[j->last], in_length = j->in->dims[j->last];
    for (int64_t row = begin; row < end; row++) {
        int64_t rest = row, from = 0, stride = in_length * (int64_t)j->unit;
        bool outside = false;
        for (int i = j->last - 1; i >= 0; i--) {
            const int64_t at = source(j, i, rest % j->out->dims[i]);
            rest /= j->out->dims[i];
            outside |= at < 0;
            from += at * stride;
            stride *= j->in->dims[i];
        }
        char *to = (char *)j->out->data + row * length * (int64_t)j->unit;
        if (outside)
            fill_units(j, to, length);
        else
            pad_row(j, to, (const char *)j->in->data + from);
    }
}

static edge_status run_padded(ew_call *call, const padding *p, pad_mode mode, uint64_t value) {
    pad_job j = {.p = p, .in = ew_in(call, 0), .out = ew_out(call, 0), .mode = mode, .value = value};
    if (ew_count(j.out) == 0) return EDGE_OK;
    j.element = ew_dtype_bytes(j.in->dtype);
    j.last = j.in->rank - 1;
    while (j.last >= 0 && p->before[j.last] == 0 && p->after[j.last] == 0) j.last--;
    if (j.last < 0) {
        ew_move_all(call, j.in, j.out);
        return EDGE_OK;
    }
    j.unit = (size_t)ew_span(j.out, j.last + 1, j.out->rank) * j.element;
    const int64_t row_bytes = j.out->dims[j.last] * (int64_t)j.unit;
    ew_parallel(call, ew_span(j.out, 0, j.last), 65536 / (row_bytes < 65536 ? row_bytes : 65536), pad_rows, &j);
    return EDGE_OK;
}

edge_status ew_infer_pad(ew_call *call) {
    EW_TRY(ew_move_need(call, call->node->opset < 11 ? 1 : 2, 1));
    padding p;
    pad_mode mode;
    EW_TRY(read_mode(call, &mode));
    EW_TRY(read_padding(call, &p));
    if (ew_in(call, 2)) {
        EW_TRY(ew_move_need_dtype(call, 2, ew_in(call, 0)->dtype));
        EW_TRY(ew_move_need_one(call, 2));
    }
    return infer_padded(call, &p, mode);
}

/* The bytes of the value that pads. */
static uint64_t pad_value(const ew_call *call) {
    uint64_t bytes = 0;
    ew_tensor one = {.dtype = ew_in(call, 0)->dtype, .data = &bytes};
    if (ew_in(call, 2))
        memcpy(&bytes, ew_in(call, 2)->data, ew_dtype_bytes(one.dtype));
    else if (call->node->opset < 11)
        ew_move_put(&one, 0, ew_attr_float(call->node, "value", 0));
    return bytes;
}

edge_status ew_run_pad(ew_call *call) {
    padding p;
    pad_mode mode;
    EW_TRY(read_mode(call, &mode));
    EW_TRY(read_padding(call, &p));
    return run_padded(call, &p, mode, pad_value(call));
}

static edge_status read_center(const ew_call *call, padding *p) {
    const ew_tensor *in = ew_in(call, 0);
    int64_t sizes[EDGE_MAX_RANK];
    int axes[EDGE_MAX_RANK], count, axis_count;
    EW_TRY(ew_ints(call, 1, sizes, EDGE_MAX_RANK, &count));
    EW_TRY(ew_axes(call, 2, in->rank, axes, &axis_count));
    if (axis_count < 0)
        for (axis_count = 0; axis_count < in->rank; axis_count++) axes[axis_count] = axis_count;
    if (count != axis_count)
        return ew_fail(EDGE_INVALID_MODEL, "shape has %d entries for %d axes", count, axis_count);
    *p = (padding){{0}, {0}};
    for (int i = 0; i < count; i++) {
        if (sizes[i] < 0)
            return ew_fail(EDGE_INVALID_MODEL, "shape has %lld at %d, expected 0 or more", (long long)sizes[i], i);
        const int64_t more = sizes[i] - in->dims[axes[i]];
        p->before[axes[i]] = more / 2;
        p->after[axes[i]] = more - more / 2;
    }
    return EDGE_OK;
}

edge_status ew_infer_center_crop_pad(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    padding p;
    EW_TRY(read_center(call, &p));
    return infer_padded(call, &p, PAD_CONSTANT);
}

edge_status ew_run_center_crop_pad(ew_call *call) {
    padding p;
    EW_TRY(read_center(call, &p));
    return run_padded(call, &p, PAD_CONSTANT, 0);
}
