#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

typedef struct search {
    const ew_tensor *x;
    int64_t *y;
    int64_t extent, inner;
    bool max, last;
} search;

edge_status ew_infer_argreduce(ew_call *call) {
    EW_TRY(ew_needs(call, 1, 1));
    const ew_tensor *x = ew_in(call, 0);
    int axis, rank = 0;
    EW_TRY(ew_reduction_axis(call, 0, &axis));
    bool keep = ew_attr_int(call->node, "keepdims", 1) != 0;
    int64_t dims[EDGE_MAX_RANK];
    for (int i = 0; i < x->rank; i++)
        if (i != axis || keep) dims[rank++] = i == axis ? 1 : x->dims[i];
    EW_TRY(ew_shape(ew_out(call, 0), EDGE_S64, rank, dims));
    if (ew_extent(x, axis) == 0 && ew_count(ew_out(call, 0)))
        return ew_fail(EDGE_SHAPE_MISMATCH, "axis %d has no elements to choose from", axis);
    return EDGE_OK;
}

static int64_t index_in_f32_row(const float *x, const search *s) {
    float best = s->max ? ew_row_max(x, s->extent) : ew_row_min(x, s->extent);
    int64_t n = s->extent, step = s->last ? -1 : 1, i = s->last ? n - 1 : 0;
    if (isnan(best))
        while (!isnan(x[i])) i += step;
    else
        while (x[i] != best) i += step;
    return i;
}

/* The i-th element of a column in the order of the search: the first best one is the result. */
static int64_t place(const search *s, int64_t i) { return s->last ? s->extent - 1 - i : i; }

static inline __attribute__((always_inline)) void take_better(float *restrict best, int32_t *restrict at,
                                                              const float *restrict x, int n, float sign,
                                                              int32_t i) {
    for (int j = 0; j < n; j++) {
        float v = sign * x[j];
        bool better = (v > best[j]) | ((v != v) & (best[j] == best[j]));
        best[j] = better ? v : best[j];
        at[j] = better ? i : at[j];
    }
}

/* Columns of neighbouring elements.  The minimum is the maximum of negated elements; the first NaN wins as in numpy. */
static void search_f32_columns(const search *s, int64_t first, int64_t *index, int lanes) {
    const float *x = (const float *)s->x->data + first;
    float best[EW_TILE], sign = s->max ? 1.0f : -1.0f;
    int32_t at[EW_TILE];
    for (int j = 0; j < lanes; j++) {
        best[j] = sign * x[place(s, 0) * s->inner + j];
        at[j] = 0;
    }
    for (int64_t i = 1; i < s->extent; i++) {
        const float *row = x + place(s, i) * s->inner;
        int j = 0;
        for (; lanes - j >= EW_LANES; j += EW_LANES) take_better(best + j, at + j, row + j, EW_LANES, sign, (int32_t)i);
        take_better(best + j, at + j, row + j, lanes - j, sign, (int32_t)i);
    }
    for (int j = 0; j < lanes; j++) index[j] = place(s, at[j]);
}

static void search_real_columns(const search *s, int64_t first, int64_t *index, int lanes) {
    double best[EW_TILE], x[EW_TILE], sign = s->max ? 1 : -1;
    for (int64_t i = 0; i < s->extent; i++) {
        ew_load_doubles(x, s->x->data, s->x->dtype, first + place(s, i) * s->inner, lanes);
        for (int j = 0; j < lanes; j++) {
            double v = sign * x[j];
            if (i && !(v > best[j]) && !(isnan(v) && !isnan(best[j]))) continue;
            best[j] = v;
            index[j] = place(s, i);
        }
    }
}

/* Complements reverse the order of integers, and the top bit of u64 is turned, so that signed maxima serve all. */
static void search_integer_columns(const search *s, int64_t first, int64_t *index, int lanes) {
    int64_t best[EW_TILE], x[EW_TILE];
    uint64_t turn = (s->x->dtype == EDGE_U64 ? (uint64_t)1 << 63 : 0) ^ (s->max ? 0 : UINT64_MAX);
    for (int64_t i = 0; i < s->extent; i++) {
        ew_load_integers(x, s->x->data, s->x->dtype, first + place(s, i) * s->inner, lanes);
        for (int j = 0; j < lanes; j++) {
            int64_t v = (int64_t)((uint64_t)x[j] ^ turn);
            if (i && v <= best[j]) continue;
            best[j] = v;
            index[j] = place(s, i);
        }
    }
}

static int64_t tiles_of(const search *s) { return s->inner / EW_TILE + (s->inner % EW_TILE != 0); }

static void search_tile(const search *s, int64_t first, int64_t *index, int lanes) {
    edge_dtype dtype = s->x->dtype;
    if (dtype == EDGE_F32 && s->inner == 1)
        *index = index_in_f32_row((const float *)s->x->data + first, s);
    else if (dtype == EDGE_F32 && s->extent <= INT32_MAX)
        search_f32_columns(s, first, index, lanes);
    else if (EW_T(dtype) & EW_FLOATS)
        search_real_columns(s, first, index, lanes);
    else
        search_integer_columns(s, first, index, lanes);
}

static void search_items(void *context, int64_t begin, int64_t end) {
    const search *s = context;
    int64_t tiles = tiles_of(s);
    for (int64_t item = begin; item < end; item++) {
        int64_t outer = item / tiles, column = item % tiles * EW_TILE;
        int lanes = s->inner - column < EW_TILE ? (int)(s->inner - column) : EW_TILE;
        search_tile(s, outer * s->extent * s->inner + column, s->y + outer * s->inner + column, lanes);
    }
}

static edge_status argreduce(ew_call *call, bool max) {
    const ew_tensor *x = ew_in(call, 0);
    int axis;
    EW_TRY(ew_reduction_axis(call, 0, &axis));
    search s = {.x = x, .y = ew_out(call, 0)->data, .max = max};
    s.extent = ew_extent(x, axis);
    s.inner = ew_after(x, axis);
    s.last = ew_attr_int(call->node, "select_last_index", 0) != 0;
    int64_t outputs = ew_count(ew_out(call, 0));
    if (outputs == 0) return EDGE_OK;
    int64_t lanes = s.inner < EW_TILE ? s.inner : EW_TILE;
    ew_parallel(call, outputs / s.inner * tiles_of(&s), ew_grain(s.extent * lanes), search_items, &s);
    return EDGE_OK;
}

edge_status ew_run_argmax(ew_call *call) { return argreduce(call, true); }
edge_status ew_run_argmin(ew_call *call) { return argreduce(call, false); }
