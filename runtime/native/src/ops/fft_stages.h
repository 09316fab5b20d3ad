/* One transform of REAL numbers; included once for each of float and double, with STAGES(name) naming its functions.
 * Self-sorting (Stockham): groups of step neighbours, p parts that are count apart; roots has e^(-2 pi i k / n). */

typedef struct STAGES(stage) {
    int p;
    int64_t n, count, step; /* n: of the whole transform; p * count * step == n */
    const REAL *roots, *from;
    REAL *to;
} STAGES(stage);

static inline void STAGES(put)(REAL *to, REAL re, REAL im, const REAL *w) {
    to[0] = re * w[0] - im * w[1];
    to[1] = re * w[1] + im * w[0];
}

static void STAGES(butterfly_2)(const STAGES(stage) *s, int64_t k) {
    const REAL *w = s->roots + 2 * k * s->step, *a = s->from + 2 * k * s->step, *b = a + 2 * s->count * s->step;
    REAL *low = s->to + 4 * k * s->step, *high = low + 2 * s->step;
    for (int64_t j = 0; j < 2 * s->step; j += 2) {
        low[j] = a[j] + b[j];
        low[j + 1] = a[j + 1] + b[j + 1];
        STAGES(put)(high + j, a[j] - b[j], a[j + 1] - b[j + 1], w);
    }
}

static void STAGES(butterfly_4)(const STAGES(stage) *s, int64_t k) {
    const REAL *w1 = s->roots + 2 * k * s->step, *w2 = s->roots + 4 * k * s->step, *w3 = s->roots + 6 * k * s->step;
    int64_t apart = 2 * s->count * s->step;
    const REAL *a = s->from + 2 * k * s->step, *b = a + apart, *c = b + apart, *d = c + apart;
    REAL *y0 = s->to + 8 * k * s->step, *y1 = y0 + 2 * s->step, *y2 = y1 + 2 * s->step, *y3 = y2 + 2 * s->step;
    for (int64_t j = 0; j < 2 * s->step; j += 2) {
        REAL pr = a[j] + c[j], pi = a[j + 1] + c[j + 1], mr = a[j] - c[j], mi = a[j + 1] - c[j + 1];
        REAL qr = b[j] + d[j], qi = b[j + 1] + d[j + 1], nr = b[j] - d[j], ni = b[j + 1] - d[j + 1];
        y0[j] = pr + qr;
        y0[j + 1] = pi + qi;
        STAGES(put)(y1 + j, mr + ni, mi - nr, w1);
        STAGES(put)(y2 + j, pr - qr, pi - qi, w2);
        STAGES(put)(y3 + j, mr - ni, mi + nr, w3);
    }
}

/* Outputs r and p - r of an odd prime p come from sums and differences of parts t and p - t. */
static void STAGES(butterfly)(const STAGES(stage) *s, int64_t k) {
    int p = s->p, half = p / 2;
    int64_t apart = 2 * s->count * s->step, part = s->n / p;
    for (int64_t j = 0; j < 2 * s->step; j += 2) {
        const REAL *from = s->from + 2 * k * s->step + j;
        REAL *to = s->to + 2 * k * p * s->step + j;
        REAL sums[LARGEST + 1], differences[LARGEST + 1], re = from[0], im = from[1];
        for (int t = 1; t <= half; t++) {
            const REAL *a = from + t * apart, *b = from + (p - t) * apart;
            sums[2 * t] = a[0] + b[0], sums[2 * t + 1] = a[1] + b[1];
            differences[2 * t] = a[0] - b[0], differences[2 * t + 1] = a[1] - b[1];
            re += sums[2 * t];
            im += sums[2 * t + 1];
        }
        to[0] = re;
        to[1] = im;
        for (int r = 1; r <= half; r++) {
            REAL even_re = from[0], even_im = from[1], odd_re = 0, odd_im = 0;
            for (int t = 1; t <= half; t++) {
                const REAL *w = s->roots + 2 * part * (r * t % p);
                even_re += w[0] * sums[2 * t];
                even_im += w[0] * sums[2 * t + 1];
                odd_re += w[1] * differences[2 * t + 1];
                odd_im += w[1] * differences[2 * t];
            }
            STAGES(put)(to + 2 * r * s->step, even_re - odd_re, even_im + odd_im, s->roots + 2 * k * r * s->step);
            STAGES(put)(to + 2 * (p - r) * s->step, even_re + odd_re, even_im - odd_im,
                        s->roots + 2 * k * (p - r) * s->step);
        }
    }
}

/* The result is in data; other is scratch of the same size. */
static void STAGES(transform)(const int *factors, int factor_count, const REAL *roots, int64_t n, REAL *data,
                              REAL *other) {
    REAL *from = data, *to = other;
    int64_t step = 1;
    for (int i = 0; i < factor_count; i++) {
        int p = factors[i];
        STAGES(stage) s = {p, n, n / step / p, step, roots, from, to};
        for (int64_t k = 0; k < s.count; k++) {
            if (p == 2) STAGES(butterfly_2)(&s, k);
            else if (p == 4) STAGES(butterfly_4)(&s, k);
            else STAGES(butterfly)(&s, k);
        }
        step *= p;
        from = to;
        to = from == data ? other : data;
    }
    if (from != data) memcpy(data, from, (size_t)(2 * n) * sizeof *data);
}
