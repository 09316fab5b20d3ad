#include "resize.h"

#include <math.h>

#include "dot.h"
#include "real.h"

typedef struct table {
    int64_t taps;
    int64_t *index;
    double *weights;
} table;

typedef struct job {
    ew_resize r;
    table tables[EDGE_MAX_RANK];
    const void *x;
    void *y;
    edge_dtype dtype;
    int last;               /* axis, the last active one */
    size_t element, block;  /* bytes; block: of everything behind the last active axis */
    uint8_t fill[8];        /* an extrapolated element */
    const float *weights;   /* of the last axis */
    int64_t in_plane, blocks;
} job;

edge_status ew_infer_resize(ew_call *call) {
    ew_resize r;
    int64_t dims[EDGE_MAX_RANK];
    EW_TRY(ew_read_resize(call, &r));
    for (int i = 0; i < r.rank; i++) dims[i] = r.axes[i].out;
    return ew_out(call, 0) ? ew_shape(ew_out(call, 0), ew_in(call, 0)->dtype, r.rank, dims) : EDGE_OK;
}

/* Which axes are active may change with the shape, so there is room for tables of all. */
size_t ew_workspace_resize(const ew_call *call) {
    ew_resize r;
    if (ew_read_resize(call, &r) != EDGE_OK) return 0;
    double entries = 0;
    for (int i = 0; i < r.rank; i++) entries += ew_resize_tap_bound(&r.axes[i]);
    return ew_real_bytes(entries, sizeof(int64_t) + sizeof(double) + sizeof(float));
}

/* ---- nearest: blocks of bytes are moved ---- */

static void move_blocks(uint8_t *to, const uint8_t *from, const int64_t *index, int64_t count, size_t bytes) {
    switch (bytes) {
    case 1:
        for (int64_t i = 0; i < count; i++) to[i] = from[index[i]];
        return;
    case 2:
        for (int64_t i = 0; i < count; i++) memcpy(to + 2 * i, from + 2 * index[i], 2);
        return;
    case 4:
        for (int64_t i = 0; i < count; i++) memcpy(to + 4 * i, from + 4 * index[i], 4);
        return;
    case 8:
        for (int64_t i = 0; i < count; i++) memcpy(to + 8 * i, from + 8 * index[i], 8);
        return;
    default:
        for (int64_t i = 0; i < count; i++) memcpy(to + (size_t)i * bytes, from + (size_t)index[i] * bytes, bytes);
    }
}

static void fill_block(const job *j, uint8_t *to) {
    for (size_t i = 0; i < j->block; i += j->element) memcpy(to + i, j->fill, j->element);
}

/* Where a row along the last active axis begins in the input, in elements of that axis; -1: extrapolated. */
static int64_t source_row(const job *j, int64_t row) {
    int64_t step = 1, from = 0;
    bool inside = true;
    for (int i = j->last - 1; i >= 0; i--) {
        int64_t at = row % j->r.axes[i].out;
        row /= j->r.axes[i].out;
        at = j->tables[i].index[at];
        inside &= at >= 0;
        from += at * step;
        step *= j->r.axes[i].in;
    }
    return inside ? from * j->r.axes[j->last].in : -1;
}

static void move_or_fill(const job *j, uint8_t *to, int64_t first, const int64_t *index, int64_t count) {
    const uint8_t *from = (const uint8_t *)j->x + (size_t)(first < 0 ? 0 : first) * j->block;
    for (int64_t i = 0; i < count; i++, to += j->block) {
        if (first < 0 || index[i] < 0) fill_block(j, to);
        else memcpy(to, from + (size_t)index[i] * j->block, j->block);
    }
}

static void move_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int64_t length = j->r.axes[j->last].out, before = -1;
    size_t bytes = (size_t)length * j->block;
    const int64_t *index = j->tables[j->last].index;
    for (int64_t row = begin; row < end; row++) {
        uint8_t *to = (uint8_t *)j->y + (size_t)row * bytes;
        int64_t first = source_row(j, row);
        if (j->r.coordinate == EW_RESIZE_CROP) move_or_fill(j, to, first, index, length);
        else if (first == before) memcpy(to, to - bytes, bytes);
        else move_blocks(to, (const uint8_t *)j->x + (size_t)first * j->block, index, length, j->block);
        before = first;
    }
}

/* ---- linear and cubic over the last two axes of float32 ---- */

enum { COLUMNS = 256, KEPT = 4, BLOCK_ROWS = 32 };

/* Rows of the input that are resized along the last axis already. */
typedef struct kept_rows {
    int64_t at[KEPT];
    float rows[KEPT][COLUMNS];
} kept_rows;

