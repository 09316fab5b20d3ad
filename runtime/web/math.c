/* The functions of f64 that operators use, in place of the C library's: those bring 14 KB of tables and a second copy
 * of everything for f32.
 *
 * Series are summed from their smallest term, their coefficients are small fractions; ranges are reduced so that at
 * most some twenty terms are needed.  Sums of two numbers carry what the last place loses where that would be seen.
 * Errors stay below two units in the last place (tests/native/test_wasm_math.py), of erfc and of pow's largest results
 * below eight. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LN2_HIGH 0x1.62e42fefa38p-1 /* 42 bits: its products with exponents are exact */
#define LN2_LOW 0x1.ef35793c7673p-45
#define HALF_PI 0x1.921fb54442d18p0
#define HALF_PI_LOW 0x1.1a62633145c07p-54

/* high + low */
typedef struct pair {
    double high, low;
} pair;

static uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double power_of_two(int k) {
    uint64_t bits = (uint64_t)(k + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* x 2^k, k at most twice as far from 0 as exponents are. */
static double scaled(double x, int k) { return x * power_of_two(k / 2) * power_of_two(k - k / 2); }

/* a + b, |a| >= |b| or a = 0 */
static pair add(double a, double b) {
    double sum = a + b;
    return (pair){sum, (a - sum) + b};
}

/* a b without a fused multiply-add (Dekker, 1971). */
static pair multiply(double a, double b) {
    double t = 0x8000001p0 * a, a_high = t - (t - a), a_low = a - a_high;
    t = 0x8000001p0 * b;
    double b_high = t - (t - b), b_low = b - b_high, product = a * b;
    return (pair){product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low};
}

/* exp(x) - 1 = value 2^k + (2^k - 1), for |x| below 800; low is added to x. */
static pair expm1_reduced(double x, double low, int *k) {
    double n = rint(x * 0x1.71547652b82fep0), high = x - n * LN2_HIGH, rest = low - n * LN2_LOW, r = high + rest, p = 1;
    for (int i = 14; i > 2; i--) p = 1 + p * r / i;
    *k = (int)n;
    return add(high, r * r * 0.5 * p + rest);
}

static double exp_of(double x, double low) {
    if (!(x < 710)) return x * INFINITY; /* and NaN */
    if (x < -746) return 0;
    int k;
    pair e = expm1_reduced(x, low, &k), one = add(1, e.high);
    return scaled(one.high + (one.low + e.low), k);
}

double exp(double x) { return exp_of(x, 0); }

double expm1(double x) {
    if (!(x < 710)) return x * INFINITY;
    if (x < -40) return -1;
    if (fabs(x) < 0x1p-54) return x;
    int k;
    pair e = expm1_reduced(x, 0, &k);
    if (k == 0) return e.high + e.low;
    if (k > 60) return scaled(1 + e.high, k);
    pair sum = k > 0 ? add(1 - power_of_two(-k), e.high) : add(e.high, 0);
    if (k < 0) return ((power_of_two(k) - 1) + e.high * power_of_two(k)) + e.low * power_of_two(k);
    return scaled(sum.high + (sum.low + e.low), k);
}

/* The exponent of a positive number, which becomes one between sqrt(1/2) and sqrt(2). */
static int split(double *x) {
    int k = 0;
    if (*x < 0x1p-1022) *x *= 0x1p54, k = -54;
    uint64_t bits = bits_of(*x) - 0x3fe6a09e667f3bcdu;
    k += (int)((int64_t)bits >> 52);
    bits = (bits & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu;
    memcpy(x, &bits, sizeof bits);
    return k;
}

/* 2 (s^2 / 3 + s^4 / 5 + ...): what log(m) / s has beyond 2, for s = (m - 1) / (m + 1). */
static double log_series(double s) {
    double z = s * s, p = 0;
    for (int i = 25; i >= 3; i -= 2) p = (p + 2.0 / i) * z;
    return p;
}

double log(double x) {
    if (!(x > 0)) return x == 0 ? -INFINITY : NAN;
    if (x == INFINITY) return x;
    int k = split(&x);
    double f = x - 1, half = 0.5 * f * f, s = f / (2 + f);
    return k * LN2_HIGH - ((half - (s * (half + log_series(s)) + k * LN2_LOW)) - f);
}

double log1p(double x) {
    if (fabs(x) < 0x1p-54) return x;
    double u = 1 + x;
    if (!(u > 0) || u == INFINITY) return log(u);
    return log(u) + (x > 1 ? 1 - (u - x) : x - (u - 1)) / u;
}

/* log x of a positive number, with some ten bits more than a double. */
static pair log_pair(double x) {
    int k = split(&x);
    double f = x - 1, d = x + 1, d_low = x - (d - 1), s = f / d;
    pair product = multiply(s, d);
    double s_low = (((f - product.high) - product.low) - s * d_low) / d;
    pair first = add(k * LN2_HIGH, 2 * s);
    if (k == 0) first = (pair){2 * s, 0};
    return add(first.high, first.low + (2 * s_low + s * log_series(s) + k * LN2_LOW));
}

double pow(double x, double y) {
    if (x == 1 || y == 0) return 1;
    if (x != x || y != y) return x + y;
    double a = fabs(x);
    bool whole = y == rint(y), odd = whole && fabs(y) < 0x1p53 && ((int64_t)y & 1);
    if (a == 0 || a == INFINITY || fabs(y) == INFINITY) {
        bool large = a == 1 ? false : (a > 1) == (y > 0);
        double limit = a == 1 ? 1 : large ? INFINITY : 0;
        return odd && signbit(x) ? -limit : limit;
    }
    if (x < 0 && !whole) return NAN;
    pair l = log_pair(a);
    double sign = odd && x < 0 ? -1 : 1;
    if (fabs(y) > 0x1p65) y = y < 0 ? -0x1p65 : 0x1p65;
    if (fabs(y * l.high) > 800) return sign * (y * l.high > 0 ? INFINITY : 0);
    pair p = multiply(y, l.high);
    return sign * exp_of(p.high, p.low + y * l.low);
}

/* 2 / pi: a word in front of the point, which is zero, and bits behind it. */
static const uint64_t TWO_OVER_PI[] = {
    0, 0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041,
    0xfe5163abdebbc561, 0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e,
    0xe88235f52ebb4484, 0xe99c7026b45f7e41, 0x3991d639835339f4, 0x9c845f8bbdf9283b,
    0x1ff897ffde05980f, 0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7, 0x4f463f669e5fea2d,
    0x7527bac7ebe5f17b, 0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab};

/* x = n pi / 2 + result, |result| <= pi / 4; gives n modulo 4.  Of M 2^e, bits of 2 / pi that make multiples of four with
 * it are left out; the next 192 times M are, but for what overflows, the fraction of a full turn (Payne and Hanek, 1983). */
static int reduce(double x, pair *result) {
    double a = fabs(x);
    *result = (pair){x, 0};
    if (a < 0.785) return 0;
    uint64_t mantissa = (bits_of(a) & 0xfffffffffffffu) | 0x10000000000000u, part[3];
    int first = (int)(bits_of(a) >> 52) - 1075 + 62, shift = first & 63;
    for (int i = 0; i < 3; i++) {
        const uint64_t *word = TWO_OVER_PI + first / 64 + i;
        part[i] = word[0] << shift | word[1] >> 1 >> (63 - shift);
    }
    unsigned __int128 low = (unsigned __int128)mantissa * part[2];
    unsigned __int128 middle = (low >> 64) + (unsigned __int128)mantissa * part[1];
    uint64_t turn = (uint64_t)(middle >> 64) + mantissa * part[0], n = ((turn >> 61) + 1) >> 1;
    int64_t signed_turn = (int64_t)(turn - (n << 62));
    double high = (double)signed_turn, rest = (double)(signed_turn - (int64_t)high);
    rest += (double)(uint64_t)middle * 0x1p-64 + (double)(uint64_t)low * 0x1p-128;
    pair t = add(high, rest), product = multiply(t.high, HALF_PI);
    product = add(product.high, product.low + (t.low * HALF_PI + t.high * HALF_PI_LOW));
    double scale = x < 0 ? -0x1p-62 : 0x1p-62;
    *result = (pair){product.high * scale, product.low * scale};
    return (int)(x < 0 ? 0 - n : n) & 3;
}

/* r^first / first! - r^(first + 2) / (first + 2)! + ... without its factor r^first / first!: 1 - ... */
static double series(double z, int first) {
    double p = 1;
    for (int i = first + 18; i > first; i -= 2) p = 1 - p * z / (i * (i - 1));
    return p;
}

/* sin(r + n pi / 2) */
static double wave(pair r, int n) {
    double z = r.high * r.high, value;
    if (n & 1) {
        pair one = add(1, -0.5 * z);
        value = one.high + (one.low + (z * z / 24 * series(z, 4) - r.high * r.low));
    } else {
        value = r.high - (r.high * z / 6 * series(z, 3) - r.low * (1 - 0.5 * z));
    }
    return n & 2 ? -value : value;
}

double sin(double x) {
    pair r;
    if (!(fabs(x) < INFINITY)) return NAN;
    int n = reduce(x, &r);
    return x == 0 ? x : wave(r, n);
}

double cos(double x) {
    pair r;
    if (!(fabs(x) < INFINITY)) return NAN;
    int n = reduce(x, &r);
    return wave(r, n + 1);
}

double tan(double x) { return sin(x) / cos(x); }

/* Around the nearest of 0, 1/2, 1 and 3/2, or from pi / 2 down. */
double atan(double x) {
    static const double AT[] = {0, HALF_PI, 0x1.dac670561bb4fp-2, 0x1.921fb54442d18p-1, 0x1.f730bd281f69bp-1};
    static const double AT_LOW[] = {0, HALF_PI_LOW, 0x1.a2b7f222f65e2p-56, 0x1.1a62633145c07p-55, 0x1.007887af0cbbdp-56};
    double a = fabs(x), t = a, p = 0;
    int at = 0;
    if (a > 2.4375) {
        at = 1;
        t = -1 / a;
    } else if (a > 0.4375) {
        double c = a < 0.6875 ? 0.5 : a < 1.1875 ? 1 : 1.5;
        at = 1 + (int)(2 * c);
        t = (a - c) / (1 + a * c);
    }
    for (int i = 43; i >= 3; i -= 2) p = (1.0 / i - p) * t * t;
    double value = AT[at] - ((t * p - AT_LOW[at]) - t);
    return x != x ? x : copysign(value, x);
}

double asin(double x) {
    if (fabs(x) < 0x1p-27) return x;
    return atan(x / sqrt((1 - x) * (1 + x)));
}

double acos(double x) { return 2 * atan(sqrt((1 - x) / (1 + x))); }

double sinh(double x) {
    double a = fabs(x), t;
    if (a > 22) return copysign(0.5 * exp(0.5 * a) * exp(0.5 * a), x);
    t = expm1(a);
    return copysign(0.5 * (t + t / (t + 1)), x);
}

double cosh(double x) {
    double t = exp(0.5 * fabs(x));
    if (fabs(x) > 22) return 0.5 * t * t;
    t = expm1(fabs(x));
    return 1 + 0.5 * t * t / (1 + t);
}

double tanh(double x) {
    double a = fabs(x), t = expm1(2 * (a > 22 ? 22 : a));
    return copysign(a > 0.5 ? 1 - 2 / (t + 2) : t / (t + 2), x);
}

double asinh(double x) {
    double a = fabs(x);
    return copysign(a > 0x1p28 ? log(a) + 0x1.62e42fefa39efp-1 : log1p(a + a * a / (1 + sqrt(a * a + 1))), x);
}

double acosh(double x) {
    double t = x - 1;
    if (!(t >= 0)) return NAN;
    return x > 0x1p28 ? log(x) + 0x1.62e42fefa39efp-1 : log1p(t + sqrt(2 * t + t * t));
}

double atanh(double x) {
    double a = fabs(x);
    return copysign(0.5 * log1p(2 * a / (1 - a)), x);
}

/* exp(-x^2) 2 / sqrt(pi) */
static double bell(double x) {
    pair square = multiply(x, x);
    return exp_of(-square.high, -square.low) * 0x1.20dd750429b6dp0;
}

double erf(double x) {
    double a = fabs(x), term = a, sum = a;
    if (!(a < 6)) return x != x ? x : copysign(1, x);
    if (a > 2) return copysign(1 - erfc(a), x);
    for (int i = 3; term > sum * 0x1p-55; i += 2) sum += term *= 2 * a * a / i; /* terms are positive */
    return copysign(sum * bell(a), x);
}

/* A continued fraction, from as far down as x needs. */
double erfc(double x) {
    if (!(x > 0.75)) return 1 - erf(x);
    if (x > 28) return 0;
    double rest = x;
    for (int i = 20 + (int)(200 / (x * x)); i > 0; i--) rest = x + 0.5 * i / rest;
    return 0.5 * bell(x) / rest;
}

/* Every difference is exact. */
double fmod(double x, double y) {
    double rest = fabs(x), step = fabs(y), least = step;
    if (!(rest < INFINITY) || !(step > 0)) return NAN;
    if (step == INFINITY) return x;
    while (step <= rest * 0.5) step *= 2;
    for (; step >= least; step *= 0.5)
        if (rest >= step) rest -= step;
    return copysign(rest, x);
}

#define OF_F32(name) \
    float name##f(float x) { return (float)name(x); }
OF_F32(exp)
OF_F32(expm1)
OF_F32(log)
OF_F32(log1p)
OF_F32(sin)
OF_F32(cos)
OF_F32(tan)
OF_F32(asin)
OF_F32(acos)
OF_F32(atan)
OF_F32(sinh)
OF_F32(cosh)
OF_F32(tanh)
OF_F32(asinh)
OF_F32(acosh)
OF_F32(atanh)
OF_F32(erf)

float powf(float x, float y) { return (float)pow(x, y); }
float fmodf(float x, float y) { return (float)fmod(x, y); }
double log10(double x) { return log(x) * 0x1.bcb7b1526e50ep-2; }
