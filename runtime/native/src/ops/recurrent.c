#include "recurrent.h"

#include "dot.h"
#include "real.h"

/* Rows of the input that are multiplied with the weights at once, rounded up to a whole step. */
enum { ROWS = 32 };

/* ---- shapes ---- */

static edge_status read_direction(const ew_call *call, ew_recurrent *r) {
    static const char *const names[] = {"forward", "reverse", "bidirectional", NULL};
    int direction;
    EW_TRY(ew_seq_choice(call, "direction", "forward", names, &direction));
    r->reverse = direction == 1;
    r->directions = direction == 2 ? 2 : 1;
    int64_t layout;
    EW_TRY(ew_seq_integer(call, "layout", 0, 0, 1, &layout));
    r->batch_first = layout == 1;
    return EDGE_OK;
}

static edge_status read_sizes(const ew_call *call, ew_recurrent *r) {
    const ew_tensor *x = r->x = ew_in(call, 0), *w = r->w = ew_in(call, 1);
    r->recurrence = ew_in(call, 2);
    if (x->rank != 3 || r->recurrence->rank != 3) {
        return ew_fail(EDGE_INVALID_MODEL, "X and R have ranks %d and %d, expected 3", (int)x->rank,
                       (int)r->recurrence->rank);
    }
    r->steps = x->dims[r->batch_first ? 1 : 0];
    r->batch = x->dims[r->batch_first ? 0 : 1];
    r->inputs = x->dims[2];
    r->hidden = r->recurrence->dims[2];
    int64_t given = ew_attr_int(call->node, "hidden_size", r->hidden), limit = (int64_t)1 << 30;
    if (given != r->hidden) {
        return ew_fail(EDGE_INVALID_MODEL, "hidden_size is %lld, but the last dimension of R is %lld",
                       (long long)given, (long long)r->hidden);
    }
    if (r->hidden > limit || r->batch > limit || r->inputs > limit || r->steps > limit) {
        return ew_fail(EDGE_INVALID_MODEL, "X or R has a dimension beyond %lld", (long long)limit);
    }
    int64_t rows = r->cell->gates * r->hidden;
    EW_TRY(ew_seq_expect(w, "W", x->dtype, 3, (int64_t[]){r->directions, rows, r->inputs}));
    return ew_seq_expect(r->recurrence, "R", x->dtype, 3, (int64_t[]){r->directions, rows, r->hidden});
}

static edge_status read_optional(const ew_call *call, ew_recurrent *r) {
    edge_dtype dtype = r->x->dtype;
    int64_t state[3] = {r->batch_first ? r->batch : r->directions, r->batch_first ? r->directions : r->batch,
                        r->hidden};
    r->bias = ew_in(call, 3);
    r->lengths = ew_in(call, 4);
    r->initial_h = ew_in(call, 5);
    EW_TRY(ew_seq_expect(r->bias, "B", dtype, 2, (int64_t[]){r->directions, 2 * r->cell->gates * r->hidden}));
    EW_TRY(ew_seq_expect(r->lengths, "sequence_lens", EDGE_S32, 1, &r->batch));
    EW_TRY(ew_seq_expect(r->initial_h, "initial_h", dtype, 3, state));
    if (r->cell->has_c) {
        r->initial_c = ew_in(call, 6);
        EW_TRY(ew_seq_expect(r->initial_c, "initial_c", dtype, 3, state));
    }
    if (r->cell->has_peephole) {
        r->peephole = ew_in(call, 7);
        EW_TRY(ew_seq_expect(r->peephole, "P", dtype, 2, (int64_t[]){r->directions, 3 * r->hidden}));
    }
    return EDGE_OK;
}

