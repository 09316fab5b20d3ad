/* One output row.  Four rows of the input lie byte by byte in one vector, so that one instruction does four taps of a
 * column: first a strip of the input is brought into that order, then each output pixel takes its columns of it.
 * Strips are at most CHANNELS channels and COLUMNS columns. */
#include "rescale.h"

enum { CHANNELS = 64, COLUMNS = 64, MOST_FOURS = EDGE_DEPTHWISE_MOST_HEIGHT / 4 };

typedef struct strip {
    const edge_depthwise_s8 *d;
    const uint8_t *const *line;
    int64_t first, width; /* channels */
    int64_t groups;       /* of 16 channels */
    int64_t column;       /* of the input, of the first one in the buffer */
    uint8_t *buffer;      /* [fours][COLUMNS][groups][16][4] */
    bool flip;
} strip;

EDGE_INLINE __m128i some_bytes(const uint8_t *p, int64_t count) {
    return count >= 16 ? _mm_loadu_si128((const __m128i *)(const void *)p) : _mm_maskz_loadu_epi8((__mmask16)((1 << count) - 1), p);
}

static const uint8_t *pixel(const strip *s, int64_t i, int64_t column) {
    const edge_depthwise_s8 *d = s->d;
    bool inside = i < d->kernel_height && s->line[i] && column >= 0 && column < d->in_width;
    return (inside ? s->line[i] + column * d->channels : d->zeros) + s->first;
}

/* Sixteen channels of four rows. */
EDGE_INLINE void weave_16(const uint8_t *const *row, int64_t at, int64_t count, bool flip, uint8_t *to) {
    __m128i a = some_bytes(row[0] + at, count), b = some_bytes(row[1] + at, count);
    __m128i c = some_bytes(row[2] + at, count), d = some_bytes(row[3] + at, count);
    __m128i low = _mm_unpacklo_epi8(a, b), high = _mm_unpackhi_epi8(a, b);
    __m128i low2 = _mm_unpacklo_epi8(c, d), high2 = _mm_unpackhi_epi8(c, d);
    __m128i turn = _mm_set1_epi8(flip ? -128 : 0), *y = (__m128i *)(void *)to;
    _mm_storeu_si128(y + 0, _mm_xor_si128(turn, _mm_unpacklo_epi16(low, low2)));
    _mm_storeu_si128(y + 1, _mm_xor_si128(turn, _mm_unpackhi_epi16(low, low2)));
    _mm_storeu_si128(y + 2, _mm_xor_si128(turn, _mm_unpacklo_epi16(high, high2)));
    _mm_storeu_si128(y + 3, _mm_xor_si128(turn, _mm_unpackhi_epi16(high, high2)));
}

/* Sixty-four channels: the same in every quarter of a vector, whose parts are stored where they belong. */
EDGE_INLINE void weave_64(const uint8_t *const *row, bool flip, uint8_t *to) {
    __m512i turn = _mm512_set1_epi8(flip ? -128 : 0);
    __m512i a = _mm512_loadu_si512(row[0]), b = _mm512_loadu_si512(row[1]);
    __m512i c = _mm512_loadu_si512(row[2]), d = _mm512_loadu_si512(row[3]);
    __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
    __m512i low2 = _mm512_unpacklo_epi8(c, d), high2 = _mm512_unpackhi_epi8(c, d);
    __m512i part[4] = {_mm512_unpacklo_epi16(low, low2), _mm512_unpackhi_epi16(low, low2),
                       _mm512_unpacklo_epi16(high, high2), _mm512_unpackhi_epi16(high, high2)};
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        __m512i v = flip ? _mm512_xor_si512(part[q], turn) : part[q];
        _mm_storeu_si128((__m128i *)(void *)(to + q * 16), _mm512_castsi512_si128(v));
        _mm_storeu_si128((__m128i *)(void *)(to + q * 16 + 64), _mm512_extracti32x4_epi32(v, 1));
        _mm_storeu_si128((__m128i *)(void *)(to + q * 16 + 128), _mm512_extracti32x4_epi32(v, 2));
        _mm_storeu_si128((__m128i *)(void *)(to + q * 16 + 192), _mm512_extracti32x4_epi32(v, 3));
    }
}

