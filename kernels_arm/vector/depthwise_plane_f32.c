/* Depthwise convolutions of images with their channels first, a channel at a time. */
#include "../plane.h"
#include "vector.h"

enum { MOST_SIDE = EDGE_PLANE_MOST_SIDE };

#if EDGE_LANES == 16
#define BEFORE(a, b) __builtin_shufflevector(a, b, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
#define BEHIND(a, b) __builtin_shufflevector(a, b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#elif EDGE_LANES == 8
#define BEFORE(a, b) __builtin_shufflevector(a, b, 8, 0, 1, 2, 3, 4, 5, 6)
#define BEHIND(a, b) __builtin_shufflevector(a, b, 1, 2, 3, 4, 5, 6, 7, 8)
/* Within halves first: a shuffle across them takes an instruction more. */
#define ACROSS(a) __builtin_shufflevector(a, a, 0, 1, 4, 5, 2, 3, 6, 7)
#define EVEN(a, b) ACROSS(__builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14))
#define ODD(a, b) ACROSS(__builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15))
#else
#define BEFORE(a, b) __builtin_shufflevector(a, b, 4, 0, 1, 2)
#define BEHIND(a, b) __builtin_shufflevector(a, b, 1, 2, 3, 4)
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6)
#define ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7)
#endif

EDGE_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Lines of the image [top, bottom), and columns [left, right), that windows see; even and odd: where columns go. */
typedef struct copier {
    const edge_depthwise_plane_f32 *job;
    plane plane;
    int64_t top, bottom, left, right, even, odd;
} copier;

/* Whole vectors are written, zeros behind the end: that is outside of the image, or what comes next and is written later. */
EDGE_INLINE void copy_line(const float *x, int64_t count, float *to) {
    int64_t i = 0;
    for (; i + EDGE_LANES <= count; i += EDGE_LANES) v_store(to + i, v_load(x + i));
    if (i < count) v_store(to + i, v_load_some(x + i, count - i));
}

EDGE_INLINE void split_line(const float *x, int64_t count, float *even, float *odd) {
    for (int64_t i = 0; i < count; i += 2 * EDGE_LANES) {
        int64_t left = count - i;
        vf a = left < EDGE_LANES ? v_load_some(x + i, left) : v_load(x + i), b = {0};
        if (left >= 2 * EDGE_LANES) b = v_load(x + i + EDGE_LANES);
        else if (left > EDGE_LANES) b = v_load_some(x + i + EDGE_LANES, left - EDGE_LANES);
        v_store(even + i / 2, EVEN(a, b));
        v_store(odd + i / 2, ODD(a, b));
    }
}

static void copy(const copier *c, const float *x, float *work) {
    const edge_depthwise_plane_f32 *j = c->job;
    for (int64_t row = c->top; row < c->bottom; row++) {
        const float *from = x + row * j->in_width;
        float *to = work + (row + j->pad_top) * c->plane.line;
        if (j->stride_x == 1) copy_line(from + c->left, c->right - c->left, to + c->even);
        else if (j->stride_x == 2) split_line(from + c->left, c->right - c->left, to + c->even, to + c->odd);
        else
            for (int64_t i = c->left; i < c->right; i++) to[plane_column(j, &c->plane, i + j->pad_left)] = from[i];
    }
}

static copier copier_of(const edge_depthwise_plane_f32 *j) {
    copier c = {.job = j, .plane = plane_of(j)};
    c.top = j->pad_top < 0 ? -j->pad_top : 0;
    c.bottom = least(j->in_height, c.plane.height - j->pad_top);
    c.left = j->pad_left < 0 ? -j->pad_left : 0;
    c.right = least(j->in_width, c.plane.width - j->pad_left);
    c.even = plane_column(j, &c.plane, c.left + j->pad_left);
    c.odd = plane_column(j, &c.plane, c.left + j->pad_left + 1);
    return c;
}

typedef struct windows {
    const edge_depthwise_plane_f32 *job;
    int64_t line, column[MOST_SIDE]; /* of each tap */
    const float *weights;
    vf bias, low, high;
} windows;

/* The results of one vector of windows. */
EDGE_INLINE vf sums(const windows *w, const int height, const int width, const vf *weights, const float *x) {
    vf acc = w->bias;
#pragma GCC unroll 5
    for (int i = 0; i < height; i++, x += w->job->dilation_y * w->line, weights += width) {
        vf sum = weights[0] * v_load(x);
#pragma GCC unroll 5
        for (int k = 1; k < width; k++) sum = v_madd(weights[k], v_load(x + w->column[k]), sum);
        acc = acc + sum;
    }
    return v_clamp(acc, w->low, w->high);
}

EDGE_INLINE void all_lines(const windows *w, const int height, const int width, const float *x, float *y) {
    const edge_depthwise_plane_f32 *j = w->job;
    vf weights[MOST_SIDE * MOST_SIDE];
    for (int i = 0; i < height * width; i++) weights[i] = v_set(w->weights[i]);
    int64_t step = j->stride_y * w->line, count = j->out_width;
    const float *end = y + j->out_height * count;
    for (int64_t row = 0; row < j->out_height; row++, x += step, y += count) {
        for (int64_t at = 0; at < count; at += EDGE_LANES) {
            /* The last vector ends with the line, where that is long enough; what is too much, later lines replace. */
            int64_t place = at + EDGE_LANES > count && count > EDGE_LANES ? count - EDGE_LANES : at;
            vf found = sums(w, height, width, weights, x + place);
            if (y + place + EDGE_LANES <= end) v_store(y + place, found);
            else v_store_some(y, found, count);
        }
    }
}

/* ---- three by three, the image as wide as the result or twice that: without a copy ---- */