static void resize_row(const job *j, const float *from, int64_t first, int64_t count, float *to) {
    int64_t taps = j->tables[j->r.rank - 1].taps;
    const int64_t *index = j->tables[j->r.rank - 1].index + first * taps;
    const float *weights = j->weights + first * taps;
    bool may_extrapolate = j->r.coordinate == EW_RESIZE_CROP;
    if (taps == 2 && !may_extrapolate) {
        for (int64_t i = 0; i < count; i++) {
            to[i] = weights[2 * i] * from[index[2 * i]] + weights[2 * i + 1] * from[index[2 * i + 1]];
        }
        return;
    }
    for (int64_t i = 0; i < count; i++, index += taps, weights += taps) {
        float sum = 0;
        for (int64_t t = 0; t < taps && index[0] >= 0; t++) sum += weights[t] * from[index[t]];
        to[i] = sum;
    }
}

static const float *kept_row(const job *j, kept_rows *kept, const float *plane, int64_t at, int64_t first,
                             int64_t count) {
    int slot = (int)(at % KEPT);
    if (kept->at[slot] != at) {
        resize_row(j, plane + at * j->r.axes[j->r.rank - 1].in, first, count, kept->rows[slot]);
        kept->at[slot] = at;
    }
    return kept->rows[slot];
}

static void extrapolate(const job *j, bool row, int64_t first, int64_t count, float *to) {
    const table *t = &j->tables[j->r.rank - 1];
    for (int64_t i = 0; i < count; i++) {
        if (row || t->index[(first + i) * t->taps] < 0) to[i] = (float)j->r.extrapolation;
    }
}

static void resize_columns(const job *j, const float *plane, float *out, int64_t begin, int64_t end, int64_t first,
                           int64_t count) {
    static const table whole = {.taps = 1};
    const table *t = j->r.rank > 1 ? &j->tables[j->r.rank - 2] : &whole;
    kept_rows kept = {.at = {-1, -1, -1, -1}};
    for (int64_t y = begin; y < end; y++) {
        float *to = out + y * j->r.axes[j->r.rank - 1].out + first;
        bool outside = t->index && t->index[y * t->taps] < 0;
        memset(to, 0, (size_t)count * sizeof(float));
        for (int64_t k = 0; k < t->taps && !outside; k++) {
            float weight = t->weights ? (float)t->weights[y * t->taps + k] : 1;
            int64_t at = t->index ? t->index[y * t->taps + k] : 0;
            if (weight != 0) ew_add_row(kept_row(j, &kept, plane, at, first, count), weight, count, to);
        }
        if (j->r.coordinate == EW_RESIZE_CROP) extrapolate(j, outside, first, count, to);
    }
}

static void resize_planes(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int64_t width = j->r.axes[j->r.rank - 1].out, height = j->r.rank > 1 ? j->r.axes[j->r.rank - 2].out : 1;
    for (int64_t item = begin; item < end; item++) {
        int64_t plane = item / j->blocks, y = item % j->blocks * BLOCK_ROWS;
        int64_t y_end = height < y + BLOCK_ROWS ? height : y + BLOCK_ROWS;
        for (int64_t x = 0; x < width; x += COLUMNS) {
            resize_columns(j, (const float *)j->x + plane * j->in_plane, (float *)j->y + plane * width * height, y,
                           y_end, x, width - x < COLUMNS ? width - x : COLUMNS);
        }
    }
}

/* ---- linear and cubic over any axes of any dtype ---- */

enum { TILE = 64 };

/* All combinations of taps of the axes but the last, for one row of the output. */
typedef struct combination {
    int64_t taps[EDGE_MAX_RANK], row;
    double weight;
} combination;

static void locate(const job *j, const int64_t *at, combination *c) {
    c->row = 0;
    c->weight = 1;
    for (int i = 0; i < j->r.rank - 1; i++) {
        const table *t = &j->tables[i];
        int64_t entry = at[i] * t->taps + c->taps[i];
        c->row = c->row * j->r.axes[i].in + t->index[entry];
        c->weight *= t->weights[entry];
    }
    c->row *= j->r.axes[j->r.rank - 1].in;
}

static bool next_combination(const job *j, combination *c) {
    for (int i = j->r.rank - 2; i >= 0; i--) {
        if (++c->taps[i] < j->tables[i].taps) return true;
        c->taps[i] = 0;
    }
    return false;
}

static void add_combination(const job *j, const combination *c, int64_t first, int64_t count, double *sums) {
    const table *t = &j->tables[j->r.rank - 1];
    for (int64_t i = 0; i < count; i++) {
        const int64_t *index = t->index + (first + i) * t->taps;
        const double *weights = t->weights + (first + i) * t->taps;
        double sum = 0;
        for (int64_t k = 0; k < t->taps && index[0] >= 0; k++) {
            if (weights[k] != 0) sum += weights[k] * ew_real_get(j->x, j->dtype, c->row + index[k]);
        }
        sums[i] += c->weight * sum;
    }
}

