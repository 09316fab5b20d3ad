#include "linear.h"

#include <math.h>

/* One tap of the kernel over neighbouring positions of the last axis. */
typedef struct strip {
    const void *x;
    void *y;
    int64_t *index; /* NULL: not wanted */
    int64_t count, stride;
    int64_t first, step; /* of indices */
    int64_t power;
} strip;

typedef struct pool {
    ew_window w;
    ew_taps taps;
    int64_t full[2]; /* positions of the last axis at which an average counts all taps */
    int64_t planes;
    size_t size;
    const uint8_t *x;
    uint8_t *y;
    int64_t *index;
    int64_t power; /* 0: no power */
    bool column_major, count_pads;
    void (*start)(void *y, int64_t count);
    void (*visit)(const strip *s);
    void (*finish)(const struct pool *p, void *y, int64_t line);
} pool;

#define START(type, name, value)                                    \
    static void start_##name##_##type(void *y, int64_t count) {     \
        for (int64_t i = 0; i < count; i++) ((type *)y)[i] = value; \
    }
START(float, sum, 0)
START(double, sum, 0)
START(float, max, -INFINITY)
START(double, max, -INFINITY)
START(uint8_t, max, 0)
START(int8_t, max, INT8_MIN)

/* The first of equal values counts; NaN is the largest value. */
#define VISIT_MAX(type)                                                                         \
    static void visit_max_##type(const strip *s) {                                              \
        const type *x = s->x;                                                                   \
        type *restrict y = s->y;                                                                \
        int64_t *restrict index = s->index;                                                     \
        for (int64_t i = 0; !index && i < s->count; i++) {                                      \
            type value = x[i * s->stride], old = y[i], larger = old > value ? old : value;      \
            y[i] = old == old ? larger : old;                                                   \
        }                                                                                       \
        for (int64_t i = 0; index && i < s->count; i++) {                                       \
            type value = x[i * s->stride];                                                      \
            if (index[i] >= 0 && !(value > y[i] || (value != value && y[i] == y[i]))) continue; \
            y[i] = value;                                                                       \
            index[i] = s->first + i * s->step;                                                  \
        }                                                                                       \
    }
VISIT_MAX(float)
VISIT_MAX(double)
VISIT_MAX(uint8_t)
VISIT_MAX(int8_t)

#define VISIT_SUM(type)                                                  \
    static void visit_sum_##type(const strip *s) {                       \
        const type *x = s->x;                                            \
        type *restrict y = s->y;                                         \
        for (int64_t i = 0; i < s->count; i++) y[i] += x[i * s->stride]; \
    }
VISIT_SUM(float)
VISIT_SUM(double)

#define VISIT_POWER(type, absolute, raise)                                                                           \
    static void visit_power_##type(const strip *s) {                                                                 \
        const type *x = s->x;                                                                                        \
        type *restrict y = s->y, power = (type)s->power;                                                             \
        for (int64_t i = 0; i < s->count; i++) {                                                                     \
            type value = x[i * s->stride];                                                                           \
            y[i] += s->power == 2 ? value * value : s->power == 1 ? absolute(value) : raise(absolute(value), power); \
        }                                                                                                            \
    }
VISIT_POWER(float, fabsf, powf)
VISIT_POWER(double, fabs, pow)

/* Taps that an average counts at a position. */
static int64_t counted(const pool *p, int axis, int64_t position) {
    const ew_window *w = &p->w;
    int64_t begin, end, step = w->dilation[axis];
    if (!p->count_pads) {
        ew_window_taps(w, axis, position, &begin, &end);
        return end - begin;
    }
    int64_t room = w->in[axis] + w->pad[axis] + w->pad_end[axis] - position * w->stride[axis];
    int64_t count = room > 0 ? (room + step - 1) / step : 0;
    return count < w->kernel[axis] ? count : w->kernel[axis];
}

#define FINISH_AVERAGE(type)                                                                  \
    static void finish_average_##type(const pool *p, void *y, int64_t line) {                 \
        int64_t area = counted(p, 0, line / p->w.out[1]) * counted(p, 1, line % p->w.out[1]); \
        type *values = y, all = (type)(area * p->w.kernel[2]);                                \
        for (int64_t i = 0; i < p->w.out[2]; i++) {                                           \
            bool is_full = i >= p->full[0] && i < p->full[1];                                 \
            type count = is_full ? all : (type)(area * counted(p, 2, i));                     \
            if (count > 0) values[i] /= count;                                                \
        }                                                                                     \
    }
