/* Discrete Fourier transforms of any length in n log n. */
#ifndef EW_FFT_H
#define EW_FFT_H

#include "sequence.h"

enum { EW_FFT_LONGEST = 1 << 26, EW_FFT_FACTORS = 32 };

/* Real and imaginary parts alternate in all arrays.  A length with a large prime factor is turned into a convolution of
 * a power of two (Bluestein 1970), whose transform is padded. */
typedef struct ew_fft {
    int64_t length, padded; /* padded: 0 where the length is transformed as it is */
    int factors[EW_FFT_FACTORS], factor_count;
    double *roots;          /* e^(-2 pi i k / n), n of them, n: padded or length */
    float *narrow_roots;    /* NULL: the transform is in double precision */
    double *chirp, *filter; /* e^(-pi i k k / length), and the transform of its conjugate over padded */
} ew_fft;

/* Doubles of tables and of the scratch that each run needs; both grow with the length. */
double ew_fft_table_doubles(int64_t length);
double ew_fft_scratch_doubles(int64_t length);
/* length is 1 to EW_FFT_LONGEST; narrow: float32 is enough, a padded transform takes double precision nevertheless. */
void ew_fft_plan(ew_fft *fft, int64_t length, bool narrow, double *tables, double *scratch);
/* In place.  inverse: with the other sign, and divided by the length. */
void ew_fft_run(const ew_fft *fft, bool inverse, double *data, double *scratch);

/* ---- transforms of many lines, what DFT and STFT have in common ---- */

typedef struct ew_fft_job ew_fft_job;

struct ew_fft_job {
    int64_t lines, length;
    ew_fft fft;
    bool inverse, narrow;
    /* Fill and take length complex numbers. */
    void (*load)(const ew_fft_job *job, int64_t line, double *data);
    void (*store)(const ew_fft_job *job, int64_t line, const double *data);
    const void *context;
    double *scratch;
    int64_t slots, slot_doubles;
};

size_t ew_fft_workspace(int64_t length);
void ew_fft_run_lines(ew_call *call, ew_fft_job *job);

#endif
