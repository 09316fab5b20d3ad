/* Depthwise convolutions of images with their channels first, a channel at a time. */
#include "../plane.h"
#include "vector.h"

enum { MOST_SIDE = EDGE_PLANE_MOST_SIDE };

#if EDGE_LANES == 16
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#elif EDGE_LANES == 8
#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD(a, b) __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#else
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
    for (int i = 0; i < height; i++) {
        const float *line = x + i * w->job->dilation_y * w->line;
#pragma GCC unroll 5
        for (int j = 0; j < width; j++) acc = v_madd(weights[i * width + j], v_load(line + w->column[j]), acc);
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

void EDGE_NAME(edge_depthwise_plane_f32)(const edge_depthwise_plane_f32 *j, int64_t channels, const float *weights,
                                         const float *bias, const float *x, int64_t x_step, float *y, int64_t y_step,
                                         float *work) {
    copier c = copier_of(j);
    int height = (int)j->kernel_height, width = (int)j->kernel_width;
    windows w = {.job = j, .line = c.plane.line, .low = v_set(j->low), .high = v_set(j->high)};
    for (int i = 0; i < width; i++) w.column[i] = plane_column(j, &c.plane, i * j->dilation_x);
    memset(work, 0, edge_plane_floats(j) * sizeof *work); /* what is outside of the image stays so */
    for (int64_t i = 0; i < channels; i++, weights += height * width) {
        copy(&c, x + i * x_step, work);
        w.weights = weights;
        w.bias = v_set(bias[i]);
        if (height == 3 && width == 3) all_lines(&w, 3, 3, work, y + i * y_step);
        else if (height == 5 && width == 5) all_lines(&w, 5, 5, work, y + i * y_step);
        else all_lines(&w, height, width, work, y + i * y_step);
    }
}
