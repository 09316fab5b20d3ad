#include "sequence.h"
#include "real.h"

/* A token is one position of one sequence; all its heads turn by the same angles. */
typedef struct rotary {
    int64_t batch, length, heads, size, turned; /* turned: leading elements of a head that turn */
    int64_t batch_step, head_step, token_step;
    bool interleaved;
    const ew_tensor *x, *cos, *sin, *positions;
    void *y;
} rotary;

static edge_status read_layout(const ew_call *call, rotary *r) {
    const ew_tensor *x = r->x;
    if (x->rank == 4) {
        r->heads = x->dims[1];
        r->length = x->dims[2];
        r->size = x->dims[3];
        r->token_step = r->size;
        r->head_step = r->length * r->size;
    } else if (x->rank == 3) {
        r->heads = ew_attr_int(call->node, "num_heads", 0);
        if (r->heads < 1 || x->dims[2] % r->heads) {
            return ew_fail(EDGE_INVALID_MODEL, "num_heads is %lld, expected a divisor of the last dimension, %lld",
                           (long long)r->heads, (long long)x->dims[2]);
        }
        r->length = x->dims[1];
        r->size = x->dims[2] / r->heads;
        r->token_step = x->dims[2];
        r->head_step = r->size;
    } else {
        return ew_fail(EDGE_INVALID_MODEL, "input has rank %d, expected 3 or 4", (int)x->rank);
    }
    r->batch = x->dims[0];
    r->batch_step = r->heads * r->length * r->size;
    return EDGE_OK;
}

static edge_status check_cache(const rotary *r, const ew_tensor *cache, const char *name) {
    int64_t half = r->turned / 2;
    if (!r->positions) return ew_seq_expect(cache, name, r->x->dtype, 3, (int64_t[]){r->batch, r->length, half});
    int64_t rows = r->cos->rank == 2 ? r->cos->dims[0] : 0;
    return ew_seq_expect(cache, name, r->x->dtype, 2, (int64_t[]){rows, half});
}

static edge_status read_rotary(const ew_call *call, rotary *r) {
    *r = (rotary){0};
    EW_TRY(ew_seq_need(call, 3));
    r->x = ew_in(call, 0);
    r->cos = ew_in(call, 1);
    r->sin = ew_in(call, 2);
    r->positions = ew_in(call, 3);
    EW_TRY(read_layout(call, r));
    int64_t value;
    EW_TRY(ew_seq_integer(call, "interleaved", 0, 0, 1, &value));
    r->interleaved = value != 0;
    EW_TRY(ew_seq_integer(call, "rotary_embedding_dim", 0, 0, r->size, &r->turned));
    if (!r->turned) r->turned = r->size;
    if (r->turned % 2) {
        return ew_fail(EDGE_INVALID_MODEL, "%lld elements of a head turn, expected an even number",
                       (long long)r->turned);
    }
    EW_TRY(check_cache(r, r->cos, "cos_cache"));
    EW_TRY(check_cache(r, r->sin, "sin_cache"));
    return ew_seq_expect(r->positions, "position_ids", EDGE_S64, 2, (int64_t[]){r->batch, r->length});
}

edge_status ew_infer_rotary(ew_call *call) {
    rotary r;
    EW_TRY(read_rotary(call, &r));
    return ew_out(call, 0) ? ew_same(ew_out(call, 0), r.x) : EDGE_OK;
}

static void turn_f32(const rotary *r, int64_t from, int64_t cache) {
    const float *x = (const float *)r->x->data + from;
    const float *cos = (const float *)r->cos->data + cache, *sin = (const float *)r->sin->data + cache;
    float *y = (float *)r->y + from;
    int64_t half = r->turned / 2;
    if (r->interleaved) {
        for (int64_t i = 0; i < half; i++) {
            y[2 * i] = cos[i] * x[2 * i] - sin[i] * x[2 * i + 1];
            y[2 * i + 1] = sin[i] * x[2 * i] + cos[i] * x[2 * i + 1];
        }
    } else {
        for (int64_t i = 0; i < half; i++) y[i] = cos[i] * x[i] - sin[i] * x[half + i];
        for (int64_t i = 0; i < half; i++) y[half + i] = sin[i] * x[i] + cos[i] * x[half + i];
    }
}

static void turn_f16(const rotary *r, int64_t from, int64_t cache) {
    const uint16_t *x = (const uint16_t *)r->x->data + from;
    const uint16_t *cosines = (const uint16_t *)r->cos->data + cache, *sines = (const uint16_t *)r->sin->data + cache;
    uint16_t *y = (uint16_t *)r->y + from;
    int64_t half = r->turned / 2, step = r->interleaved ? 2 : 1, apart = r->interleaved ? 1 : half;
    for (int64_t i = 0; i < half; i++) {
        float a = ew_f16_to_f32(x[i * step]), b = ew_f16_to_f32(x[i * step + apart]);
        float cos = ew_f16_to_f32(cosines[i]), sin = ew_f16_to_f32(sines[i]);
        y[i * step] = ew_f32_to_f16(cos * a - sin * b);
        y[i * step + apart] = ew_f32_to_f16(sin * a + cos * b);
    }
}

static void run_tokens(void *context, int64_t begin, int64_t end) {
    const rotary *r = context;
    size_t bytes = ew_dtype_bytes(r->x->dtype);
    for (int64_t token = begin; token < end; token++) {
        int64_t row = r->positions ? ((const int64_t *)r->positions->data)[token] : token;
        for (int64_t head = 0; head < r->heads; head++) {
            int64_t from = token / r->length * r->batch_step + head * r->head_step +
                           token % r->length * r->token_step;
            if (bytes == 4) turn_f32(r, from, row * (r->turned / 2));
            else turn_f16(r, from, row * (r->turned / 2));
            size_t rest = (size_t)(from + r->turned) * bytes;
            memcpy((uint8_t *)r->y + rest, (const uint8_t *)r->x->data + rest, (size_t)(r->size - r->turned) * bytes);
        }
    }
}

edge_status ew_run_rotary(ew_call *call) {
    rotary r;
    EW_TRY(read_rotary(call, &r));
    int64_t tokens = r.batch * r.length;
    for (int64_t i = 0; r.positions && i < tokens; i++) {
        int64_t position = ((const int64_t *)r.positions->data)[i];
        if (position >= 0 && position < r.cos->dims[0]) continue;
        return ew_fail(EDGE_INVALID_ARGUMENT, "position_ids has %lld at %lld, expected 0 to %lld", (long long)position,
                       (long long)i, (long long)r.cos->dims[0] - 1);
    }
    if (!ew_out(call, 0) || !ew_count(r.x)) return EDGE_OK;
    r.y = ew_out(call, 0)->data;
    ew_parallel(call, tokens, 1 + 32768 / (r.heads * r.size), run_tokens, &r);
    return EDGE_OK;
}
