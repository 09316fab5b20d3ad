/* Functions of f32 without branches, so that a loop over them is vectorized.
 *
 * exp, expm1 and log reduce their range after Cody and Waite (Software Manual for the Elementary Functions, 1980): a
 * multiple of ln 2, held as a short high and a low part, is taken off before a polynomial.  erf beyond 0.9 is
 * 1 - exp(polynomial), because the logarithm of erfc is nearly quadratic there.  The coefficients are our own weighted
 * least-squares fits, reweighted towards the least maximum error, each rounded to f32 before the next was fitted.
 * Selections are made on bits: a conditional expression of floating arithmetic is not vectorized where compilers take
 * care of floating-point traps.
 */
#ifndef EDGE_MATH_H
#define EDGE_MATH_H

#include <stdint.h>
#include <string.h>

static inline uint32_t ew_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline float ew_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* condition (0 or 1) ? yes : no */
static inline float ew_pick(int condition, float yes, float no) {
    uint32_t mask = 0u - (uint32_t)condition;
    return ew_from_bits((ew_bits(yes) & mask) | (ew_bits(no) & ~mask));
}

static inline float ew_abs(float x) { return ew_from_bits(ew_bits(x) & 0x7fffffffu); }

/* magnitude must not be negative */
static inline float ew_with_sign(float magnitude, float sign) {
    return ew_from_bits(ew_bits(magnitude) | (ew_bits(sign) & 0x80000000u));
}

/* As ew_f16_to_f32: a half's bits in a float's place are 2^-112 of its value. */
static inline float ew_widen_half(uint16_t h) {
    uint32_t bits = (uint32_t)(h & 0x7fffu) << 13, special = 0u - (uint32_t)(bits >= 0x0f800000u);
    uint32_t value = ew_bits(ew_from_bits(bits) * 0x1p112f);
    value = ((bits | 0x7f800000u) & special) | (value & ~special);
    return ew_from_bits(value | (uint32_t)(h & 0x8000u) << 16);
}

/* As ew_f32_to_f16: adding 0.5 rounds what becomes subnormal, adding half of the last place rounds the rest. */
static inline uint16_t ew_narrow_half(float f) {
    uint32_t sign = (ew_bits(f) >> 16) & 0x8000u, u = ew_bits(f) & 0x7fffffffu;
    uint32_t tiny = 0u - (uint32_t)(u < 0x38800000u), huge = 0u - (uint32_t)(u >= 0x47800000u);
    uint32_t nan = 0u - (uint32_t)(u > 0x7f800000u);
    uint32_t normal = (u - 0x38000000u + 0xfffu + ((u >> 13) & 1u)) >> 13;
    uint32_t subnormal = ew_bits(ew_from_bits(u) + 0.5f) - 0x3f000000u;
    uint32_t special = 0x7c00u | (nan & (0x200u | ((u >> 13) & 0x3ffu)));
    uint32_t finite = (subnormal & tiny) | (normal & ~tiny);
    return (uint16_t)(sign | (special & huge) | (finite & ~huge));
}

/* A NaN in x stays; a NaN in the bounds is ignored. */
static inline float ew_clamp(float x, float low, float high) {
    x = ew_pick(x < low, low, x);
    return ew_pick(x > high, high, x);
}

/* To the nearest integer, halves to even. */
static inline float ew_round(float x) {
    float a = ew_abs(x), r = (a + 8388608.0f) - 8388608.0f;
    return ew_with_sign(ew_pick(a < 8388608.0f, r, a), x);
}

static inline float ew_floor(float x) {
    float r = ew_round(x);
    return r - ew_pick(r > x, 1.0f, 0.0f);
}

static inline float ew_ceil(float x) {
    float r = ew_round(x);
    return ew_with_sign(ew_abs(r + ew_pick(r < x, 1.0f, 0.0f)), x);
}

/* x = k ln 2 + r; gives r, and k as an integer. */
static inline float ew_reduce(float x, uint32_t *k) {
    float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
    *k = ew_bits(shifted) - 0x4b400000u;
    return (x - n * 0.693359375f) - n * -2.12194440e-4f;
}

