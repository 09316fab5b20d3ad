/* One output row, sixty-four channels at a time.  Four rows of the input lie byte by byte in one vector, so that one
 * instruction does four taps of a column: first a strip of the input is woven into that order, then each output pixel
 * takes its columns of it.
 * Weaving and packing both work in quarters of vectors: between them, quarter i of vector q is of the channels from
 * 16 i + 4 q on, and what belongs to channels is brought into that order before. */
#include "rescale.h"

enum { CHANNELS = 64, COLUMNS = 64, VECTOR = 64, QUARTERS = 4, MOST_FOURS = EDGE_DEPTHWISE_MOST_HEIGHT / 4 };

typedef struct strip {
    const edge_depthwise_s8 *d;
    const uint8_t *const *line;
    int64_t first; /* channel */
    int groups;    /* of 16 channels */
    __mmask64 mask;
    uint8_t (*columns)[COLUMNS][QUARTERS * VECTOR]; /* [fours], woven */
    uint8_t (*weights)[QUARTERS * VECTOR];          /* [fours * kernel_width] */
    __m512i start[QUARTERS];
    __m512 scale[QUARTERS];
} strip;

/* What lies in vectors of 16 channels, in the order of weaving. */
EDGE_INLINE void ordered(const void *from, int groups, __m512i *v) {
    for (int g = 0; g < QUARTERS; g++)
        v[g] = g < groups ? _mm512_loadu_si512((const uint8_t *)from + g * VECTOR) : _mm512_setzero_si512();
    e_transpose(v);
}

static void order_constants(strip *s) {
    const edge_depthwise_s8 *d = s->d;
    const int32_t *sums = (const int32_t *)d->weights + s->first;
    __m512i scale[QUARTERS];
    for (int g = 0; g < QUARTERS; g++) {
        int64_t channel = s->first + g * 16;
        __mmask16 mask = e_mask(d->channels - channel);
        s->start[g] = scale[g] = _mm512_setzero_si512();
        if (g >= s->groups) continue;
        s->start[g] = e_start(&d->out, d->out.a_signed != 0, mask, channel, sums + g * 16);
        scale[g] = _mm512_maskz_loadu_epi32(mask, d->out.scale + channel);
    }
    e_transpose(s->start);
    e_transpose(scale);
    for (int q = 0; q < QUARTERS; q++) s->scale[q] = _mm512_castsi512_ps(scale[q]);
}

static void order_weights(const strip *s, int64_t taps) {
    int64_t padded = (s->d->channels + 15) / 16 * 16;
    const uint8_t *from = (const uint8_t *)s->d->weights + (padded + s->first) * 4;
    for (int64_t t = 0; t < taps; t++, from += padded * 4) {
        __m512i v[QUARTERS];
        ordered(from, s->groups, v);
        for (int q = 0; q < QUARTERS; q++) _mm512_store_si512(s->weights[t] + q * VECTOR, v[q]);
    }
}

/* One column of four rows. */
EDGE_INLINE void weave(const uint8_t *const *row, __mmask64 mask, __m512i turn, uint8_t *to) {
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) v[i] = _mm512_xor_si512(turn, _mm512_maskz_loadu_epi8(mask, row[i]));
    __m512i low = _mm512_unpacklo_epi8(v[0], v[1]), high = _mm512_unpackhi_epi8(v[0], v[1]);
    __m512i low2 = _mm512_unpacklo_epi8(v[2], v[3]), high2 = _mm512_unpackhi_epi8(v[2], v[3]);
    _mm512_store_si512(to + 0 * VECTOR, _mm512_unpacklo_epi16(low, low2));
    _mm512_store_si512(to + 1 * VECTOR, _mm512_unpackhi_epi16(low, low2));
    _mm512_store_si512(to + 2 * VECTOR, _mm512_unpacklo_epi16(high, high2));
    _mm512_store_si512(to + 3 * VECTOR, _mm512_unpackhi_epi16(high, high2));
}

/* Columns from `column` of the input on; four: the first of the rows. */
static void weave_columns(const strip *s, int64_t four, int64_t column, int64_t count) {
    const edge_depthwise_s8 *d = s->d;
    const uint8_t *zeros = d->zeros + s->first, *outside[4] = {zeros, zeros, zeros, zeros}, *row[4];
    int64_t begin = column < 0 ? -column : 0, behind = d->in_width - column, end = behind < count ? behind : count;
    int64_t step[4];
    for (int i = 0; i < 4; i++) {
        bool inside = four + i < d->kernel_height && s->line[four + i];
        row[i] = inside && begin < end ? s->line[four + i] + (column + begin) * d->channels + s->first : zeros;
        step[i] = inside ? d->channels : 0;
    }
    __m512i turn = _mm512_set1_epi8(d->out.a_signed ? -128 : 0);
    uint8_t(*to)[QUARTERS * VECTOR] = s->columns[four / 4];
    for (int64_t x = 0; x < count; x++) {
        if (x < begin || x >= end) {
            weave(outside, s->mask, turn, to[x]);
            continue;
        }
        weave(row, s->mask, turn, to[x]);
        for (int i = 0; i < 4; i++) row[i] += step[i];
    }
}

