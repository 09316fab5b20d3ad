/* One output row, eight channels of a pixel at once: two taps lie side by side as 16-bit numbers, so that one
 * instruction does both and their sum is exact. */
#include <stdbool.h>

#include "rescale.h"

enum { TOGETHER = 8, MOST_TAPS = EDGE_DEPTHWISE_MOST_HEIGHT * EDGE_DEPTHWISE_MOST_SPAN };

/* Where the taps of a pixel are, and one more. */
static void find_taps(const edge_depthwise_s8 *d, const uint8_t *const *line, int64_t x, const uint8_t **tap) {
    int64_t first = x * d->stride - d->pad;
    for (int64_t i = 0; i < d->kernel_height; i++)
        for (int64_t j = 0; j < d->kernel_width; j++) {
            int64_t column = first + j * d->dilation;
            bool inside = line[i] && column >= 0 && column < d->in_width;
            *tap++ = inside ? line[i] + column * d->channels : d->zeros;
        }
    *tap = d->zeros;
}

EDGE_INLINE v128_t eight(const uint8_t *p, int64_t count, v128_t turn) {
    uint8_t part[TOGETHER] = {0};
    if (count < TOGETHER) p = memcpy(part, p, (size_t)count);
    return e_widened(wasm_v128_load64_zero(p), turn);
}

/* count channels from c on. */
EDGE_INLINE void channels(const edge_depthwise_s8 *d, const uint8_t *const *tap, int64_t c, int64_t count,
                          uint8_t *out) {
    int64_t padded = (d->channels + 15) / 16 * 16, taps = d->kernel_height * d->kernel_width;
    const int8_t *sums = (const int8_t *)d->weights + c * 4, *w = (const int8_t *)d->weights + padded * 4 + c;
    v128_t turn = e_turn(&d->out), sum[2] = {wasm_i32x4_splat(0), wasm_i32x4_splat(0)};
    for (int64_t t = 0; t < taps; t += 2, w += 2 * padded) {
        v128_t a0 = eight(tap[t] + c, count, turn), a1 = eight(tap[t + 1] + c, count, turn);
        v128_t w0 = wasm_i16x8_load8x8(w), w1 = t + 1 < taps ? wasm_i16x8_load8x8(w + padded) : wasm_i16x8_splat(0);
        v128_t low = wasm_i16x8_shuffle(a0, a1, 0, 8, 1, 9, 2, 10, 3, 11);
        v128_t high = wasm_i16x8_shuffle(a0, a1, 4, 12, 5, 13, 6, 14, 7, 15);
        v128_t w_low = wasm_i16x8_shuffle(w0, w1, 0, 8, 1, 9, 2, 10, 3, 11);
        v128_t w_high = wasm_i16x8_shuffle(w0, w1, 4, 12, 5, 13, 6, 14, 7, 15);
        sum[0] = wasm_i32x4_add(sum[0], wasm_i32x4_dot_i16x8(low, w_low));
        sum[1] = wasm_i32x4_add(sum[1], wasm_i32x4_dot_i16x8(high, w_high));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        int64_t left = count - i * 4, at = c + i * 4;
        if (left <= 0) break;
        v128_t start = e_start(&d->out, left, at, e_some(sums + i * 16, 4));
        e_store(&d->out, wasm_i32x4_add(start, sum[i]), left, at, out + at);
    }
}

void EDGE_NAME(edge_depthwise_s8)(const edge_depthwise_s8 *d, const uint8_t *const *line, uint8_t *out) {
    const uint8_t *tap[MOST_TAPS + 1];
    for (int64_t x = 0; x < d->out_width; x++, out += d->channels) {
        find_taps(d, line, x, tap);
        if (d->channels < TOGETHER) {
            channels(d, tap, 0, d->channels, out);
            continue;
        }
        for (int64_t c = 0; c < d->channels; c += TOGETHER) { /* the last ones: some of them once more */
            int64_t at = c + TOGETHER <= d->channels ? c : d->channels - TOGETHER;
            channels(d, tap, at, TOGETHER, out);
        }
    }
}