static void store_tile(const job *j, int64_t at, int64_t first, int64_t count, bool outside, const double *sums) {
    const table *t = &j->tables[j->r.rank - 1];
    bool whole = !(EW_T(j->dtype) & EW_FLOATS);
    for (int64_t i = 0; i < count; i++) {
        bool extrapolated = outside || t->index[(first + i) * t->taps] < 0;
        double value = extrapolated ? j->r.extrapolation : sums[i];
        ew_real_put(j->y, j->dtype, at + first + i, whole ? rint(value) : value);
    }
}

static void resize_rows(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int64_t width = j->r.axes[j->r.rank - 1].out, at[EDGE_MAX_RANK];
    for (int64_t row = begin; row < end; row++) {
        int64_t rest = row;
        bool outside = false;
        for (int i = j->r.rank - 2; i >= 0; i--) {
            at[i] = rest % j->r.axes[i].out;
            rest /= j->r.axes[i].out;
            outside |= j->tables[i].index[at[i] * j->tables[i].taps] < 0;
        }
        for (int64_t first = 0; first < width; first += TILE) {
            int64_t count = width - first < TILE ? width - first : TILE;
            double sums[TILE] = {0};
            combination c = {{0}, 0, 1};
            do {
                if (outside) break;
                locate(j, at, &c);
                if (c.weight != 0) add_combination(j, &c, first, count, sums);
            } while (next_combination(j, &c));
            store_tile(j, row * width, first, count, outside, sums);
        }
    }
}

/* ---- choice ---- */

static void make_tables(job *j, void *workspace, bool weighted) {
    int64_t *index = workspace;
    double entries = 0;
    for (int i = 0; i < j->r.rank; i++) entries += ew_resize_tap_bound(&j->r.axes[i]);
    double *weights = (double *)(index + (size_t)entries);
    for (int i = 0; i < j->r.rank; i++) {
        table *t = &j->tables[i];
        int64_t taps = ew_resize_taps(&j->r, i), size = taps * j->r.axes[i].out;
        *t = (table){taps, index, weighted ? weights : NULL};
        ew_resize_table(&j->r, i, t->index, t->weights);
        index += size;
        weights += size;
    }
}

static void narrow_weights(job *j, float *weights) {
    const table *t = &j->tables[j->r.rank - 1];
    int64_t size = t->taps * j->r.axes[j->r.rank - 1].out;
    for (int64_t i = 0; i < size; i++) weights[i] = (float)t->weights[i];
    j->weights = weights;
}

static void run_planes(ew_call *call, job *j) {
    int rank = j->r.rank;
    const ew_tensor *y = ew_out(call, 0);
    double entries = 0;
    for (int i = 0; i < rank; i++) entries += ew_resize_tap_bound(&j->r.axes[i]);
    narrow_weights(j, (float *)((double *)call->workspace + 2 * (size_t)entries));
    int64_t height = rank > 1 ? y->dims[rank - 2] : 1, planes = ew_span(y, 0, rank > 2 ? rank - 2 : 0);
    j->in_plane = ew_span(ew_in(call, 0), rank > 1 ? rank - 2 : 0, rank);
    j->blocks = (height + BLOCK_ROWS - 1) / BLOCK_ROWS;
    int64_t grain = 1 + 32768 / (BLOCK_ROWS * y->dims[rank - 1]);
    ew_parallel(call, planes * j->blocks, grain, resize_planes, j);
}

edge_status ew_run_resize(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0), *y = ew_out(call, 0);
    if (!y || !ew_count(y)) return EDGE_OK;
    job j = {.x = x->data, .y = y->data, .dtype = x->dtype, .last = -1, .element = ew_dtype_bytes(x->dtype)};
    EW_TRY(ew_read_resize(call, &j.r));
    int first = j.r.rank;
    for (int i = j.r.rank - 1; i >= 0; i--) {
        if (!j.r.axes[i].active) continue;
        j.last = j.last < 0 ? i : j.last;
        first = i;
    }
    if (j.last < 0) {
        memcpy(j.y, j.x, ew_bytes(y));
        return EDGE_OK;
    }
    bool weighted = j.r.mode != EW_RESIZE_NEAREST;
    make_tables(&j, call->workspace, weighted);
    int64_t rows = ew_span(y, 0, j.r.rank - 1), width = y->dims[j.r.rank - 1];
    if (!weighted) {
        ew_real_put(j.fill, j.dtype, 0, j.r.extrapolation);
        j.block = (size_t)ew_span(x, j.last + 1, j.r.rank) * j.element;
        ew_parallel(call, ew_span(y, 0, j.last), 1 + 32768 / ew_span(y, j.last, j.r.rank), move_rows, &j);
    } else if (j.dtype == EDGE_F32 && first >= j.r.rank - 2) {
        run_planes(call, &j);
    } else {
        ew_parallel(call, rows, 1 + 4096 / width, resize_rows, &j);
    }
    return EDGE_OK;
}
