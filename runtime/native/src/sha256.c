#include "sha256.h"

#include <stdatomic.h>
#include <string.h>

const uint32_t ew_sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

static uint32_t load(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void store(uint8_t *at, uint32_t x) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(x >> (24 - 8 * i));
}

/* FIPS 180-4, 6.2.2: the message schedule. */
static void expand(uint32_t w[64], const uint8_t *data) {
    for (int t = 0; t < 16; t++) w[t] = load(data + 4 * t);
    for (int t = 16; t < 64; t++) {
        uint32_t early = w[t - 15], late = w[t - 2];
        w[t] = w[t - 16] + (rotate(early, 7) ^ rotate(early, 18) ^ early >> 3) + w[t - 7] +
               (rotate(late, 17) ^ rotate(late, 19) ^ late >> 10);
    }
}

static void mix_portable(uint32_t state[8], const uint8_t *data, size_t blocks) {
    for (; blocks; blocks--, data += EW_SHA256_BLOCK) {
        uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        expand(w, data);
        for (int t = 0; t < 64; t++) {
            uint32_t one = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + ew_sha256_k[t] + w[t];
            uint32_t two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + one;
            d = c, c = b, b = a, a = one + two;
        }
        uint32_t mixed[8] = {a, b, c, d, e, f, g, h};
        for (int i = 0; i < 8; i++) state[i] += mixed[i];
    }
}

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <immintrin.h>

#define BITS_SSSE3_SSE41 (1u << 9 | 1u << 19) /* leaf 1, ecx */
#define BIT_SHA (1u << 29)                    /* leaf 7, ebx */

/* The instructions keep the state as the words {f, e, b, a} and {h, g, d, c}, lowest first. */
__attribute__((target("sha,sse4.1,ssse3"))) static void mix_fast(uint32_t state[8], const uint8_t *data,
                                                                 size_t blocks) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);
    __m128i feba = _mm_alignr_epi8(badc, hgfe, 8), hgdc = _mm_blend_epi16(hgfe, badc, 0xf0);
    for (; blocks; blocks--, data += EW_SHA256_BLOCK) {
        __m128i w[4], old_feba = feba, old_hgdc = hgdc;
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), big_endian);
        for (int t = 0; t < 64; t += 4) {
            __m128i sum = _mm_add_epi32(w[0], _mm_loadu_si128((const __m128i *)(ew_sha256_k + t)));
            hgdc = _mm_sha256rnds2_epu32(hgdc, feba, sum);
            feba = _mm_sha256rnds2_epu32(feba, hgdc, _mm_shuffle_epi32(sum, 0x0e));
            __m128i next = _mm_add_epi32(_mm_sha256msg1_epu32(w[0], w[1]), _mm_alignr_epi8(w[3], w[2], 4));
            next = _mm_sha256msg2_epu32(next, w[3]);
            w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = next;
        }
        feba = _mm_add_epi32(feba, old_feba);
        hgdc = _mm_add_epi32(hgdc, old_hgdc);
    }
    __m128i abef = _mm_shuffle_epi32(feba, 0x1b), ghcd = _mm_shuffle_epi32(hgdc, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(abef, ghcd, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(ghcd, abef, 8));
}

static ew_sha256_mix best(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (~ecx & BITS_SSSE3_SSE41)) return mix_portable;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & BIT_SHA) ? mix_fast : mix_portable;
}

#elif defined(__AARCH64EL__) && defined(__linux__)
#include <arm_neon.h>
#include <sys/auxv.h>

#define BIT_SHA2 (1ul << 6) /* HWCAP_SHA2 of asm/hwcap.h */

__attribute__((target("+crypto"))) static void mix_fast(uint32_t state[8], const uint8_t *data, size_t blocks) {
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; blocks; blocks--, data += EW_SHA256_BLOCK) {
        uint32x4_t w[4], old_abcd = abcd, old_efgh = efgh;
        for (int i = 0; i < 4; i++) w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
        for (int t = 0; t < 64; t += 4) {
            uint32x4_t sum = vaddq_u32(w[0], vld1q_u32(ew_sha256_k + t)), before = abcd;
            abcd = vsha256hq_u32(abcd, efgh, sum);
            efgh = vsha256h2q_u32(efgh, before, sum);
            uint32x4_t next = vsha256su1q_u32(vsha256su0q_u32(w[0], w[1]), w[2], w[3]);
            w[0] = w[1], w[1] = w[2], w[2] = w[3], w[3] = next;
        }
        abcd = vaddq_u32(abcd, old_abcd);
        efgh = vaddq_u32(efgh, old_efgh);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

static ew_sha256_mix best(void) { return getauxval(AT_HWCAP) & BIT_SHA2 ? mix_fast : mix_portable; }

#else
static ew_sha256_mix best(void) { return mix_portable; }
#endif

static _Atomic(ew_sha256_mix) chosen; /* NULL until the first hash */

void ew_sha256_force_portable(bool portable) { atomic_store(&chosen, portable ? mix_portable : best()); }

static ew_sha256_mix choose(void) {
    ew_sha256_mix mix = atomic_load(&chosen);
    if (!mix) atomic_store(&chosen, mix = best());
    return mix;
}

bool ew_sha256_is_portable(void) { return choose() == mix_portable; }

void ew_sha256_init(ew_sha256 *hash) {
    *hash = (ew_sha256){
        .mix = choose(),
        .state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19},
    };
}

void ew_sha256_add(ew_sha256 *hash, const void *data, size_t bytes) {
    const uint8_t *at = data;
    size_t held = hash->bytes % EW_SHA256_BLOCK;
    hash->bytes += bytes;
    if (held) {
        size_t part = bytes < EW_SHA256_BLOCK - held ? bytes : EW_SHA256_BLOCK - held;
        if (part) memcpy(hash->rest + held, at, part);
        if (held + part < EW_SHA256_BLOCK) return;
        hash->mix(hash->state, hash->rest, 1);
        at += part;
        bytes -= part;
    }
    size_t tail = bytes % EW_SHA256_BLOCK;
    hash->mix(hash->state, at, bytes / EW_SHA256_BLOCK);
    if (tail) memcpy(hash->rest, at + (bytes - tail), tail);
}

void ew_sha256_finish(ew_sha256 *hash, uint8_t digest[32]) {
    uint8_t padding[2 * EW_SHA256_BLOCK] = {0x80};
    uint64_t bits = hash->bytes * 8;
    size_t zeros = (EW_SHA256_BLOCK + 55 - hash->bytes % EW_SHA256_BLOCK) % EW_SHA256_BLOCK;
    store(padding + 1 + zeros, (uint32_t)(bits >> 32));
    store(padding + 5 + zeros, (uint32_t)bits);
    ew_sha256_add(hash, padding, zeros + 9);
    for (int i = 0; i < 8; i++) store(digest + 4 * i, hash->state[i]);
}

void ew_sha256_hex(const uint8_t digest[32], char hex[65]) {
    static const char DIGITS[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = DIGITS[digest[i] >> 4];
        hex[2 * i + 1] = DIGITS[digest[i] & 15];
    }
    hex[64] = 0;
}
