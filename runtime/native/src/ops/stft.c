#include "fft.h"
#include "real.h"

typedef struct stft {
    const ew_tensor *x, *window;
    ew_tensor *y;
    int64_t batch, signal, parts, step, length, frames, bins;
} stft;

static edge_status read_number(const ew_call *call, int i, const char *name, int64_t low, int64_t high,
                               int64_t *value) {
    int count;
    EW_TRY(ew_ints(call, i, value, 1, &count));
    if (count == 1 && *value >= low && *value <= high) return EDGE_OK;
    return ew_fail(EDGE_INVALID_ARGUMENT, "%s is %lld, expected %lld to %lld", name,
                   count == 1 ? (long long)*value : 0, (long long)low, (long long)high);
}

/* A real signal may come without its last axis, as PyTorch exports it. */
static edge_status read_signal(stft *s) {
    int rank = s->x->rank;
    if (rank == 2 || (rank == 3 && (s->x->dims[2] == 1 || s->x->dims[2] == 2))) {
        s->batch = s->x->dims[0];
        s->signal = s->x->dims[1];
        s->parts = rank == 2 ? 1 : s->x->dims[2];
        return EDGE_OK;
    }
    return ew_fail(EDGE_INVALID_MODEL, "signal has rank %d, expected batch, length, and 1 for real or 2 for complex",
                   rank);
}

static edge_status read_stft(const ew_call *call, stft *s) {
    int64_t onesided;
    *s = (stft){0};
    EW_TRY(ew_seq_need(call, 2));
    s->x = ew_in(call, 0);
    s->window = ew_in(call, 2);
    s->y = ew_out(call, 0);
    EW_TRY(read_signal(s));
    EW_TRY(read_number(call, 1, "frame_step", 1, INT64_MAX, &s->step));
    s->length = s->window && s->window->rank == 1 ? s->window->dims[0] : s->signal;
    if (ew_in(call, 3)) EW_TRY(read_number(call, 3, "frame_length", 1, EW_FFT_LONGEST, &s->length));
    EW_TRY(ew_seq_expect(s->window, "window", s->x->dtype, 1, &s->length));
    if (s->length < 1 || s->length > s->signal || s->length > EW_FFT_LONGEST) {
        return ew_fail(EDGE_INVALID_ARGUMENT, "frames have length %lld, expected 1 to %lld, the length of the signal, "
                       "and at most %d", (long long)s->length, (long long)s->signal, (int)EW_FFT_LONGEST);
    }
    EW_TRY(ew_seq_integer(call, "onesided", 1, 0, 1, &onesided));
    s->frames = (s->signal - s->length) / s->step + 1;
    s->bins = onesided ? s->length / 2 + 1 : s->length;
    return EDGE_OK;
}

edge_status ew_infer_stft(ew_call *call) {
    stft s;
    EW_TRY(read_stft(call, &s));
    return s.y ? ew_shape(s.y, s.x->dtype, 4, (int64_t[]){s.batch, s.frames, s.bins, 2}) : EDGE_OK;
}

static void load(const ew_fft_job *job, int64_t line, double *data) {
    const stft *s = job->context;
    int64_t first = line / s->frames * s->signal + line % s->frames * s->step;
    for (int64_t i = 0; i < s->length; i++) {
        double weight = s->window ? ew_real_get(s->window->data, s->window->dtype, i) : 1;
        int64_t at = (first + i) * s->parts;
        data[2 * i] = weight * ew_real_get(s->x->data, s->x->dtype, at);
        data[2 * i + 1] = s->parts == 2 ? weight * ew_real_get(s->x->data, s->x->dtype, at + 1) : 0;
    }
}

static void store(const ew_fft_job *job, int64_t line, const double *data) {
    const stft *s = job->context;
    for (int64_t i = 0; i < 2 * s->bins; i++) ew_real_put(s->y->data, s->y->dtype, line * 2 * s->bins + i, data[i]);
}

edge_status ew_run_stft(ew_call *call) {
    stft s;
    EW_TRY(read_stft(call, &s));
    if (!s.y || !ew_count(s.y)) return EDGE_OK;
    ew_fft_job job = {.lines = s.batch * s.frames, .length = s.length, .load = load, .store = store, .context = &s};
    ew_fft_run_lines(call, &job);
    return EDGE_OK;
}

size_t ew_workspace_stft(const ew_call *call) {
    stft s;
    return read_stft(call, &s) == EDGE_OK ? ew_fft_workspace(s.length) : 0;
}
