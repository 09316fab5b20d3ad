#include "attention.h"

#include <math.h>

#include "dot.h"
#include "real.h"
#include "edge_math.h"

/* A tile is ROWS query rows that share a head of keys, times KEYS keys.  Tiles are dealt out to SLOTS, each with
 * scratch of its own. */
enum { ROWS = 8, KEYS = 64, SLOTS = 16 };

typedef struct row {
    const float *q;
    float *sum, *qk; /* qk: all scores, NULL when nobody wants them */
    int64_t head, query, low, high; /* keys [low, high) may be seen */
    float most, total;
} row;

typedef struct job {
    const ew_attention *a;
    ew_heads y_layout;
    void *y, *qk; /* NULL: not wanted */
    int64_t tiles, items, slots; /* tiles: of one head of keys */
    size_t slot_floats;
    float *scratch;
} job;

typedef struct scratch {
    float *q, *k, *v, *sum, *qk;
} scratch;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static double slot_floats(const ew_attention *a, bool y, bool qk) {
    if (a->q.dtype == EDGE_F32 && a->v.dtype == EDGE_F32 && y) return 0;
    return (double)(ROWS + KEYS) * ((double)a->q.size + (double)a->v.size) + (qk ? (double)ROWS * (double)a->keys : 0);
}

static scratch scratch_of(const job *j, int64_t slot) {
    const ew_attention *a = j->a;
    scratch s = {.q = j->scratch + (size_t)slot * j->slot_floats};
    s.k = s.q + ROWS * a->q.size;
    s.v = s.k + KEYS * a->q.size;
    s.sum = s.v + KEYS * a->v.size;
    s.qk = s.sum + ROWS * a->v.size;
    return s;
}

/* Keys or values [first, first + count), which lie all in the past or all after it. */
static const float *tile_rows(const ew_attention *a, const ew_heads *now, const ew_heads *past, int64_t batch,
                              int64_t head, int64_t first, int64_t count, float *scratch, int64_t *stride) {
    const ew_heads *h = first < a->past ? past : now;
    int64_t from = batch * h->batch + head * h->head + (first < a->past ? first : first - a->past) * h->row;
    if (h->dtype == EDGE_F32) {
        *stride = h->row;
        return (const float *)h->data + from;
    }
    *stride = h->size;
    for (int64_t i = 0; i < count; i++) {
        ew_real_read(h->data, h->dtype, from + i * h->row, h->size, scratch + i * h->size);
    }
    return scratch;
}

static void see_keys(const ew_attention *a, int64_t batch, row *r) {
    int64_t length = a->lengths ? ((const int64_t *)a->lengths->data)[batch] : a->keys;
    int64_t position = r->query + (a->lengths ? length - a->queries : a->past);
    r->low = a->left >= 0 ? most(position - a->left, 0) : 0;
    r->high = length;
    if (a->causal) r->high = least(r->high, position + 1);
    if (a->right >= 0) r->high = least(r->high, position + a->right + 1);
    r->high = most(r->high, 0);
    r->low = least(r->low, r->high);
}

static void mask_bias(const ew_attention *a, int64_t batch, const row *r, int64_t first, int64_t count, float *bias) {
    const ew_tensor *m = a->mask;
    int64_t from = batch * a->mask_steps[0] + r->head * a->mask_steps[1] + r->query * a->mask_steps[2] + first;
    for (int64_t j = 0; j < count; j++) {
        if (first + j < r->low || first + j >= r->high || (m && first + j >= a->mask_keys)) {
            bias[j] = -INFINITY;
        } else if (!m) {
            bias[j] = 0;
        } else if (m->dtype == EDGE_BOOL) {
            bias[j] = ((const uint8_t *)m->data)[from + j] ? 0 : -INFINITY;
        } else {
            bias[j] = (float)ew_real_get(m->data, m->dtype, from + j);
        }
    }
}

static void keep_scores(const row *r, int64_t first, int64_t count, const float *scores) {
    memcpy(r->qk + first, scores, (size_t)count * sizeof(float));
}

/* Loops over a whole tile, whose length is constant, are vectorized at -O2 already; so scores behind count are
 * computed too and then dropped. */
static void cap(float scores[KEYS], float softcap) {
    for (int j = 0; j < KEYS; j++) scores[j] = ew_tanh(scores[j] / softcap) * softcap;
}

/* Masked keys get -inf, whatever their product is: padding may hold anything. */
static void mask_scores(const ew_attention *a, int64_t batch, const row *r, int64_t first, int64_t count,
                        float scores[KEYS]) {
    float bias[KEYS];
    if (!a->mask && first >= r->low && first + count <= r->high) return;
    mask_bias(a, batch, r, first, count, bias);
    for (int64_t j = 0; j < count; j++) scores[j] = bias[j] == -INFINITY ? -INFINITY : scores[j] + bias[j];
}