/* pixels is a constant; fours and width are constants where it pays. */
EDGE_INLINE void multiply(const int pixels, const int64_t fours, const int64_t width, const strip *s, const e_bytes *y,
                          int64_t column, uint8_t *out) {
    const edge_depthwise_s8 *d = s->d;
    const uint8_t *w = s->weights[0];
    __m512i sum[2][QUARTERS];
#pragma GCC unroll 2
    for (int p = 0; p < pixels; p++)
#pragma GCC unroll 4
        for (int q = 0; q < QUARTERS; q++) sum[p][q] = s->start[q];
#pragma GCC unroll 2
    for (int64_t f = 0; f < fours; f++) {
        const uint8_t *from = s->columns[f][column];
#pragma GCC unroll 5
        for (int64_t j = 0; j < width; j++, from += d->dilation * QUARTERS * VECTOR)
#pragma GCC unroll 4
            for (int q = 0; q < QUARTERS; q++, w += VECTOR) {
                __m512i weight = _mm512_load_si512(w);
#pragma GCC unroll 2
                for (int p = 0; p < pixels; p++)
                    sum[p][q] = _mm512_dpbusd_epi32(
                        sum[p][q], _mm512_load_si512(from + (p * d->stride * QUARTERS + q) * VECTOR), weight);
            }
    }
#pragma GCC unroll 2
    for (int p = 0; p < pixels; p++) {
#pragma GCC unroll 4
        for (int q = 0; q < QUARTERS; q++) sum[p][q] = e_round(y, sum[p][q], s->scale[q]);
        _mm512_mask_storeu_epi8(out + p * d->channels, s->mask, e_pack(y, sum[p]));
    }
}

EDGE_INLINE void multiply_pixels(const int64_t fours, const int64_t width, const strip *s, int64_t pixels,
                                 uint8_t *out) {
    const edge_depthwise_s8 *d = s->d;
    e_bytes y = e_bytes_of(&d->out);
    int64_t x = 0;
    for (; x + 2 <= pixels; x += 2) multiply(2, fours, width, s, &y, x * d->stride, out + x * d->channels);
    if (x < pixels) multiply(1, fours, width, s, &y, x * d->stride, out + x * d->channels);
}

static void multiply_strip(const strip *s, int64_t pixels, uint8_t *out) {
    int64_t fours = (s->d->kernel_height + 3) / 4, width = s->d->kernel_width;
    if (fours == 1 && width == 3) multiply_pixels(1, 3, s, pixels, out);
    else if (fours == 2 && width == 5) multiply_pixels(2, 5, s, pixels, out);
    else multiply_pixels(fours, width, s, pixels, out);
}

void edge_depthwise_s8_avx512vnni(const edge_depthwise_s8 *d, const uint8_t *const *line, uint8_t *out) {
    uint8_t columns[MOST_FOURS][COLUMNS][QUARTERS * VECTOR] __attribute__((aligned(64)));
    uint8_t weights[MOST_FOURS * EDGE_DEPTHWISE_MOST_SPAN][QUARTERS * VECTOR] __attribute__((aligned(64)));
    int64_t span = (d->kernel_width - 1) * d->dilation + 1, most = (COLUMNS - span) / d->stride + 1;
    strip s = {.d = d, .line = line, .columns = columns, .weights = weights};
    for (s.first = 0; s.first < d->channels; s.first += CHANNELS) {
        int64_t left = d->channels - s.first;
        s.groups = left < CHANNELS ? (int)(left + 15) / 16 : QUARTERS;
        s.mask = left < CHANNELS ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;
        order_constants(&s);
        order_weights(&s, (d->kernel_height + 3) / 4 * d->kernel_width);
        for (int64_t x = 0; x < d->out_width; x += most) {
            int64_t pixels = d->out_width - x < most ? d->out_width - x : most;
            for (int64_t four = 0; four < d->kernel_height; four += 4)
                weave_columns(&s, four, x * d->stride - d->pad, (pixels - 1) * d->stride + span);
            multiply_strip(&s, pixels, out + x * d->channels + s.first);
        }
    }
}