static edge_status read_recurrent(const ew_call *call, const ew_cell *cell, ew_recurrent *r) {
    int64_t value;
    *r = (ew_recurrent){.cell = cell};
    EW_TRY(ew_seq_need(call, 3));
    EW_TRY(read_direction(call, r));
    EW_TRY(read_sizes(call, r));
    EW_TRY(read_optional(call, r));
    EW_TRY(ew_seq_integer(call, "linear_before_reset", 0, INT64_MIN, INT64_MAX, &value));
    r->apart = cell->has_spare && value != 0;
    EW_TRY(ew_seq_integer(call, "input_forget", 0, 0, 1, &value));
    r->coupled = value != 0;
    return ew_read_activations(call, cell->defaults, cell->activations, r->directions, r->activations);
}

edge_status ew_recurrent_infer(ew_call *call, const ew_cell *cell) {
    ew_recurrent r;
    EW_TRY(read_recurrent(call, cell, &r));
    edge_dtype dtype = r.x->dtype;
    ew_tensor *y = ew_out(call, 0), *h = ew_out(call, 1), *c = cell->has_c ? ew_out(call, 2) : NULL;
    int64_t directions = r.directions;
    int64_t y_dims[2][4] = {{r.steps, directions, r.batch, r.hidden}, {r.batch, r.steps, directions, r.hidden}};
    int64_t state[2][3] = {{directions, r.batch, r.hidden}, {r.batch, directions, r.hidden}};
    if (y) EW_TRY(ew_shape(y, dtype, 4, y_dims[r.batch_first]));
    if (h) EW_TRY(ew_shape(h, dtype, 3, state[r.batch_first]));
    if (c) EW_TRY(ew_shape(c, dtype, 3, state[r.batch_first]));
    return EDGE_OK;
}

/* ---- memory ---- */

typedef struct buffers {
    float *w, *recurrence, *bias, *apart, *peephole, *x, *gates, *h, *c, *spare;
    bool *active;
} buffers;

typedef struct cursor {
    float *base; /* NULL: only count */
    double used;
} cursor;

static float *take(cursor *c, double count) {
    float *at = c->base ? c->base + (size_t)c->used : NULL;
    c->used += count;
    return at;
}

static double rows_at_once(const ew_recurrent *r) {
    double all = (double)r->steps * (double)r->batch, some = r->batch > ROWS ? (double)r->batch : ROWS;
    return all < some ? all : some;
}

static buffers lay_out(const ew_recurrent *r, cursor *c) {
    double hidden = (double)r->hidden, gates = r->cell->gates * hidden, rows = rows_at_once(r);
    double state = (double)r->batch * hidden;
    bool half = r->x->dtype == EDGE_F16;
    buffers b = {0};
    b.w = take(c, half ? gates * (double)r->inputs : 0);
    b.recurrence = take(c, half ? gates * hidden : 0);
    b.bias = take(c, gates);
    b.apart = take(c, hidden);
    b.peephole = take(c, half ? 3 * hidden : 0);
    b.x = take(c, rows * (double)r->inputs);
    b.gates = take(c, rows * gates);
    b.h = take(c, state);
    b.c = take(c, r->cell->has_c ? state : 0);
    b.spare = take(c, r->cell->has_spare ? state : 0);
    b.active = (bool *)take(c, (double)(r->batch / 4 + 1));
    return b;
}

size_t ew_recurrent_workspace(const ew_call *call, const ew_cell *cell) {
    ew_recurrent r;
    cursor c = {0};
    if (read_recurrent(call, cell, &r) != EDGE_OK) return 0;
    lay_out(&r, &c);
    return ew_real_bytes(c.used, sizeof(float));
}

/* ---- products ---- */

typedef struct product {
    const float *from, *matrix;
    float *to;
    int64_t from_rows, count, size, to_row;
} product;

/* Blocks of rows of the matrix outside, so that one stays in cache while all vectors pass. */
static void run_product(void *context, int64_t begin, int64_t end) {
    enum { BLOCK = 16 };
    const product *p = context;
    for (int64_t row = begin; row < end; row += BLOCK) {
        int64_t count = end - row < BLOCK ? end - row : BLOCK;
        for (int64_t i = 0; i < p->from_rows; i++) {
            ew_dot_rows(p->from + i * p->size, p->matrix + row * p->size, p->size, count, p->size,
                        p->to + i * p->to_row + row);
        }
    }
}