static void score(const ew_attention *a, int64_t batch, const row *r, const float *keys, int64_t stride, int64_t first,
                  int64_t count, float scores[KEYS]) {
    for (int j = 0; j < KEYS; j++) scores[j] = 0;
    ew_dot_rows(r->q, keys, stride, count, a->q.size, scores);
    for (int j = 0; j < KEYS; j++) scores[j] *= a->scale;
    if (r->qk && a->qk_mode == 0) keep_scores(r, first, count, scores);
    if (a->softcap > 0) cap(scores, a->softcap);
    if (r->qk && a->qk_mode == 1) keep_scores(r, first, count, scores);
    mask_scores(a, batch, r, first, count, scores);
    if (r->qk && a->qk_mode >= 2) keep_scores(r, first, count, scores);
}

/* Moves the scores of keys that are not masked to the front. */
static int pick(const float *scores, int64_t count, int32_t *picks, float weights[KEYS]) {
    int picked = 0;
    for (int64_t j = 0; j < count; j++) {
        picks[picked] = (int32_t)j;
        weights[picked] = scores[j];
        picked += scores[j] != -INFINITY;
    }
    for (int j = picked; j < KEYS; j++) weights[j] = -INFINITY;
    return picked;
}

/* Several running values instead of one, so that no operation waits for the one before. */
enum { LANES = 8 };

static float largest(const float weights[KEYS]) {
    float lanes[LANES], result = -INFINITY;
    for (int l = 0; l < LANES; l++) lanes[l] = -INFINITY;
    for (int j = 0; j < KEYS; j += LANES) {
        for (int l = 0; l < LANES; l++) lanes[l] = weights[j + l] > lanes[l] ? weights[j + l] : lanes[l];
    }
    for (int l = 0; l < LANES; l++) result = lanes[l] > result ? lanes[l] : result;
    return result;
}

/* Weights become exponentials, those of -inf 0; gives their sum. */
static float exponentials(float weights[KEYS], float most) {
    float lanes[LANES] = {0}, result = 0;
    for (int j = 0; j < KEYS; j++) weights[j] = ew_exp(weights[j] - most);
    for (int j = 0; j < KEYS; j += LANES) {
        for (int l = 0; l < LANES; l++) lanes[l] += weights[j + l];
    }
    for (int l = 0; l < LANES; l++) result += lanes[l];
    return result;
}

/* Adds the values of a tile to a row, and scales what was there to the new maximum. */
static void absorb(const ew_attention *a, row *r, const float *values, int64_t stride, int64_t count,
                   const float *scores) {
    int32_t picks[KEYS];
    float weights[KEYS];
    int picked = pick(scores, count, picks, weights);
    if (!picked) return;
    float most = largest(weights);
    if (most > r->most) {
        float shrink = r->total != 0 ? ew_exp(r->most - most) : 0;
        r->most = most;
        r->total *= shrink;
        for (int64_t i = 0; i < a->v.size; i++) r->sum[i] *= shrink;
    }
    r->total += exponentials(weights, r->most);
    ew_add_rows(values, stride, picks, weights, picked, a->v.size, r->sum);
}

static void finish(const ew_attention *a, const row *r) {
    for (int64_t i = 0; i < a->v.size; i++) r->sum[i] = r->total != 0 ? r->sum[i] / r->total : 0;
    if (!r->qk || a->qk_mode != 3) return;
    for (int64_t j = 0; j < a->keys; j++) {
        r->qk[j] = r->qk[j] == -INFINITY ? 0 : ew_exp(r->qk[j] - r->most) / r->total;
    }
}

static int64_t y_index(const job *j, int64_t batch, const row *r) {
    return batch * j->y_layout.batch + r->head * j->y_layout.head + r->query * j->y_layout.row;
}

static int64_t qk_index(const ew_attention *a, int64_t batch, const row *r) {
    return ((batch * a->q_heads + r->head) * a->queries + r->query) * a->keys;
}

static row start(const job *j, int64_t batch, int64_t head, int64_t number, const scratch *s, int slot) {
    const ew_attention *a = j->a;
    row r = {.head = head * a->group + number / a->queries, .query = number % a->queries, .most = -INFINITY};
    r.q = ew_real_read(a->q.data, a->q.dtype, batch * a->q.batch + r.head * a->q.head + r.query * a->q.row, a->q.size,
                       s->q + slot * a->q.size);
    bool direct = a->q.dtype == EDGE_F32;
    r.sum = direct && j->y ? (float *)j->y + y_index(j, batch, &r) : s->sum + slot * a->v.size;
    if (j->qk) r.qk = direct ? (float *)j->qk + qk_index(a, batch, &r) : s->qk + slot * a->keys;
    see_keys(a, batch, &r);
    for (int64_t i = 0; i < a->v.size; i++) r.sum[i] = 0;
    return r;
}

