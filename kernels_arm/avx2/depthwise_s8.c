/* One output row, sixteen channels of some pixels at once: two taps lie side by side as 16-bit numbers, so that one
 * instruction does both and their sum is exact. */
#include "rescale.h"

enum { TOGETHER = 16, PIXELS = 3, MOST_TAPS = EDGE_DEPTHWISE_MOST_HEIGHT * EDGE_DEPTHWISE_MOST_SPAN };

/* Where the taps of a pixel are, and one more. */
typedef const uint8_t *taps_of[MOST_TAPS + 1];

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

EDGE_INLINE __m128i sixteen(const void *p, int64_t count) {
    uint8_t part[TOGETHER] = {0};
    if (count < TOGETHER) p = memcpy(part, p, (size_t)count);
    return _mm_loadu_si128((const __m128i *)p);
}

/* What 16 sums of a pixel begin with. */
EDGE_INLINE __m256i start_of(const edge_depthwise_s8 *d, int64_t c, int64_t count) {
    __m256i sums = e_load((const int32_t *)d->weights + c), start = e_start(&d->out, e_mask(count), c, sums);
    return d->out.a_signed ? _mm256_sub_epi32(start, _mm256_slli_epi32(sums, 7)) : start;
}

EDGE_INLINE __m256 scale_of(const edge_depthwise_s8 *d, int64_t c, int64_t count) {
    return _mm256_maskload_ps(d->out.scale + c, e_mask(count));
}

/* count channels from c on. */
EDGE_INLINE void channels(const int pixels, const edge_depthwise_s8 *d, const taps_of *tap, int64_t c, int64_t count,
                          uint8_t *out) {
    int64_t padded = (d->channels + 15) / 16 * 16, taps = d->kernel_height * d->kernel_width;
    const int8_t *w = (const int8_t *)d->weights + padded * 4 + c;
    __m128i turn = _mm_set1_epi8(d->out.a_signed ? -128 : 0); /* signed bytes are shifted by 128 */
    __m256i low[PIXELS], high[PIXELS];
    for (int p = 0; p < pixels; p++) low[p] = start_of(d, c, count), high[p] = start_of(d, c + 8, count - 8);
    for (int64_t t = 0; t < taps; t += 2, w += 2 * padded) {
        __m128i wa = sixteen(w, TOGETHER), wb = t + 1 < taps ? sixteen(w + padded, TOGETHER) : _mm_setzero_si128();
        __m256i w_low = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(wa, wb));
        __m256i w_high = _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(wa, wb));
#pragma GCC unroll 3
        for (int p = 0; p < pixels; p++) {
            __m128i a = _mm_xor_si128(sixteen(tap[p][t] + c, count), turn);
            __m128i b = _mm_xor_si128(sixteen(tap[p][t + 1] + c, count), turn);
            __m256i a_low = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
            __m256i a_high = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
            low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(a_low, w_low));
            high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(a_high, w_high));
        }
    }
    __m256 first = scale_of(d, c, count), second = scale_of(d, c + 8, count - 8);
#pragma GCC unroll 3
    for (int p = 0; p < pixels; p++) {
        __m256i pairs = e_pairs(e_whole(&d->out, low[p], first), e_whole(&d->out, high[p], second));
        pairs = _mm256_permute4x64_epi64(pairs, 0xd8);
        __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
        memcpy(out + p * d->channels + c, &bytes, (size_t)count);
    }
}

EDGE_INLINE void some_pixels(const int pixels, const edge_depthwise_s8 *d, const uint8_t *const *line, int64_t x,
                             uint8_t *out) {
    taps_of tap[PIXELS];
    for (int p = 0; p < pixels; p++) find_taps(d, line, x + p, tap[p]);
    if (d->channels < TOGETHER) {
        channels(pixels, d, tap, 0, d->channels, out);
        return;
    }
    int64_t c = 0;
    for (; c + TOGETHER <= d->channels; c += TOGETHER) channels(pixels, d, tap, c, TOGETHER, out);
    if (c < d->channels) channels(pixels, d, tap, d->channels - TOGETHER, TOGETHER, out); /* some of them once more */
}

void edge_depthwise_s8_avx2(const edge_depthwise_s8 *d, const uint8_t *const *line, uint8_t *out) {
    int64_t x = 0;
    for (; x + PIXELS <= d->out_width; x += PIXELS) some_pixels(PIXELS, d, line, x, out + x * d->channels);
    for (; x < d->out_width; x++) some_pixels(1, d, line, x, out + x * d->channels);
}
