#include <math.h>

#include "reduction.h"

/* Four accumulators of four lanes: with 8 additions a lane and 4 to fold them, the rounding error of a block stays
 * under 12 * 2^-24 of the sum of its magnitudes. */
enum { LANES = 4, STEP = 4 * LANES, BLOCK = 8 * STEP };

typedef float quad __attribute__((vector_size(16)));
typedef int32_t quad_mask __attribute__((vector_size(16)));
typedef float quad_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

typedef enum term { PLAIN, ABSOLUTE, SQUARE } term;

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE quad load(const float *x) { return *(const quad_unaligned *)x; }

ALWAYS_INLINE quad choose(quad_mask mask, quad yes, quad no) {
    return (quad)((mask & (quad_mask)yes) | (~mask & (quad_mask)no));
}

ALWAYS_INLINE float term_of(float x, term t) { return t == PLAIN ? x : t == SQUARE ? x * x : fabsf(x); }

ALWAYS_INLINE quad terms_of(quad x, term t) {
    return t == PLAIN ? x : t == SQUARE ? x * x : choose(x < 0, -x, x);
}

ALWAYS_INLINE double sum_row(const float *x, int64_t n, float shift, term t) {
    double sum = 0;
    int64_t i = 0;
    while (n - i >= STEP) {
        quad lane[4] = {{0}};
        int64_t end = n - i < BLOCK ? i + (n - i) / STEP * STEP : i + BLOCK;
        for (; i < end; i += STEP) {
            lane[0] += terms_of(load(x + i) - shift, t);
            lane[1] += terms_of(load(x + i + LANES) - shift, t);
            lane[2] += terms_of(load(x + i + 2 * LANES) - shift, t);
            lane[3] += terms_of(load(x + i + 3 * LANES) - shift, t);
        }
        quad all = (lane[0] + lane[1]) + (lane[2] + lane[3]);
        sum += (all[0] + all[1]) + (all[2] + all[3]);
    }
    for (; i < n; i++) sum += term_of(x[i] - shift, t);
    return sum;
}

double ew_row_sum(const float *x, int64_t n) { return sum_row(x, n, 0, PLAIN); }
double ew_row_sum_abs(const float *x, int64_t n) { return sum_row(x, n, 0, ABSOLUTE); }
double ew_row_sum_square(const float *x, int64_t n) { return sum_row(x, n, 0, SQUARE); }
double ew_row_sum_deviation(const float *x, int64_t n, float mean) { return sum_row(x, n, mean, SQUARE); }

double ew_row_sum_exp(const float *x, int64_t n, float max) {
    float power[BLOCK];
    double sum = 0;
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t part = n - i < BLOCK ? n - i : BLOCK;
        for (int64_t j = 0; j < part; j += EW_LANES) {
            float lane[EW_LANES];
            ew_take_lanes(lane, x + i + j, part - j);
            for (int k = 0; k < EW_LANES; k++) power[j + k] = ew_exp_negative(lane[k] - max);
        }
        sum += ew_row_sum(power, part);
    }
    return sum;
}

/* A NaN that is in best stays there, because it compares false. */
ALWAYS_INLINE float extreme_of(float x, float best, bool max) {
    return ((max ? x > best : x < best) || x != x) ? x : best;
}

ALWAYS_INLINE quad extremes_of(quad x, quad best, bool max) {
    return choose((max ? x > best : x < best) | (x != x), x, best);
}

ALWAYS_INLINE float extreme_row(const float *x, int64_t n, bool max) {
    float best = max ? -INFINITY : INFINITY;
    quad a = {best, best, best, best}, b = a, c = a, d = a;
    int64_t i = 0;
    for (; n - i >= STEP; i += STEP) {
        a = extremes_of(load(x + i), a, max);
        b = extremes_of(load(x + i + LANES), b, max);
        c = extremes_of(load(x + i + 2 * LANES), c, max);
        d = extremes_of(load(x + i + 3 * LANES), d, max);
    }
    a = extremes_of(extremes_of(b, a, max), extremes_of(d, c, max), max);
    for (int j = 0; j < LANES; j++) best = extreme_of(a[j], best, max);
    for (; i < n; i++) best = extreme_of(x[i], best, max);
    return best;
}

float ew_row_max(const float *x, int64_t n) { return extreme_row(x, n, true); }
float ew_row_min(const float *x, int64_t n) { return extreme_row(x, n, false); }