FINISH_AVERAGE(float)
FINISH_AVERAGE(double)

#define FINISH_POWER(type, root, raise)                                                                         \
    static void finish_power_##type(const pool *p, void *y, int64_t line) {                                     \
        (void)line;                                                                                             \
        for (int64_t i = 0; i < p->w.out[2]; i++) {                                                             \
            type *value = (type *)y + i;                                                                        \
            *value = p->power == 2 ? root(*value) : p->power == 1 ? *value : raise(*value, 1 / (type)p->power); \
        }                                                                                                       \
    }
FINISH_POWER(float, sqrtf, powf)
FINISH_POWER(double, sqrt, pow)

/* One line of taps over the line of the image at x, whose first element is at position corner. */
static void visit_line(const pool *p, const uint8_t *x, const int64_t corner[2], int64_t plane, strip s) {
    const ew_window *w = &p->w;
    uint8_t *y = s.y;
    int64_t *index = s.index, begin, end;
    int64_t along = p->column_major ? w->in[0] * w->in[1] : 1, base = plane * ew_volume(w->in);
    base += p->column_major ? corner[0] + corner[1] * w->in[0] : (corner[0] * w->in[1] + corner[1]) * w->in[2];
    for (int64_t k = p->taps.first; k < p->taps.last; k++) {
        ew_taps_range(&p->taps, k, &begin, &end);
        int64_t position = begin * w->stride[2] + k * w->dilation[2] - w->pad[2];
        if (begin == end) continue;
        s.x = x + (size_t)position * p->size;
        s.y = y + (size_t)begin * p->size;
        s.index = index ? index + begin : NULL;
        s.count = end - begin;
        s.first = base + position * along;
        s.step = w->stride[2] * along;
        p->visit(&s);
    }
}

static void run_line(const pool *p, int64_t plane, int64_t line) {
    const ew_window *w = &p->w;
    int64_t out = (plane * w->out[0] * w->out[1] + line) * w->out[2], o[2] = {line / w->out[1], line % w->out[1]};
    int64_t begin[2], end[2], at[2];
    strip s = {.y = p->y + (size_t)out * p->size,
               .index = p->index ? p->index + out : NULL,
               .stride = w->stride[2],
               .power = p->power};
    p->start(s.y, w->out[2]);
    for (int64_t i = 0; s.index && i < w->out[2]; i++) s.index[i] = -1;
    for (int axis = 0; axis < 2; axis++) ew_window_taps(w, axis, o[axis], &begin[axis], &end[axis]);
    for (int64_t i = begin[0]; i < end[0]; i++) {
        for (int64_t j = begin[1]; j < end[1]; j++) {
            at[0] = o[0] * w->stride[0] + i * w->dilation[0] - w->pad[0];
            at[1] = o[1] * w->stride[1] + j * w->dilation[1] - w->pad[1];
            int64_t x = ((plane * w->in[0] + at[0]) * w->in[1] + at[1]) * w->in[2];
            visit_line(p, p->x + (size_t)x * p->size, at, plane, s);
        }
    }
    if (p->finish) p->finish(p, s.y, line);
}

static void run_planes(void *context, int64_t begin, int64_t end) {
    const pool *p = context;
    for (int64_t plane = begin; plane < end; plane++)
        for (int64_t line = 0; line < p->w.out[0] * p->w.out[1]; line++) run_line(p, plane, line);
}

static edge_status read_pool(const ew_call *call, pool *p) {
    const ew_tensor *x = ew_in(call, 0), *y = ew_out(call, 0), *index = ew_out(call, 1);
    *p = (pool){.planes = x->dims[0] * x->dims[1],
                .size = ew_dtype_bytes(x->dtype),
                .x = x->data,
                .y = y->data,
                .index = index ? index->data : NULL};
    EW_TRY(ew_window_read(call, x, NULL, &p->w));
    return ew_window_place(&p->w, ew_attr_int(call->node, "ceil_mode", 0) != 0);
}

