#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

/* Each group of channels of each image is normalized by itself; instances are groups of one channel. */
typedef struct groups {
    const ew_tensor *x, *scale, *shift;
    ew_tensor *y;
    int64_t count, channels, area; /* of an image: groups, channels in a group, elements in a channel */
    bool scale_of_group;
    double epsilon;
} groups;

static edge_status infer_groups(ew_call *call, int64_t count, int64_t parameters) {
    const ew_tensor *x = ew_in(call, 0);
    if (count < 1 || x->dims[1] % count)
        return ew_fail(EDGE_INVALID_MODEL, "%lld channels cannot be divided into %lld groups", (long long)x->dims[1],
                       (long long)count);
    EW_TRY(ew_needs_vector(call, 1, parameters, x->dtype));
    EW_TRY(ew_needs_vector(call, 2, parameters, x->dtype));
    return ew_same(ew_out(call, 0), x);
}

static edge_status needs_channels(const ew_call *call) {
    EW_TRY(ew_needs(call, 3, 1));
    int rank = ew_in(call, 0)->rank;
    return rank < 2 ? ew_fail(EDGE_INVALID_MODEL, "input 0 has %d axes, at least 2 are needed", rank) : EDGE_OK;
}

edge_status ew_infer_group_norm(ew_call *call) {
    edge_dtype stash;
    EW_TRY(needs_channels(call));
    EW_TRY(ew_stash_type(call, &stash));
    int64_t count = ew_attr_int(call->node, "num_groups", 0);
    return infer_groups(call, count, call->node->opset < 21 ? count : ew_in(call, 0)->dims[1]);
}

edge_status ew_infer_instance_norm(ew_call *call) {
    EW_TRY(needs_channels(call));
    int64_t channels = ew_in(call, 0)->dims[1];
    return infer_groups(call, channels ? channels : 1, channels);
}

static void normalize_groups(void *context, int64_t begin, int64_t end) {
    const groups *g = context;
    int64_t n = g->channels * g->area;
    for (int64_t item = begin; item < end; item++) {
        int64_t first = item * n, group = item % g->count;
        double mean = ew_stretch_sum(g->x, first, n) / (double)n;
        double variance = ew_stretch_deviation(g->x, first, n, mean) / (double)n;
        double inverse = 1 / sqrt(variance + g->epsilon);
        for (int64_t c = 0; c < g->channels; c++) {
            int64_t parameter = g->scale_of_group ? group : group * g->channels + c;
            ew_stretch_affine(g->y, g->x, first + c * g->area, g->area, mean, inverse * ew_get(g->scale, parameter),
                              ew_get(g->shift, parameter));
        }
    }
}

static edge_status run_groups(ew_call *call, int64_t count, bool scale_of_group) {
    const ew_tensor *x = ew_in(call, 0);
    if (ew_count(x) == 0) return EDGE_OK;
    groups g = {x, ew_in(call, 1), ew_in(call, 2), ew_out(call, 0), count, x->dims[1] / count, ew_span(x, 2, x->rank),
                scale_of_group, ew_attr_float(call->node, "epsilon", 1e-5f)};
    ew_parallel(call, x->dims[0] * count, ew_grain(3 * g.channels * g.area), normalize_groups, &g);
    return EDGE_OK;
}

edge_status ew_run_group_norm(ew_call *call) {
    return run_groups(call, ew_attr_int(call->node, "num_groups", 0), call->node->opset < 21);
}

edge_status ew_run_instance_norm(ew_call *call) { return run_groups(call, ew_in(call, 0)->dims[1], false); }

/* MeanVarianceNormalization: one set of elements for each position of the kept axes. */
typedef struct sets {
    const ew_tensor *x;
    ew_tensor *y;
    ew_split split;
} sets;

static edge_status mvn_axes(const ew_call *call, bool reduced[EDGE_MAX_RANK]) {
    static const int usual[] = {0, 2, 3};
    int axes[EDGE_MAX_RANK], count, rank = ew_in(call, 0)->rank;
    EW_TRY(ew_axes(call, 1, rank, axes, &count));
    for (int i = 0; i < EDGE_MAX_RANK; i++) reduced[i] = false;
    if (count < 0) {
        if (rank < 4) return ew_fail(EDGE_INVALID_MODEL, "the default axes 0, 2, 3 need 4 axes, input 0 has %d", rank);
        memcpy(axes, usual, sizeof usual);
        count = 3;
    }
    for (int i = 0; i < count; i++) reduced[axes[i]] = true;
    return EDGE_OK;
}

edge_status ew_infer_mvn(ew_call *call) {
    bool reduced[EDGE_MAX_RANK];
    EW_TRY(ew_needs(call, 1, 1));
    EW_TRY(mvn_axes(call, reduced));
    return ew_same(ew_out(call, 0), ew_in(call, 0));
}

static void normalize_set(const sets *s, int64_t first, int64_t row) {
    double sum = 0, deviation = 0, n = (double)s->split.reduced_count;
    ew_position at = {0};
    do sum += ew_stretch_sum(s->x, first + at.offset, row);
    while (ew_next_position(&s->split.reduced, &at));
    double mean = sum / n;
    do deviation += ew_stretch_deviation(s->x, first + at.offset, row, mean);
    while (ew_next_position(&s->split.reduced, &at));
    /* The operator's own definition adds 1e-9 to the standard deviation. */
    double scale = 1 / (sqrt(deviation / n) + 1e-9);
    do ew_stretch_affine(s->y, s->x, first + at.offset, row, mean, scale, 0);
    while (ew_next_position(&s->split.reduced, &at));
}

static void normalize_sets(void *context, int64_t begin, int64_t end) {
    const sets *s = context;
    int64_t inner = s->split.inner;
    for (int64_t item = begin; item < end; item++) {
        if (s->split.inner_reduced)
            normalize_set(s, ew_position_at(&s->split.kept, item).offset, inner);
        else
            normalize_set(s, ew_position_at(&s->split.kept, item / inner).offset + item % inner, 1);
    }
}

edge_status ew_run_mvn(ew_call *call) {
    sets s = {.x = ew_in(call, 0), .y = ew_out(call, 0)};
    bool reduced[EDGE_MAX_RANK];
    EW_TRY(mvn_axes(call, reduced));
    if (ew_count(s.x) == 0) return EDGE_OK;
    ew_split_dims(s.x, reduced, &s.split);
    ew_parallel(call, s.split.kept_count, ew_grain(3 * s.split.reduced_count), normalize_sets, &s);
    return EDGE_OK;
}
