/* Depthwise convolution of one output row: tiles of PIXELS pixels, all channels, one vector of channels at a time. */
#include "vector.h"

#define PIXELS 4
#define MOST_COLUMNS 16 /* of the input that a tile of an unrolled kernel sees */
#ifdef __wasm__ /* its compilers keep in memory what a whole window needs, and a page fetches it */
#define EACH_ROW _Pragma("clang loop unroll(disable)")
#else
#define EACH_ROW _Pragma("GCC unroll 5")
#endif
#if EDGE_LANES == 4 /* where a library has to be small */
#define ONCE static __attribute__((noinline))
#else
#define ONCE EDGE_INLINE
#endif

/* Channels that fill no vector, once for every window. */
static __attribute__((noinline)) void last_channels(int pixels, int height, int width, int stride,
                                                    const edge_depthwise_f32 *d, const float *const *at, int64_t c,
                                                    float *out) {
    int columns = (pixels - 1) * stride + width;
    int64_t left = d->channels - c;
    vf low = v_set(d->low), high = v_set(d->high);
    for (int p = 0; p < pixels; p++) {
        vf acc = v_load_some(d->bias + c, left);
        for (int i = 0; i < height; i++)
            for (int j = 0; j < width; j++) {
                vf w = v_load_some(d->weights + c + (i * width + j) * d->channels, left);
                acc += w * v_load_some(at[i * columns + p * stride + j] + c, left);
            }
        v_store_some(out + p * d->channels + c, v_clamp(acc, low, high), left);
    }
}

/* at[i * columns + j]: the pixel of the input under row i of the kernel and column j of the tile. */
EDGE_INLINE void tile(const int pixels, const int height, const int width, const int stride,
                      const edge_depthwise_f32 *d, const float *const *at, float *out) {
    const int columns = (pixels - 1) * stride + width;
    vf low = v_set(d->low), high = v_set(d->high);
    for (int64_t c = 0; c < d->channels; c += EDGE_LANES) {
        int64_t left = d->channels - c < EDGE_LANES ? d->channels - c : EDGE_LANES;
        vf acc[PIXELS], start = v_load_some(d->bias + c, left);
        for (int p = 0; p < pixels; p++) acc[p] = start;
        const float *weights = d->weights + c;
        if (left == EDGE_LANES) {
            EACH_ROW for (int i = 0; i < height; i++) {
                vf x[MOST_COLUMNS];
#pragma GCC unroll 16
                for (int j = 0; j < columns; j++) x[j] = v_load(at[i * columns + j] + c);
#pragma GCC unroll 5
                for (int j = 0; j < width; j++) {
                    vf w = v_load(weights + (i * width + j) * d->channels);
#pragma GCC unroll 4
                    for (int p = 0; p < pixels; p++) acc[p] = v_madd(w, x[p * stride + j], acc[p]);
                }
            }
#pragma GCC unroll 4
            for (int p = 0; p < pixels; p++) v_store(out + p * d->channels + c, v_clamp(acc[p], low, high));
        } else {
            last_channels(pixels, height, width, stride, d, at, c, out);
        }
    }
}

/* The pixel of a line at a column, or zeros outside of it. */
EDGE_INLINE const float *pixel(const edge_depthwise_f32 *d, const float *line, int64_t column) {
    return line && column >= 0 && column < d->in_width ? line + column * d->channels : d->zeros;
}

/* One pixel, for which the stride does not matter. */
static __attribute__((noinline)) void single_3(const edge_depthwise_f32 *d, const float *const *at, float *out) {
    tile(1, 3, 3, 1, d, at, out);
}

static __attribute__((noinline)) void single_5(const edge_depthwise_f32 *d, const float *const *at, float *out) {
    tile(1, 5, 5, 1, d, at, out);
}

/* The pixels that a tile sees, from this column on. */
ONCE void find_pixels(const int height, const int columns, const edge_depthwise_f32 *d, const float *const *line,
                      int64_t column, const float **at) {
    for (int i = 0; i < height; i++)
        for (int j = 0; j < columns; j++) at[i * columns + j] = pixel(d, line[i], column + j);
}

EDGE_INLINE void unrolled(const int height, const int width, const int stride, const edge_depthwise_f32 *d,
                          const float *const *line, float *out) {
    const float *at[5 * MOST_COLUMNS];
    int64_t x = 0;
    for (; x + PIXELS <= d->out_width; x += PIXELS) {
        find_pixels(height, (PIXELS - 1) * stride + width, d, line, x * stride - d->pad, at);
        tile(PIXELS, height, width, stride, d, at, out + x * d->channels);
    }
    for (; x < d->out_width; x++) {
        find_pixels(height, width, d, line, x * stride - d->pad, at);
        if (width == 3) single_3(d, at, out + x * d->channels);
        else single_5(d, at, out + x * d->channels);
    }
}

/* Any window: one pixel, one vector of channels, tap by tap. */
static void any(const edge_depthwise_f32 *d, const float *const *line, float *out) {
    vf low = v_set(d->low), high = v_set(d->high);
    for (int64_t x = 0; x < d->out_width; x++, out += d->channels)
        for (int64_t c = 0; c < d->channels; c += EDGE_LANES) {
            int64_t left = d->channels - c < EDGE_LANES ? d->channels - c : EDGE_LANES;
            const float *weights = d->weights + c;
            vf acc = v_load_some(d->bias + c, left);
            for (int64_t i = 0; i < d->kernel_height; i++)
                for (int64_t j = 0; j < d->kernel_width; j++, weights += d->channels) {
                    const float *from = pixel(d, line[i], x * d->stride - d->pad + j * d->dilation);
                    acc += v_load_some(weights, left) * v_load_some(from + c, left);
                }
            v_store_some(out + c, v_clamp(acc, low, high), left);
        }
}

void EDGE_NAME(edge_depthwise_f32)(const edge_depthwise_f32 *d, const float *const *line, float *out) {
    int64_t side = d->kernel_height == d->kernel_width && d->dilation == 1 ? d->kernel_width : 0;
    if (side == 3 && d->stride == 1) unrolled(3, 3, 1, d, line, out);
    else if (side == 3 && d->stride == 2) unrolled(3, 3, 2, d, line, out);
    else if (side == 5 && d->stride == 1) unrolled(5, 5, 1, d, line, out);
    else if (side == 5 && d->stride == 2) unrolled(5, 5, 2, d, line, out);
    else any(d, line, out);
}