static void weave(const strip *s, int64_t columns) {
    int64_t fours = (s->d->kernel_height + 3) / 4;
    for (int64_t f = 0; f < fours; f++) {
        uint8_t *to = s->buffer + f * COLUMNS * s->groups * 64;
        for (int64_t x = 0; x < columns; x++, to += s->groups * 64) {
            const uint8_t *row[4];
            for (int i = 0; i < 4; i++) row[i] = pixel(s, f * 4 + i, s->column + x);
            if (s->width == CHANNELS) {
                weave_64(row, s->flip, to);
                continue;
            }
            for (int64_t g = 0; g < s->groups; g++)
                weave_16(row, g * 16, s->width - g * 16, s->flip, to + g * 64);
        }
    }
}

/* Sixteen channels of `pixels` outputs; fours and width are constants where it pays. */
EDGE_INLINE void multiply(const int64_t fours, const int64_t width, const strip *s, int64_t group, int64_t pixels,
                          uint8_t *out) {
    const edge_depthwise_s8 *d = s->d;
    int64_t channel = s->first + group * 16, padded = (d->channels + 15) / 16 * 16, each = s->groups * 64;
    __mmask16 mask = e_mask(d->channels - channel);
    const uint8_t *weights = (const uint8_t *)d->weights + padded * 4 + channel * 4;
    __m512i start = e_start(&d->out, s->flip, mask, channel, (const int32_t *)d->weights + channel);
    const uint8_t *from = s->buffer + group * 64;
    for (int64_t x = 0; x < pixels; x++, from += d->stride * each) {
        __m512i sum = start;
#pragma GCC unroll 2
        for (int64_t f = 0; f < fours; f++)
#pragma GCC unroll 5
            for (int64_t j = 0; j < width; j++)
                sum = _mm512_dpbusd_epi32(sum,
                                          _mm512_loadu_si512(from + f * COLUMNS * each + j * d->dilation * each),
                                          _mm512_loadu_si512(weights + (f * width + j) * padded * 4));
        e_store(&d->out, sum, mask, channel, out + x * d->channels + channel);
    }
}

static void multiply_group(const strip *s, int64_t group, int64_t pixels, uint8_t *out) {
    int64_t fours = (s->d->kernel_height + 3) / 4, width = s->d->kernel_width;
    if (fours == 1 && width == 3) multiply(1, 3, s, group, pixels, out);
    else if (fours == 2 && width == 5) multiply(2, 5, s, group, pixels, out);
    else multiply(fours, width, s, group, pixels, out);
}

void edge_depthwise_s8_avx512vnni(const edge_depthwise_s8 *d, const uint8_t *const *line, uint8_t *out) {
    uint8_t buffer[MOST_FOURS * COLUMNS * CHANNELS * 4] __attribute__((aligned(64)));
    int64_t span = (d->kernel_width - 1) * d->dilation + 1, most = (COLUMNS - span) / d->stride + 1;
    for (int64_t c = 0; c < d->channels; c += CHANNELS) {
        int64_t width = d->channels - c < CHANNELS ? d->channels - c : CHANNELS;
        strip s = {d, line, c, width, (width + 15) / 16, -d->pad, buffer, d->out.a_signed != 0};
        for (int64_t x = 0; x < d->out_width; x += most, s.column += most * d->stride) {
            int64_t pixels = d->out_width - x < most ? d->out_width - x : most;
            weave(&s, (pixels - 1) * d->stride + span);
            for (int64_t g = 0; g < s.groups; g++) multiply_group(&s, g, pixels, out + x * d->channels);
        }
    }
}
