#include "linear.h"

/* A position in the lines of the last axis. */
typedef struct cursor {
    int64_t line[2]; /* of the first two axes */
    int64_t first;   /* of the last axis */
    int64_t left;    /* positions up to the end of the columns */
} cursor;

/* Part of a row of columns: positions that lie in one line of the last axis. */
typedef struct line {
    int64_t before, inside, after; /* how many lie outside of the image, inside, and outside again */
    int64_t image;                 /* element of the image at the first position inside */
} line;

typedef struct row {
    const ew_window *w;
    int64_t tap[3];     /* of the kernel */
    int64_t begin, end; /* positions of the last axis that lie inside of the image */
} row;

static cursor start_of(const ew_columns *job) {
    const int64_t *out = job->w->out;
    int64_t lines = job->begin / out[2];
    return (cursor){{lines / out[1], lines % out[1]}, job->begin % out[2], job->end - job->begin};
}

static row row_of(const ew_window *w, int64_t tap) {
    row r = {.w = w};
    r.tap[2] = tap % w->kernel[2];
    r.tap[1] = tap / w->kernel[2] % w->kernel[1];
    r.tap[0] = tap / w->kernel[2] / w->kernel[1];
    ew_window_range(w, 2, r.tap[2], &r.begin, &r.end);
    return r;
}

static int64_t source(const row *r, int axis, int64_t position) {
    const ew_window *w = r->w;
    return position * w->stride[axis] + r->tap[axis] * w->dilation[axis] - w->pad[axis];
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

/* The line at the cursor, which goes on to the next one; a length of 0 at the end. */
static line next_line(const row *r, cursor *c) {
    const ew_window *w = r->w;
    int64_t first = c->first, last = clamp(first + c->left, first, w->out[2]);
    int64_t i = source(r, 0, c->line[0]), j = source(r, 1, c->line[1]);
    line l = {.before = last - first};
    if (i >= 0 && i < w->in[0] && j >= 0 && j < w->in[1]) {
        int64_t begin = clamp(r->begin, first, last), end = clamp(r->end, begin, last);
        l = (line){begin - first, end - begin, last - end, (i * w->in[1] + j) * w->in[2] + source(r, 2, begin)};
    }
    c->left -= last - first;
    c->first = 0;
    if (++c->line[1] == w->out[1]) {
        c->line[1] = 0;
        c->line[0]++;
    }
    return l;
}

#define GATHER(type)                                                                                \
    static void gather_##type(const type *from, int64_t stride, type *restrict to, int64_t count) { \
        for (int64_t i = 0; i < count; i++) to[i] = from[i * stride];                               \
    }
GATHER(uint8_t)
GATHER(uint32_t)
GATHER(uint64_t)

static void gather_every_other(const uint32_t *from, uint32_t *to, int64_t count) {
    typedef uint32_t four __attribute__((vector_size(16)));
    int64_t i = 0;
    for (; i + 4 < count; i += 4, from += 8) { /* of the last four the value behind may not be there */
        four a, b;
        memcpy(&a, from, sizeof a);
        memcpy(&b, from + 4, sizeof b);
        a = __builtin_shufflevector(a, b, 0, 2, 4, 6);
        memcpy(to + i, &a, sizeof a);
    }
    for (; i < count; i++, from += 2) to[i] = *from;
}

static void gather(const uint8_t *from, int64_t stride, uint8_t *to, int64_t count, size_t element_bytes) {
    if (stride == 1)
        memcpy(to, from, (size_t)count * element_bytes);
    else if (element_bytes == 1)
        gather_uint8_t(from, stride, to, count);
    else if (element_bytes == 4 && stride == 2)
        gather_every_other((const uint32_t *)(const void *)from, (uint32_t *)(void *)to, count);
    else if (element_bytes == 4)
        gather_uint32_t((const uint32_t *)(const void *)from, stride, (uint32_t *)(void *)to, count);
    else
        gather_uint64_t((const uint64_t *)(const void *)from, stride, (uint64_t *)(void *)to, count);
}

/* Returns where the next line goes. */
static uint8_t *fill_line(const ew_columns *job, const uint8_t *image, uint8_t *to, const line *l) {
    size_t size = job->element_bytes, before = (size_t)l->before * size, inside = (size_t)l->inside * size,
           after = (size_t)l->after * size;
    if (before) memset(to, job->padding, before);
    if (inside) gather(image + (size_t)l->image * size, job->w->stride[2], to + before, l->inside, size);
    if (after) memset(to + before + inside, job->padding, after);
    return to + before + inside + after;
}

static void fill_rows(void *context, int64_t begin, int64_t end) {
    const ew_columns *job = context;
    const cursor start = start_of(job);
    int64_t taps = ew_volume(job->w->kernel);
    size_t size = job->element_bytes;
    for (int64_t i = begin; i < end; i++) {
        row r = row_of(job->w, i % taps);
        const uint8_t *image = (const uint8_t *)job->image + (size_t)(i / taps * ew_volume(job->w->in)) * size;
        uint8_t *to = (uint8_t *)job->columns + (size_t)(i * start.left) * size;
        for (cursor c = start; c.left > 0;) {
            line l = next_line(&r, &c);
            to = fill_line(job, image, to, &l);
        }
    }
}

void ew_columns_of(const ew_call *call, const ew_columns *job) {
    int64_t count = job->end - job->begin;
    if (count <= 0) return;
    ew_parallel(call, job->channels * ew_volume(job->w->kernel), 1 + 16384 / count, fill_rows, (void *)(uintptr_t)job);
}

#define ADD_ROWS(type)                                                                      \
    static void add_rows_##type(void *context, int64_t begin, int64_t end) {                \
        const ew_columns *job = context;                                                    \
        const cursor start = start_of(job);                                                 \
        int64_t taps = ew_volume(job->w->kernel), stride = job->w->stride[2];               \
        for (int64_t i = begin * taps; i < end * taps; i++) {                               \
            row r = row_of(job->w, i % taps);                                               \
            type *image = (type *)(uintptr_t)job->image + i / taps * ew_volume(job->w->in); \
            const type *from = (const type *)job->columns + i * start.left;                 \
            for (cursor c = start; c.left > 0;) {                                           \
                line l = next_line(&r, &c);                                                 \
                type *to = image + l.image;                                                 \
                from += l.before;                                                           \
                for (int64_t k = 0; k < l.inside; k++) to[k * stride] += from[k];           \
                from += l.inside + l.after;                                                 \
            }                                                                               \
        }                                                                                   \
    }
ADD_ROWS(float)
ADD_ROWS(double)

void ew_columns_add(const ew_call *call, const ew_columns *job, edge_dtype dtype) {
    if (job->end <= job->begin) return;
    int64_t grain = 1 + 16384 / ((job->end - job->begin) * ew_volume(job->w->kernel));
    ew_parallel(call, job->channels, grain, dtype == EDGE_F32 ? add_rows_float : add_rows_double,
                (void *)(uintptr_t)job);
}
