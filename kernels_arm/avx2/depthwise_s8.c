/* One output row, eight channels of a pixel at once: a product of 16-bit numbers in every 32 bits, whose upper halves
 * are zero on one side. */
#include "rescale.h"

static __m256i eight(const uint8_t *p, int64_t count) {
    int64_t bytes = 0;
    memcpy(&bytes, p, count < 8 ? (size_t)count : 8);
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes));
}

static const uint8_t *pixel(const edge_depthwise_s8 *d, const uint8_t *line, int64_t column) {
    return line && column >= 0 && column < d->in_width ? line + column * d->channels : d->zeros;
}

static void channels(const edge_depthwise_s8 *d, const uint8_t *const *line, int64_t x, int64_t c, uint8_t *out) {
    int64_t padded = (d->channels + 15) / 16 * 16, left = d->channels - c;
    const int32_t *sums = d->weights;
    const int8_t *weights = (const int8_t *)(sums + padded) + c;
    bool flip = d->out.a_signed != 0;
    __m256i turn = _mm256_set1_epi32(flip ? 128 : 0);
    __m256i sum = e_start(&d->out, e_mask(left), c, e_load(sums + c));
    if (flip) sum = _mm256_sub_epi32(sum, _mm256_slli_epi32(e_load(sums + c), 7));
    for (int64_t i = 0; i < d->kernel_height; i++)
        for (int64_t j = 0; j < d->kernel_width; j++, weights += padded) {
            const uint8_t *from = pixel(d, line[i], x * d->stride - d->pad + j * d->dilation);
            __m256i w = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)weights));
            __m256i a = _mm256_xor_si256(eight(from + c, left), turn);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, w));
        }
    e_store(&d->out, sum, left, c, out + x * d->channels + c);
}

void edge_depthwise_s8_avx2(const edge_depthwise_s8 *d, const uint8_t *const *line, uint8_t *out) {
    for (int64_t x = 0; x < d->out_width; x++)
        for (int64_t c = 0; c < d->channels; c += 8) channels(d, line, x, c, out);
}