void ew_recurrent_product(const ew_call *call, const float *from, int64_t from_rows, const float *matrix, int64_t count,
                          int64_t size, float *to, int64_t to_row) {
    product p = {from, matrix, to, from_rows, count, size, to_row};
    double row_work = (double)from_rows * (double)size + 1;
    int64_t grain = row_work > 65536 ? 4 : (int64_t)(262144 / row_work) + 4;
    ew_parallel(call, count, grain, run_product, &p);
}

/* ---- steps ---- */

typedef struct walk {
    const ew_call *call;
    const ew_recurrent *r;
    buffers b;
    ew_direction d;
    int number; /* of the direction */
    bool backward;
    const float *w;
} walk;

static int64_t length_of(const ew_recurrent *r, int64_t sequence) {
    return r->lengths ? ((const int32_t *)r->lengths->data)[sequence] : r->steps;
}

/* Where step s of a sequence is in time; only valid below its length. */
static int64_t time_of(const walk *w, int64_t step, int64_t sequence) {
    return w->backward ? length_of(w->r, sequence) - 1 - step : step;
}

static void load_step(const walk *w, int64_t step, float *x, float *gates) {
    const ew_recurrent *r = w->r;
    int64_t gate_row = r->cell->gates * r->hidden;
    for (int64_t i = 0; i < r->batch; i++) {
        float *to = x + i * r->inputs;
        memcpy(gates + i * gate_row, w->b.bias, (size_t)gate_row * sizeof(float));
        if (step >= length_of(r, i)) {
            memset(to, 0, (size_t)r->inputs * sizeof(float));
            continue;
        }
        int64_t time = time_of(w, step, i), row = r->batch_first ? i * r->steps + time : time * r->batch + i;
        const float *from = ew_real_read(r->x->data, r->x->dtype, row * r->inputs, r->inputs, to);
        if (from != to) memcpy(to, from, (size_t)r->inputs * sizeof(float));
    }
}

static void store_step(const walk *w, int64_t step) {
    const ew_recurrent *r = w->r;
    const ew_tensor *y = ew_out(w->call, 0);
    for (int64_t i = 0; y && i < r->batch; i++) {
        if (!w->b.active[i]) continue;
        int64_t time = time_of(w, step, i);
        int64_t row = r->batch_first ? (i * r->steps + time) * r->directions + w->number
                                     : (time * r->directions + w->number) * r->batch + i;
        ew_real_write(y->data, y->dtype, row * r->hidden, r->hidden, w->b.h + i * r->hidden);
    }
}

static void run_steps(walk *w) {
    const ew_recurrent *r = w->r;
    int64_t gate_row = r->cell->gates * r->hidden, at_once = ROWS / r->batch > 1 ? ROWS / r->batch : 1;
    for (int64_t first = 0; first < r->steps; first += at_once) {
        int64_t count = r->steps - first < at_once ? r->steps - first : at_once;
        for (int64_t s = 0; s < count; s++) {
            load_step(w, first + s, w->b.x + s * r->batch * r->inputs, w->b.gates + s * r->batch * gate_row);
        }
        ew_recurrent_product(w->call, w->b.x, count * r->batch, w->w, gate_row, r->inputs, w->b.gates, gate_row);
        for (int64_t s = 0; s < count; s++) {
            for (int64_t i = 0; i < r->batch; i++) w->b.active[i] = first + s < length_of(r, i);
            r->cell->step(&w->d, w->b.gates + s * r->batch * gate_row, w->b.active);
            store_step(w, first + s);
        }
    }
}

/* Rows of initial_h, Y_h and the like for one direction. */
static int64_t state_row(const walk *w, int64_t sequence) {
    const ew_recurrent *r = w->r;
    return (r->batch_first ? sequence * r->directions + w->number : w->number * r->batch + sequence) * r->hidden;
}

