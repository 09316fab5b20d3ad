#include "fft.h"

#include <math.h>

#include "real.h"

/* The largest prime that has its own butterflies; SLOTS: lines at a time, each with its own scratch. */
enum { LARGEST = 31, SLOTS = 4 };

static const double PI = 3.14159265358979323846;

static int64_t padded_length(int64_t length) {
    int64_t padded = 1;
    while (padded < 2 * length - 1) padded *= 2;
    return padded;
}

double ew_fft_table_doubles(int64_t length) { return 4 * (double)padded_length(length) + 2 * (double)length; }
double ew_fft_scratch_doubles(int64_t length) { return 4 * (double)padded_length(length); }

/* What is left of n after all small factors. */
static int64_t factorize(ew_fft *fft, int64_t n) {
    fft->factor_count = 0;
    for (; n % 4 == 0; n /= 4) fft->factors[fft->factor_count++] = 4;
    for (int p = 2; p <= LARGEST; p++) {
        for (; n % p == 0; n /= p) fft->factors[fft->factor_count++] = p;
    }
    return n;
}

static void fill_roots(double *roots, int64_t count, int64_t period, int64_t power) {
    uint64_t n = (uint64_t)period;
    for (int64_t k = 0; k < count; k++) {
        uint64_t step = power == 2 ? (uint64_t)k * (uint64_t)k % n : (uint64_t)k;
        double angle = -2 * PI * (double)step / (double)period;
        roots[2 * k] = cos(angle);
        roots[2 * k + 1] = sin(angle);
    }
}

#define REAL float
#define STAGES(name) name##_f32
#include "fft_stages.h"
#undef REAL
#undef STAGES
#define REAL double
#define STAGES(name) name##_f64
#include "fft_stages.h"
#undef REAL
#undef STAGES

static void transform(const ew_fft *fft, int64_t n, double *data, double *other) {
    transform_f64(fft->factors, fft->factor_count, fft->roots, n, data, other);
}

static void multiply(double *a, const double *b, int64_t count) {
    for (int64_t i = 0; i < 2 * count; i += 2) {
        double re = a[i] * b[i] - a[i + 1] * b[i + 1];
        a[i + 1] = a[i] * b[i + 1] + a[i + 1] * b[i];
        a[i] = re;
    }
}

static void conjugate(double *a, int64_t count, double scale) {
    for (int64_t i = 0; i < 2 * count; i += 2) {
        a[i] *= scale;
        a[i + 1] *= -scale;
    }
}

static void plan_filter(ew_fft *fft, double *scratch) {
    double *filter = fft->filter;
    memset(filter, 0, (size_t)(2 * fft->padded) * sizeof(double));
    for (int64_t k = 0; k < fft->length; k++) {
        int64_t mirror = k ? fft->padded - k : 0;
        filter[2 * k] = filter[2 * mirror] = fft->chirp[2 * k];
        filter[2 * k + 1] = filter[2 * mirror + 1] = -fft->chirp[2 * k + 1];
    }
    transform(fft, fft->padded, filter, scratch);
}

void ew_fft_plan(ew_fft *fft, int64_t length, bool narrow, double *tables, double *scratch) {
    *fft = (ew_fft){.length = length, .roots = tables};
    if (factorize(fft, length) == 1) {
        fill_roots(fft->roots, length, length, 1);
        if (!narrow) return;
        fft->narrow_roots = (float *)(tables + 2 * length);
        for (int64_t i = 0; i < 2 * length; i++) fft->narrow_roots[i] = (float)fft->roots[i];
        return;
    }
    fft->padded = padded_length(length);
    factorize(fft, fft->padded);
    fill_roots(fft->roots, fft->padded, fft->padded, 1);
    fft->filter = fft->roots + 2 * fft->padded;
    fft->chirp = fft->filter + 2 * fft->padded;
    fill_roots(fft->chirp, length, 2 * length, 2);
    plan_filter(fft, scratch);
}

static void convolve(const ew_fft *fft, double *data, double *scratch) {
    double *padded = scratch, *other = scratch + 2 * fft->padded;
    memcpy(padded, data, (size_t)(2 * fft->length) * sizeof(double));
    memset(padded + 2 * fft->length, 0, (size_t)(2 * (fft->padded - fft->length)) * sizeof(double));
    multiply(padded, fft->chirp, fft->length);
    transform(fft, fft->padded, padded, other);
    multiply(padded, fft->filter, fft->padded);
    conjugate(padded, fft->padded, 1);
    transform(fft, fft->padded, padded, other);
    conjugate(padded, fft->length, 1 / (double)fft->padded);
    multiply(padded, fft->chirp, fft->length);
    memcpy(data, padded, (size_t)(2 * fft->length) * sizeof(double));
}

static void transform_narrow(const ew_fft *fft, double *data, double *scratch) {
    float *values = (float *)scratch, *other = values + 2 * fft->length;
    for (int64_t i = 0; i < 2 * fft->length; i++) values[i] = (float)data[i];
    transform_f32(fft->factors, fft->factor_count, fft->narrow_roots, fft->length, values, other);
    for (int64_t i = 0; i < 2 * fft->length; i++) data[i] = (double)values[i];
}

void ew_fft_run(const ew_fft *fft, bool inverse, double *data, double *scratch) {
    if (inverse) conjugate(data, fft->length, 1);
    if (fft->padded) convolve(fft, data, scratch);
    else if (fft->narrow_roots) transform_narrow(fft, data, scratch);
    else transform(fft, fft->length, data, scratch);
    if (inverse) conjugate(data, fft->length, 1 / (double)fft->length);
}

/* ---- lines ---- */

static double slot_doubles(int64_t length) { return 2 * (double)length + ew_fft_scratch_doubles(length); }

size_t ew_fft_workspace(int64_t length) {
    return ew_real_bytes(ew_fft_table_doubles(length) + SLOTS * slot_doubles(length), sizeof(double));
}

static void run_slots(void *context, int64_t begin, int64_t end) {
    const ew_fft_job *job = context;
    for (int64_t slot = begin; slot < end; slot++) {
        double *data = job->scratch + slot * job->slot_doubles;
        for (int64_t line = slot; line < job->lines; line += job->slots) {
            job->load(job, line, data);
            ew_fft_run(&job->fft, job->inverse, data, data + 2 * job->length);
            job->store(job, line, data);
        }
    }
}

void ew_fft_run_lines(ew_call *call, ew_fft_job *job) {
    double *tables = call->workspace;
    job->scratch = tables + (size_t)ew_fft_table_doubles(job->length);
    job->slot_doubles = (int64_t)slot_doubles(job->length);
    job->slots = job->lines < SLOTS ? job->lines : SLOTS;
    ew_fft_plan(&job->fft, job->length, job->narrow, tables, job->scratch);
    double work = (double)job->lines * (double)job->length;
    ew_parallel(call, job->slots, work < 4096 ? SLOTS : 1, run_slots, job);
}