static inline float ew_power_of_two(uint32_t k) { return ew_from_bits((k + 127u) << 23); }

/* exp(r) - 1 for |r| <= ln 2 / 2 */
static inline float ew_expm1_reduced(float r) {
    float p = 0.00139425555f;
    p = p * r + 0.00836886093f;
    p = p * r + 0.0416663811f;
    p = p * r + 0.166665196f;
    p = p * r + 0.5f;
    return p * (r * r) + r;
}

static inline float ew_exp(float x) {
    uint32_t k;
    float r = ew_reduce(ew_clamp(x, -104.0f, 89.0f), &k);
    /* In two steps, because 2^128 and 2^-150 are no floats. */
    uint32_t half = (uint32_t)((int32_t)k >> 1);
    return (1.0f + ew_expm1_reduced(r)) * ew_power_of_two(half) * ew_power_of_two(k - half);
}

static inline float ew_expm1(float x) {
    uint32_t k;
    float r = ew_reduce(ew_clamp(x, -50.0f, 89.0f), &k), half = ew_power_of_two(k - 1);
    return (ew_expm1_reduced(r) * half + (half - 0.5f)) * 2.0f;
}

/* Of a normal positive number. */
static inline float ew_log_normal(float x, float exponent_offset) {
    uint32_t bits = ew_bits(x), e = (uint32_t)((int32_t)(bits - 0x3f3504f3u) >> 23);
    float n = (float)(int32_t)e + exponent_offset, f = ew_from_bits(bits - (e << 23)) - 1.0f, z = f * f;
    float p = 0.0675095618f;
    p = p * f - 0.116714492f;
    p = p * f + 0.11883568f;
    p = p * f - 0.124060318f;
    p = p * f + 0.142203271f;
    p = p * f - 0.166679963f;
    p = p * f + 0.20002073f;
    p = p * f - 0.250000089f;
    p = p * f + 0.333333135f;
    return n * 0.693359375f + (f + ((p * f * z - 0.5f * z) + n * -2.12194440e-4f));
}

static inline float ew_log(float x) {
    int subnormal = x < 1.17549435e-38f;
    float result = ew_log_normal(x * ew_pick(subnormal, 8388608.0f, 1.0f), ew_pick(subnormal, -23.0f, 0.0f));
    result = ew_pick(x == 0.0f, -__builtin_inff(), result);
    result = ew_pick(x < 0.0f, __builtin_nanf(""), result);
    return ew_pick((x != x) | (x == __builtin_inff()), x, result);
}

/* log(1 + x) for x in [0, 1] */
static inline float ew_log1p_of_fraction(float x) {
    float u = 1.0f + x;
    return ew_log_normal(u, 0.0f) + (x - (u - 1.0f)) / u;
}

static inline float ew_tanh(float x) {
    float e = ew_expm1(2.0f * ew_pick(ew_abs(x) > 10.0f, 10.0f, ew_abs(x)));
    return ew_with_sign(e / (e + 2.0f), x);
}

static inline float ew_sigmoid(float x) {
    float t = ew_exp(-ew_abs(x)), r = 1.0f / (1.0f + t);
    return ew_pick(x < 0.0f, t * r, r);
}

static inline float ew_erf_small(float x) {
    float z = x * x, p = -0.000541976304f;
    p = p * z + 0.00487442454f;
    p = p * z - 0.0266804621f;
    p = p * z + 0.112792753f;
    p = p * z - 0.376122326f;
    p = p * z + 1.12837911f;
    return p * x;
}

static inline float ew_erf_large(float a) {
    float p = -2.06940695e-05f;
    p = p * a + 0.000429861597f;
    p = p * a - 0.00414895266f;
    p = p * a + 0.0250617135f;
    p = p * a - 0.108191662f;
    p = p * a - 0.633426487f;
    p = p * a - 1.12947595f;
    p = p * a + 0.000166662183f;
    return 1.0f - ew_exp(p);
}

static inline float ew_erf(float x) {
    float a = ew_abs(x), bounded = ew_pick(a > 4.0f, 4.0f, a);
    return ew_pick(a < 0.9f, ew_erf_small(x), ew_with_sign(ew_erf_large(bounded), x));
}

#endif