static void load_state(const walk *w, const ew_tensor *initial, float *state) {
    int64_t size = w->r->hidden;
    for (int64_t i = 0; i < w->r->batch; i++) {
        float *to = state + i * size;
        memset(to, 0, (size_t)size * sizeof(float));
        if (!initial) continue;
        const float *from = ew_real_read(initial->data, initial->dtype, state_row(w, i), size, to);
        if (from != to) memcpy(to, from, (size_t)size * sizeof(float));
    }
}

static void store_state(const walk *w, const float *state, const ew_tensor *out) {
    int64_t size = w->r->hidden;
    for (int64_t i = 0; out && i < w->r->batch; i++) {
        ew_real_write(out->data, out->dtype, state_row(w, i), size, state + i * size);
    }
}

/* Sums the biases of input and recurrence, but for the last gate where the cell wants that apart. */
static void load_bias(const walk *w) {
    const ew_recurrent *r = w->r;
    int64_t gate_row = r->cell->gates * r->hidden, from = w->number * 2 * gate_row;
    for (int64_t i = 0; i < gate_row; i++) {
        float input = 0, recurrence = 0;
        if (r->bias) {
            input = (float)ew_real_get(r->bias->data, r->bias->dtype, from + i);
            recurrence = (float)ew_real_get(r->bias->data, r->bias->dtype, from + gate_row + i);
        }
        bool apart = r->apart && i >= gate_row - r->hidden;
        w->b.bias[i] = apart ? input : input + recurrence;
        if (apart) w->b.apart[i - (gate_row - r->hidden)] = recurrence;
    }
}

static void load_weights(walk *w) {
    const ew_recurrent *r = w->r;
    edge_dtype dtype = r->x->dtype;
    int64_t rows = r->cell->gates * r->hidden, inputs = rows * r->inputs, hidden = rows * r->hidden;
    w->w = ew_real_read(r->w->data, dtype, w->number * inputs, inputs, w->b.w);
    w->d.recurrence = ew_real_read(r->recurrence->data, dtype, w->number * hidden, hidden, w->b.recurrence);
    if (r->peephole) {
        w->d.peephole = ew_real_read(r->peephole->data, dtype, w->number * 3 * r->hidden, 3 * r->hidden, w->b.peephole);
    }
    load_bias(w);
    w->d.bias = w->b.apart;
}

static edge_status check_lengths(const ew_recurrent *r) {
    for (int64_t i = 0; r->lengths && i < r->batch; i++) {
        int64_t length = length_of(r, i);
        if (length >= 0 && length <= r->steps) continue;
        return ew_fail(EDGE_INVALID_ARGUMENT, "sequence_lens of sequence %lld is %lld, expected 0 to %lld",
                       (long long)i, (long long)length, (long long)r->steps);
    }
    return EDGE_OK;
}

edge_status ew_recurrent_run(ew_call *call, const ew_cell *cell) {
    ew_recurrent r;
    EW_TRY(read_recurrent(call, cell, &r));
    EW_TRY(check_lengths(&r));
    const ew_tensor *y = ew_out(call, 0);
    if (y && r.lengths && ew_bytes(y)) memset(y->data, 0, ew_bytes(y));
    if (!r.batch || !r.hidden) return EDGE_OK;
    cursor memory = {.base = call->workspace};
    walk w = {.call = call, .r = &r, .b = lay_out(&r, &memory)};
    for (; w.number < r.directions; w.number++) {
        w.backward = r.reverse || w.number == 1;
        w.d = (ew_direction){.r = &r, .call = call, .activations = r.activations[w.number], .h = w.b.h, .c = w.b.c,
                             .spare = w.b.spare};
        load_weights(&w);
        load_state(&w, r.initial_h, w.b.h);
        if (cell->has_c) load_state(&w, r.initial_c, w.b.c);
        run_steps(&w);
        store_state(&w, w.b.h, ew_out(call, 1));
        if (cell->has_c) store_state(&w, w.b.c, ew_out(call, 2));
    }
    return EDGE_OK;
}
