#include "einsum.h"

edge_status ew_infer_einsum(ew_call *call) {
    ew_einsum e;
    EW_TRY(ew_require(call, call->in_count));
    for (int i = 1; i < call->in_count; i++) EW_TRY(ew_like_first(call, i));
    EW_TRY(ew_einsum_read(call, &e));
    return ew_shape(ew_out(call, 0), ew_in(call, 0)->dtype, e.out_rank, e.length);
}

typedef struct sums {
    const ew_call *call;
    const ew_einsum *e;
    int64_t terms; /* of each sum */
} sums;

/* Offsets of the operands for one element of the output. */
static void offsets_of(const ew_einsum *e, int64_t element, int64_t offsets[EW_EINSUM_OPERANDS]) {
    memset(offsets, 0, EW_EINSUM_OPERANDS * sizeof *offsets);
    for (int label = e->out_rank - 1; label >= 0; label--) {
        int64_t index = element % e->length[label];
        element /= e->length[label];
        for (int i = 0; i < e->operands; i++) offsets[i] += index * e->step[i][label];
    }
}

/* Goes to the next term of the sum. */
static void advance(const ew_einsum *e, int64_t index[EW_EINSUM_LABELS], int64_t offsets[EW_EINSUM_OPERANDS]) {
    for (int label = e->labels - 1; label >= e->out_rank; label--) {
        bool is_last = ++index[label] == e->length[label];
        for (int i = 0; i < e->operands; i++)
            offsets[i] += is_last ? (1 - e->length[label]) * e->step[i][label] : e->step[i][label];
        if (!is_last) return;
        index[label] = 0;
    }
}

static double real_at(const ew_tensor *t, int64_t i) {
    return t->dtype == EDGE_F32 ? (double)((const float *)t->data)[i] : ((const double *)t->data)[i];
}

static uint64_t integer_at(const ew_tensor *t, int64_t i) { return (uint64_t)ew_get_int(t, i); }

#define SUM(name, type, at)                                                               \
    static type name(const sums *s, int64_t element) {                                    \
        const ew_einsum *e = s->e;                                                        \
        int64_t index[EW_EINSUM_LABELS] = {0}, offsets[EW_EINSUM_OPERANDS];               \
        type sum = 0;                                                                     \
        offsets_of(e, element, offsets);                                                  \
        for (int64_t k = 0; k < s->terms; k++) {                                          \
            type term = at(s->call->in[0], offsets[0]);                                   \
            for (int i = 1; i < e->operands; i++) term *= at(s->call->in[i], offsets[i]); \
            sum += term;                                                                  \
            advance(e, index, offsets);                                                   \
        }                                                                                 \
        return sum;                                                                       \
    }
SUM(sum_real, double, real_at)
SUM(sum_integer, uint64_t, integer_at)

static void store_integer(ew_tensor *y, int64_t i, uint64_t value) {
    switch (ew_dtype_bytes(y->dtype)) {
    case 1: ((uint8_t *)y->data)[i] = (uint8_t)value; break;
    case 2: ((uint16_t *)y->data)[i] = (uint16_t)value; break;
    case 4: ((uint32_t *)y->data)[i] = (uint32_t)value; break;
    default: ((uint64_t *)y->data)[i] = value; break;
    }
}

static void run_sums(void *context, int64_t begin, int64_t end) {
    const sums *s = context;
    ew_tensor *y = ew_out(s->call, 0);
    for (int64_t i = begin; i < end; i++) {
        if (y->dtype == EDGE_F32)
            ((float *)y->data)[i] = (float)sum_real(s, i);
        else if (y->dtype == EDGE_F64)
            ((double *)y->data)[i] = sum_real(s, i);
        else
            store_integer(y, i, sum_integer(s, i));
    }
}

static edge_status run_wide(ew_call *call) {
    ew_einsum e;
    EW_TRY(ew_einsum_read(call, &e));
    int64_t count = ew_count(ew_out(call, 0));
    sums s = {.call = call, .e = &e, .terms = 1};
    for (int label = e.out_rank; label < e.labels; label++) {
        if (e.length[label] == 0) s.terms = 0;
        if (__builtin_mul_overflow(s.terms, e.length[label], &s.terms))
            return ew_fail(EDGE_UNSUPPORTED, "the sums are too long");
    }
    if (count == 0 || (s.terms && ew_einsum_multiply(call, &e))) return EDGE_OK;
    ew_parallel(call, count, 1 + 1024 / (s.terms > 0 ? s.terms : 1), run_sums, &s);
    return EDGE_OK;
}

size_t ew_workspace_einsum(const ew_call *call) { return ew_half_workspace(call, 0); }

edge_status ew_run_einsum(ew_call *call) {
    return ew_in(call, 0)->dtype == EDGE_F16 ? ew_half_run(call, 0, run_wide) : run_wide(call);
}