static int is_direct(const edge_depthwise_plane_f32 *j) {
    return j->kernel_height == 3 && j->kernel_width == 3 && j->dilation_y == 1 && j->dilation_x == 1 && j->pad_left == 1 &&
           j->stride_x == j->stride_y && j->stride_x <= 2 && j->in_width == j->stride_x * j->out_width;
}

/* Lines of an image, one after the other, from where a strip of the result begins; those outside of it are zeros. */
typedef struct reader {
    const float *x, *zeros;
    int64_t row, height, width;
    int64_t count; /* results of a line: as a vector has, or all of a shorter line */
    int begins, ends;
} reader;

EDGE_INLINE const float *next(reader *r) {
    const float *line = r->row >= 0 && r->row < r->height ? r->x : r->zeros;
    r->row++;
    r->x += r->width;
    return line;
}

EDGE_INLINE void see_inside(const float *line, vf *seen) {
    for (int k = 0; k < 3; k++) seen[k] = v_load(line + k - 1);
}

/* What the taps of a line see where it may begin or end. */
EDGE_INLINE void see(const reader *r, const int stride, const float *line, vf *seen) {
    vf before = v_set(*(r->begins ? r->zeros : line - 1)), behind = {0}, a, b;
    if (stride == 1) behind = v_set(*(r->ends ? r->zeros : line + EDGE_LANES));
    if (__builtin_expect(r->count < EDGE_LANES, 0)) {
        int64_t count = r->count * stride, near = least(count, EDGE_LANES);
        a = v_load_some(line, near);
        b = v_load_some(line + near, count - near);
    } else {
        a = v_load(line);
        b = stride == 1 ? a : v_load(line + EDGE_LANES);
    }
    seen[1] = stride == 1 ? a : EVEN(a, b);
    seen[2] = stride == 1 ? BEHIND(a, behind) : ODD(a, b);
    seen[0] = BEFORE(stride == 1 ? a : seen[2], before);
}

/* Products of a line of taps. */
EDGE_INLINE vf taps(const vf *weights, const vf *x) {
    return v_madd(weights[2], x[2], v_madd(weights[1], x[1], weights[0] * x[0]));
}

/* Results of each line from `place` on, from the first line to the last.  What a line of the image adds to two or three of the
 * result is added at once. */
EDGE_INLINE void strip(const windows *w, const int stride, const int inside, int64_t place, const float *x, float *y,
                       const float *zeros) {
    const edge_depthwise_plane_f32 *j = w->job;
    vf weights[9], seen[3], first = {0}, second = {0}, bias = w->bias, low = w->low, high = w->high;
    int64_t out = j->out_width, lines = j->out_height, count = least(out, EDGE_LANES);
    reader r = {x - j->pad_top * j->in_width + stride * place, zeros, -j->pad_top, j->in_height, j->in_width, count,
                place == 0, place + count == out};
    const float *end = y + lines * out;
    for (int i = 0; i < 9; i++) weights[i] = v_set(w->weights[i]);
    y += place;
    for (int64_t line = stride - 3; line < lines; line++) {
        if (inside) see_inside(next(&r), seen);
        else see(&r, stride, next(&r), seen);
        vf found = v_clamp(second + taps(weights + 6, seen), low, high);
        if (stride == 1) second = first + taps(weights + 3, seen);
        first = bias + taps(weights, seen);
        if (stride == 2) {
            see(&r, stride, next(&r), seen);
            second = first + taps(weights + 3, seen);
        }
        /* At first not all has been seen, and behind a short line there is more of a vector: later lines replace both. */
        if (__builtin_expect(y + EDGE_LANES > end, 0)) v_store_some(y, found, count);
        else v_store(y, found);
        if (line >= 0) y += out;
    }
}

/* The last strip ends with the line, where that is long enough. */
EDGE_INLINE void all_strips(const windows *w, const int stride, const float *x, float *y, const float *zeros) {
    int64_t width = w->job->out_width, last = width - EDGE_LANES;
    for (int64_t at = 0; at < width; at += EDGE_LANES) {
        if (stride == 1 && at > 0 && at < last) strip(w, 1, 1, at, x, y, zeros);
        else strip(w, stride, 0, at > last && last > 0 ? last : at, x, y, zeros);
    }
}

void EDGE_NAME(edge_depthwise_plane_f32)(const edge_depthwise_plane_f32 *j, int64_t channels, const float *weights,
                                         const float *bias, const float *x, int64_t x_step, float *y, int64_t y_step,
                                         float *work) {
    copier c = copier_of(j);
    int height = (int)j->kernel_height, width = (int)j->kernel_width, direct = is_direct(j);
    windows w = {.job = j, .line = c.plane.line, .low = v_set(j->low), .high = v_set(j->high)};
    for (int i = 0; i < width; i++) w.column[i] = plane_column(j, &c.plane, i * j->dilation_x);
    memset(work, 0, (direct ? 2 * EDGE_LANES + 2 : edge_plane_floats(j)) * sizeof *work); /* what is outside of the image */
    for (int64_t i = 0; i < channels; i++, weights += height * width) {
        w.weights = weights;
        w.bias = v_set(bias[i]);
        if (!direct) copy(&c, x + i * x_step, work);
        if (direct && j->stride_x == 1) all_strips(&w, 1, x + i * x_step, y + i * y_step, work + 1);
        else if (direct) all_strips(&w, 2, x + i * x_step, y + i * y_step, work + 1);
        else if (height == 3 && width == 3) all_lines(&w, 3, 3, work, y + i * y_step);
        else if (height == 5 && width == 5) all_lines(&w, 5, 5, work, y + i * y_step);
        else all_lines(&w, height, width, work, y + i * y_step);
    }
}