static edge_status infer_pool(ew_call *call) {
    pool p;
    EW_TRY(ew_require(call, 1));
    const ew_tensor *x = ew_in(call, 0);
    if (x->rank < 3) return ew_fail(EDGE_SHAPE_MISMATCH, "input 0 has rank %d, at least 3 is needed", x->rank);
    EW_TRY(read_pool(call, &p));
    return ew_window_shape(&p.w, x->dtype, x->dims[0], x->dims[1], ew_out(call, 0));
}

static int64_t divided_up(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : 0; }

static edge_status run_pool(const ew_call *call, pool *p) {
    const ew_window *w = &p->w;
    int64_t work = ew_volume(w->out), first_pad = p->count_pads ? 0 : w->pad[2];
    int64_t room = w->in[2] + w->pad[2] + (p->count_pads ? w->pad_end[2] : 0) - (w->kernel[2] - 1) * w->dilation[2];
    ew_taps_read(w, &p->taps);
    p->full[0] = divided_up(first_pad, w->stride[2]);
    p->full[1] = divided_up(room, w->stride[2]);
    if (p->planes && work) ew_parallel(call, p->planes, 1 + 16384 / work, run_planes, p);
    return EDGE_OK;
}

size_t ew_workspace_pool(const ew_call *call) { return ew_half_workspace(call, 0); }

edge_status ew_infer_max_pool(ew_call *call) {
    EW_TRY(infer_pool(call));
    int64_t order = ew_attr_int(call->node, "storage_order", 0);
    if (order != 0 && order != 1)
        return ew_fail(EDGE_INVALID_MODEL, "attribute storage_order is %lld, it must be 0 or 1", (long long)order);
    ew_tensor *index = ew_out(call, 1), *y = ew_out(call, 0);
    return index ? ew_shape(index, EDGE_S64, y->rank, y->dims) : EDGE_OK;
}

static edge_status run_max(ew_call *call) {
    pool p;
    EW_TRY(read_pool(call, &p));
    p.column_major = ew_attr_int(call->node, "storage_order", 0) == 1;
    switch (ew_in(call, 0)->dtype) {
    case EDGE_F32: p.start = start_max_float, p.visit = visit_max_float; break;
    case EDGE_F64: p.start = start_max_double, p.visit = visit_max_double; break;
    case EDGE_U8: p.start = start_max_uint8_t, p.visit = visit_max_uint8_t; break;
    default: p.start = start_max_int8_t, p.visit = visit_max_int8_t; break;
    }
    return run_pool(call, &p);
}

edge_status ew_run_max_pool(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, 0, run_max) : run_max(call);
}

edge_status ew_infer_average_pool(ew_call *call) { return infer_pool(call); }

static edge_status run_average(ew_call *call) {
    pool p;
    EW_TRY(read_pool(call, &p));
    bool is_double = ew_in(call, 0)->dtype == EDGE_F64;
    p.count_pads = ew_attr_int(call->node, "count_include_pad", 0) != 0;
    p.start = is_double ? start_sum_double : start_sum_float;
    p.visit = is_double ? visit_sum_double : visit_sum_float;
    p.finish = is_double ? finish_average_double : finish_average_float;
    return run_pool(call, &p);
}

edge_status ew_run_average_pool(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, 0, run_average) : run_average(call);
}

edge_status ew_infer_lp_pool(ew_call *call) {
    int64_t power = ew_attr_int(call->node, "p", 2);
    if (power < 1 || power > INT32_MAX)
        return ew_fail(EDGE_INVALID_MODEL, "attribute p is %lld, it must be at least 1", (long long)power);
    return infer_pool(call);
}

static edge_status run_lp(ew_call *call) {
    pool p;
    EW_TRY(read_pool(call, &p));
    bool is_double = ew_in(call, 0)->dtype == EDGE_F64;
    p.power = ew_attr_int(call->node, "p", 2);
    p.start = is_double ? start_sum_double : start_sum_float;
    p.visit = is_double ? visit_power_double : visit_power_float;
    p.finish = is_double ? finish_power_double : finish_power_float;
    return run_pool(call, &p);
}

edge_status ew_run_lp_pool(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, 0, run_lp) : run_lp(call);
}
