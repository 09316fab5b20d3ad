/* One output row, sixteen channels of a pixel at once: two taps lie side by side as 16-bit numbers, so that one
 * instruction does both and their sum is exact. */
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

/* Sixteen bytes, signed ones shifted by 128. */
EDGE_INLINE __m256i sixteen(const uint8_t *p, int64_t count, __m256i turn) {
    uint8_t part[TOGETHER] = {0};
    if (count < TOGETHER) p = memcpy(part, p, (size_t)count);
    return _mm256_xor_si256(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p)), turn);
}

EDGE_INLINE __m256i weights_of(const int8_t *w) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
}

/* count channels from c on. */
EDGE_INLINE void channels(const edge_depthwise_s8 *d, const uint8_t *const *tap, int64_t c, int64_t count,
                          uint8_t *out) {
    int64_t padded = (d->channels + 15) / 16 * 16, taps = d->kernel_height * d->kernel_width;
    const int32_t *sums = (const int32_t *)d->weights + c;
    const int8_t *w = (const int8_t *)d->weights + padded * 4 + c;
    bool flip = d->out.a_signed != 0;
    __m256i turn = _mm256_set1_epi16(flip ? 128 : 0), low = _mm256_setzero_si256(), high = low;
    for (int64_t t = 0; t < taps; t += 2, w += 2 * padded) {
        __m256i a = sixteen(tap[t] + c, count, turn), b = sixteen(tap[t + 1] + c, count, turn);
        __m256i wa = weights_of(w), wb = t + 1 < taps ? weights_of(w + padded) : _mm256_setzero_si256();
        low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), _mm256_unpacklo_epi16(wa, wb)));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), _mm256_unpackhi_epi16(wa, wb)));
    }
    __m256i sum[2] = {_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31)};
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        int64_t left = count - i * 8;
        if (left <= 0) continue;
        __m256i start = e_start(&d->out, e_mask(left), c + i * 8, e_load(sums + i * 8));
        if (flip) start = _mm256_sub_epi32(start, _mm256_slli_epi32(e_load(sums + i * 8), 7));
        e_store(&d->out, _mm256_add_epi32(start, sum[i]), left, c + i * 8, out + c + i * 8);
    }
}

void edge_depthwise_s8_avx2(const edge_depthwise_s8 *d, const uint8_t *const *line, uint8_t *out) {
    const uint8_t *tap[MOST_TAPS + 1];
    for (int64_t x = 0; x < d->out_width; x++, out += d->channels) {
        find_taps(d, line, x, tap);
        if (d->channels < TOGETHER) {
            channels(d, tap, 0, d->channels, out);
            continue;
        }
        int64_t c = 0;
        for (; c + TOGETHER <= d->channels; c += TOGETHER) channels(d, tap, c, TOGETHER, out);
        if (c < d->channels) channels(d, tap, d->channels - TOGETHER, TOGETHER, out); /* some of them once more */
    }
}
