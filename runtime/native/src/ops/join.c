/* Concat, Split. */
#include "movement.h"

static edge_status join_axis(const ew_call *call, int otherwise, int *axis) {
    return ew_axis(ew_attr_int(call->node, "axis", otherwise), ew_in(call, 0)->rank, axis);
}

static edge_status check_part(const ew_tensor *first, const ew_tensor *t, int part, int axis) {
    if (t->dtype != first->dtype || t->rank != first->rank)
        return ew_fail(EDGE_INVALID_MODEL, "input %d is %s of rank %d, input 0 is %s of rank %d", part,
                       ew_dtype_name(t->dtype), (int)t->rank, ew_dtype_name(first->dtype), (int)first->rank);
    for (int i = 0; i < t->rank; i++)
        if (i != axis && t->dims[i] != first->dims[i])
            return ew_fail(EDGE_SHAPE_MISMATCH, "input %d has %lld on axis %d, input 0 has %lld", part,
                           (long long)t->dims[i], i, (long long)first->dims[i]);
    return EDGE_OK;
}

edge_status ew_infer_concat(ew_call *call) {
    EW_TRY(ew_move_need(call, call->in_count > 1 ? call->in_count : 1, 1));
    if (!ew_attr(call->node, "axis")) return ew_fail(EDGE_INVALID_MODEL, "axis is missing");
    const ew_tensor *first = ew_in(call, 0);
    int axis;
    EW_TRY(join_axis(call, 0, &axis));
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < first->rank; i++) dims[i] = first->dims[i];
    for (int i = 1; i < call->in_count; i++) {
        EW_TRY(check_part(first, ew_in(call, i), i, axis));
        if (__builtin_add_overflow(dims[axis], ew_in(call, i)->dims[axis], &dims[axis]))
            return ew_fail(EDGE_SHAPE_MISMATCH, "the inputs are too long on axis %d", axis);
    }
    return ew_shape(ew_out(call, 0), first->dtype, first->rank, dims);
}

edge_status ew_run_concat(ew_call *call) {
    ew_tensor *out = ew_out(call, 0);
    int axis;
    EW_TRY(join_axis(call, 0, &axis));
    if (ew_count(out) == 0) return EDGE_OK;
    const int64_t rows = ew_span(out, 0, axis);
    const int64_t unit = ew_span(out, axis + 1, out->rank) * (int64_t)ew_dtype_bytes(out->dtype);
    char *to = out->data;
    for (int i = 0; i < call->in_count; i++) {
        const ew_tensor *in = ew_in(call, i);
        const int64_t bytes = in->dims[axis] * unit;
        ew_move_rows(call, rows, bytes, in->data, bytes, to, out->dims[axis] * unit);
        to += bytes;
    }
    return EDGE_OK;
}

/* Where the sizes of the parts come from: values, or equal parts of chunk and what is left. */
typedef struct split {
    int axis, parts;
    const int64_t *given; /* of the attribute */
    const ew_tensor *input;
    int64_t chunk;
} split;

static edge_status equal_parts(const ew_call *call, split *s) {
    const int64_t size = ew_in(call, 0)->dims[s->axis];
    const int64_t wanted = call->node->opset < 18 ? s->parts : ew_attr_int(call->node, "num_outputs", s->parts);
    if (wanted != s->parts)
        return ew_fail(EDGE_INVALID_MODEL, "num_outputs is %lld, the node has %d outputs", (long long)wanted, s->parts);
    if (call->node->opset < 18 && size % s->parts)
        return ew_fail(EDGE_SHAPE_MISMATCH, "%lld on axis %d cannot be split into %d equal parts", (long long)size,
                       s->axis, s->parts);
    s->chunk = size / s->parts + (size % s->parts != 0);
    return EDGE_OK;
}

static edge_status read_split(const ew_call *call, split *s) {
    *s = (split){.parts = call->out_count};
    EW_TRY(join_axis(call, 0, &s->axis));
    if (s->parts < 1) return ew_fail(EDGE_INVALID_MODEL, "output 0 is missing");
    int count = -1;
    if (call->node->opset < 13) {
        s->given = ew_attr_ints(call->node, "split", &count);
    } else if (ew_in(call, 1)) {
        s->input = ew_in(call, 1);
        EW_TRY(ew_move_need_index(call, 1));
        if (!ew_known(call, s->input)) return ew_fail(EDGE_UNSUPPORTED, "the sizes of the parts are not known");
        count = ew_count(s->input) > INT32_MAX ? INT32_MAX : (int)ew_count(s->input);
    }
    if (count < 0) return equal_parts(call, s);
    if (count != s->parts)
        return ew_fail(EDGE_INVALID_MODEL, "there are %d sizes of parts for %d outputs", count, s->parts);
    return EDGE_OK;
}

/* The size of a part, where rest is what the parts before left over. */
static int64_t part_size(const split *s, int part, int64_t rest) {
    if (s->given) return s->given[part];
    if (s->input) return ew_move_index(s->input, part);
    return s->chunk < rest ? s->chunk : rest;
}

edge_status ew_infer_split(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 0));
    const ew_tensor *in = ew_in(call, 0);
    split s;
    EW_TRY(read_split(call, &s));
    int64_t rest = in->dims[s.axis], dims[EDGE_MAX_RANK];
    for (int i = 0; i < in->rank; i++) dims[i] = in->dims[i];
    for (int i = 0; i < s.parts; i++) {
        dims[s.axis] = part_size(&s, i, rest);
        if (dims[s.axis] < 0 || dims[s.axis] > rest)
            return ew_fail(EDGE_SHAPE_MISMATCH, "part %d of axis %d has size %lld, %lld are left of %lld", i, s.axis,
                           (long long)dims[s.axis], (long long)rest, (long long)in->dims[s.axis]);
        rest -= dims[s.axis];
        if (ew_out(call, i)) EW_TRY(ew_shape(ew_out(call, i), in->dtype, in->rank, dims));
    }
    if (rest)
        return ew_fail(EDGE_SHAPE_MISMATCH, "the parts leave %lld of the %lld on axis %d", (long long)rest,
                       (long long)in->dims[s.axis], s.axis);
    return EDGE_OK;
}

edge_status ew_run_split(ew_call *call) {
    const ew_tensor *in = ew_in(call, 0);
    split s;
    EW_TRY(read_split(call, &s));
    if (ew_count(in) == 0) return EDGE_OK;
    const int64_t rows = ew_span(in, 0, s.axis), whole = in->dims[s.axis];
    const int64_t unit = ew_span(in, s.axis + 1, in->rank) * (int64_t)ew_dtype_bytes(in->dtype);
    const char *from = in->data;
    for (int64_t i = 0, rest = whole; i < s.parts; i++) {
        const int64_t size = part_size(&s, (int)i, rest), bytes = size * unit;
        ew_tensor *out = ew_out(call, (int)i);
        if (out) ew_move_rows(call, rows, bytes, from, whole * unit, out->data, bytes);
        from += bytes;
        rest -= size;
    }
    return EDGE_OK;
}
