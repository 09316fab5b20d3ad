/* One output row, sixteen channels of a pixel at once: two taps lie side by side, so that their products go in pairs
 * into sums of 32 bits. */
#include <stdbool.h>

#include "rescale.h"

enum { TOGETHER = 16, MOST_TAPS = EDGE_DEPTHWISE_MOST_HEIGHT * EDGE_DEPTHWISE_MOST_SPAN };

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

EDGE_INLINE int8x16_t sixteen(const uint8_t *p, int64_t count, uint8x16_t turn) {
    uint8_t part[TOGETHER] = {0};
    if (count < TOGETHER) p = memcpy(part, p, (size_t)count);
    return e_turned(vld1q_u8(p), turn);
}

/* Two taps of eight channels each. */
EDGE_INLINE void plus(int32x4_t *sum, int8x16_t a, int8x16_t w) {
    sum[0] = vpadalq_s16(sum[0], vmull_s8(vget_low_s8(a), vget_low_s8(w)));
    sum[1] = vpadalq_s16(sum[1], vmull_high_s8(a, w));
}

/* count channels from c on. */
EDGE_INLINE void channels(const edge_depthwise_s8 *d, const uint8_t *const *tap, int64_t c, int64_t count,
                          uint8_t *out) {
    int64_t padded = (d->channels + 15) / 16 * 16, taps = d->kernel_height * d->kernel_width;
    const int8_t *sums = (const int8_t *)d->weights + c * 4, *w = (const int8_t *)d->weights + padded * 4 + c;
    uint8x16_t turn = e_turn(&d->out);
    int32x4_t sum[4] = {0};
    for (int64_t t = 0; t < taps; t += 2, w += 2 * padded) {
        int8x16_t a0 = sixteen(tap[t] + c, count, turn), a1 = sixteen(tap[t + 1] + c, count, turn);
        int8x16_t w0 = vld1q_s8(w), w1 = t + 1 < taps ? vld1q_s8(w + padded) : vdupq_n_s8(0);
        plus(sum, vzip1q_s8(a0, a1), vzip1q_s8(w0, w1));
        plus(sum + 2, vzip2q_s8(a0, a1), vzip2q_s8(w0, w1));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        int64_t left = count - i * 4, at = c + i * 4;
        if (left <= 0) break;
        int32x4_t start = e_start(&d->out, left, at, e_some(sums + i * 16, 4));
        e_store(&d->out, vaddq_s32(start, sum[i]), left, at, out + at);
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