static void run_keys(const job *j, int64_t batch, int64_t head, row *rows, int count, const scratch *s) {
    const ew_attention *a = j->a;
    float scores[ROWS][KEYS];
    int64_t low = j->qk ? 0 : a->keys, high = j->qk ? a->keys : 0, n, stride;
    for (int i = 0; !j->qk && i < count; i++) {
        low = least(low, rows[i].low);
        high = most(high, rows[i].high);
    }
    for (int64_t first = low; first < high; first += n) {
        n = least(KEYS, (first < a->past ? least(high, a->past) : high) - first);
        const float *keys = tile_rows(a, &a->k, &a->past_k, batch, head, first, n, s->k, &stride);
        for (int i = 0; i < count; i++) score(a, batch, &rows[i], keys, stride, first, n, scores[i]);
        const float *values = tile_rows(a, &a->v, &a->past_v, batch, head, first, n, s->v, &stride);
        for (int i = 0; i < count; i++) absorb(a, &rows[i], values, stride, n, scores[i]);
    }
}

static void run_item(const job *j, int64_t item, const scratch *s) {
    const ew_attention *a = j->a;
    int64_t tile = item % j->tiles, head = item / j->tiles % a->kv_heads, batch = item / j->tiles / a->kv_heads;
    int count = (int)least(ROWS, a->group * a->queries - tile * ROWS);
    row rows[ROWS];
    for (int i = 0; i < count; i++) rows[i] = start(j, batch, head, tile * ROWS + i, s, i);
    run_keys(j, batch, head, rows, count, s);
    for (int i = 0; i < count; i++) {
        finish(a, &rows[i]);
        if (a->q.dtype == EDGE_F32) continue;
        if (j->y) ew_real_write(j->y, a->q.dtype, y_index(j, batch, &rows[i]), a->v.size, rows[i].sum);
        if (j->qk) ew_real_write(j->qk, a->q.dtype, qk_index(a, batch, &rows[i]), a->keys, rows[i].qk);
    }
}

static void run_slots(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    for (int64_t slot = begin; slot < end; slot++) {
        scratch s = {0};
        if (j->slot_floats) s = scratch_of(j, slot);
        for (int64_t item = slot; item < j->items; item += j->slots) run_item(j, item, &s);
    }
}

static edge_status check_lengths(const ew_attention *a) {
    for (int64_t i = 0; a->lengths && i < a->batch; i++) {
        int64_t length = ((const int64_t *)a->lengths->data)[i];
        if (length >= 0 && length <= a->keys) continue;
        return ew_fail(EDGE_INVALID_ARGUMENT, "nonpad_kv_seqlen of batch %lld is %lld, expected 0 to %lld",
                       (long long)i, (long long)length, (long long)a->keys);
    }
    return EDGE_OK;
}

static void copy_rows(uint8_t *to, const ew_heads *h, int64_t batch, int64_t head, int64_t count) {
    size_t bytes = (size_t)h->size * ew_dtype_bytes(h->dtype);
    const uint8_t *from = h->data;
    int64_t first = batch * h->batch + head * h->head;
    for (int64_t i = 0; bytes && i < count; i++) {
        memcpy(to + (size_t)i * bytes, from + (size_t)(first + i * h->row) * ew_dtype_bytes(h->dtype), bytes);
    }
}

/* Past and present, one after the other, of every head. */
static void join(const ew_attention *a, const ew_heads *past, const ew_heads *now, const ew_tensor *out) {
    if (!out) return;
    size_t row_bytes = (size_t)now->size * ew_dtype_bytes(now->dtype);
    uint8_t *to = out->data;
    for (int64_t i = 0; i < a->batch * a->kv_heads; i++) {
        copy_rows(to, past, i / a->kv_heads, i % a->kv_heads, a->past);
        to += (size_t)a->past * row_bytes;
        copy_rows(to, now, i / a->kv_heads, i % a->kv_heads, a->keys - a->past);
        to += (size_t)(a->keys - a->past) * row_bytes;
    }
}

edge_status ew_run_attention(ew_call *call) {
    ew_attention a;
    EW_TRY(ew_read_attention(call, &a));
    EW_TRY(check_lengths(&a));
    join(&a, &a.past_k, &a.k, ew_out(call, 1));
    join(&a, &a.past_v, &a.v, ew_out(call, 2));
    const ew_tensor *y = ew_out(call, 0), *qk = ew_out(call, 3);
    if (!(y || qk) || !a.batch || !a.queries || !a.q_heads) return EDGE_OK;
    job j = {.a = &a, .y = y ? y->data : NULL, .qk = qk ? qk->data : NULL, .scratch = call->workspace};
    if (y) j.y_layout = ew_heads_of(y, a.q_heads);
    j.tiles = (a.group * a.queries + ROWS - 1) / ROWS;
    j.items = a.batch * a.kv_heads * j.tiles;
    j.slots = least(j.items, SLOTS);
    j.slot_floats = (size_t)slot_floats(&a, y, qk);
    double work = (double)a.batch * (double)a.q_heads * (double)a.queries * (double)a.keys *
                  ((double)a.q.size + (double)a.v.size);
    ew_parallel(call, j.slots, work < 1e5 ? j.slots : 1, run_slots, &j);
    return EDGE_OK;
}

size_t ew_workspace_attention(const ew_call *call) {
    ew_attention a;
    if (ew_read_attention(call, &a) != EDGE_OK) return 0;
    return ew_real_bytes(slot_floats(&a, ew_out(call, 0), ew_out(call, 3)) * SLOTS, sizeof(float));
}
