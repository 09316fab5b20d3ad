/* Unique. */
#include "movement.h"

/* The slices that are compared: slice i is the elements [begin(i, row), + unit) of every row. */
typedef struct slices {
    const ew_tensor *in;
    bool flat;
    int axis;
    int64_t count, rows, unit;
} slices;

static edge_status read_slices(const ew_call *call, slices *s) {
    const ew_tensor *in = ew_in(call, 0);
    *s = (slices){.in = in, .flat = !ew_attr(call->node, "axis"), .count = ew_count(in), .rows = 1, .unit = 1};
    if (s->flat) return EDGE_OK;
    EW_TRY(ew_axis(ew_attr_int(call->node, "axis", 0), in->rank, &s->axis));
    s->count = in->dims[s->axis];
    s->rows = ew_span(in, 0, s->axis);
    s->unit = ew_span(in, s->axis + 1, in->rank);
    return EDGE_OK;
}

/* Negative, zero or positive as slice a is below, equal to or above slice b. */
static int compare(const slices *s, int64_t a, int64_t b) {
    for (int64_t row = 0; row < s->rows; row++) {
        const int64_t first = row * s->count;
        for (int64_t i = 0; i < s->unit; i++) {
            const uint64_t x = ew_move_key(s->in, (first + a) * s->unit + i);
            const uint64_t y = ew_move_key(s->in, (first + b) * s->unit + i);
            if (x != y) return x < y ? -1 : 1;
        }
    }
    return 0;
}

/* Stable; scratch has room for count. */
static void merge_sort(const slices *s, int64_t *order, int64_t *scratch) {
    for (int64_t i = 0; i < s->count; i++) order[i] = i;
    for (int64_t width = 1; width < s->count; width *= 2) {
        for (int64_t begin = 0; begin < s->count; begin += 2 * width) {
            const int64_t middle = begin + width < s->count ? begin + width : s->count;
            const int64_t end = middle + width < s->count ? middle + width : s->count;
            int64_t left = begin, right = middle;
            for (int64_t to = begin; to < end; to++) {
                bool take_right = left == middle || (right < end && compare(s, order[right], order[left]) < 0);
                scratch[to] = take_right ? order[right++] : order[left++];
            }
        }
        memcpy(order, scratch, (size_t)s->count * sizeof *order);
    }
}

edge_status ew_infer_unique(ew_call *call) {
    EW_TRY(ew_move_need(call, 1, 0));
    slices s;
    EW_TRY(read_slices(call, &s));
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < s.in->rank; i++) dims[i] = s.in->dims[i];
    if (s.flat) dims[0] = s.count;
    if (ew_out(call, 0)) EW_TRY(ew_shape(ew_out(call, 0), s.in->dtype, s.flat ? 1 : s.in->rank, dims));
    for (int i = 1; i < 4; i++)
        if (ew_out(call, i)) EW_TRY(ew_shape(ew_out(call, i), EDGE_S64, 1, &s.count));
    return EDGE_OK;
}

size_t ew_workspace_unique(const ew_call *call) {
    slices s;
    if (read_slices(call, &s) != EDGE_OK) return 0;
    return ew_move_workspace(s.count, 4 * sizeof(int64_t));
}

/* Numbers the groups of equal slices in ascending order; returns how many there are. */
static int64_t number_groups(const slices *s, const int64_t *order, int64_t *group) {
    int64_t last = -1;
    for (int64_t i = 0; i < s->count; i++) {
        if (i == 0 || compare(s, order[i - 1], order[i]) != 0) last++;
        group[order[i]] = last;
    }
    return last + 1;
}

static void write_slices(const slices *s, const int64_t *first, int64_t found, ew_tensor *out) {
    const int64_t bytes = s->unit * (int64_t)ew_dtype_bytes(s->in->dtype);
    char *to = out->data;
    out->dims[s->axis] = found;
    for (int64_t row = 0; row < s->rows; row++)
        for (int64_t i = 0; i < found; i++, to += bytes)
            ew_move_element(to, (const char *)s->in->data + (row * s->count + first[i]) * bytes, (size_t)bytes);
}

static void write_list(ew_tensor *out, const int64_t *values, int64_t count) {
    if (!out) return;
    out->dims[0] = count;
    if (count) memcpy(out->data, values, (size_t)count * sizeof *values);
}

edge_status ew_run_unique(ew_call *call) {
    slices s;
    EW_TRY(read_slices(call, &s));
    int64_t *order = call->workspace, *group = order + s.count, *first = group + s.count, *place = first + s.count;
    merge_sort(&s, order, first);
    const int64_t found = number_groups(&s, order, group);
    const bool sorted = ew_attr_int(call->node, "sorted", 1) != 0;
    for (int64_t i = 0; i < found; i++) place[i] = -1;
    for (int64_t i = 0, next = 0; i < s.count; i++) {
        int64_t *at = &place[group[i]];
        if (*at < 0) {
            *at = sorted ? group[i] : next++;
            first[*at] = i;
        }
        group[i] = *at;
    }
    if (ew_out(call, 0)) write_slices(&s, first, found, ew_out(call, 0));
    write_list(ew_out(call, 1), first, found);
    write_list(ew_out(call, 2), group, s.count);
    int64_t *counts = order;
    for (int64_t i = 0; i < found; i++) counts[i] = 0;
    for (int64_t i = 0; i < s.count; i++) counts[group[i]]++;
    write_list(ew_out(call, 3), counts, found);
    return EDGE_OK;
}
