#include "elementwise.h"
#include "session.h"

#include <stdalign.h>

#define GRAIN 32 /* blocks that are worth a thread */

static void drop_ones(ew_view *view, const ew_tensor *t, const ew_tensor *like) {
    int lead = like->rank - t->rank;
    int64_t step = 1, steps[EDGE_MAX_RANK];
    for (int i = like->rank - 1; i >= 0; i--) {
        int64_t dim = i < lead ? 1 : t->dims[i - lead];
        steps[i] = dim == 1 ? 0 : step;
        step *= dim;
    }
    for (int i = 0; i < like->rank; i++) {
        if (like->dims[i] == 1) continue;
        view->dims[view->rank] = like->dims[i];
        view->steps[view->rank++] = steps[i];
    }
}

/* Neighbouring dims that the operand walks with one step become one. */
static void collapse(ew_view *view) {
    int rank = 0;
    for (int i = 0; i < view->rank; i++) {
        bool joins = rank && view->steps[rank - 1] == view->steps[i] * view->dims[i];
        if (joins) {
            view->dims[rank - 1] *= view->dims[i];
            view->steps[rank - 1] = view->steps[i];
        } else {
            view->dims[rank] = view->dims[i];
            view->steps[rank++] = view->steps[i];
        }
    }
    view->rank = rank == 1 && !view->steps[0] ? 0 : rank;
}

void ew_view_of(ew_view *view, const ew_tensor *t, const ew_tensor *like) {
    ew_view_constant(view, t->dtype, t->data);
    if (ew_count(like) == 0 || ew_count(t) == 1) return;
    drop_ones(view, t, like);
    collapse(view);
}

void ew_view_constant(ew_view *view, edge_dtype dtype, const void *data) {
    view->data = data;
    view->dtype = dtype;
    view->bytes = (int)ew_dtype_bytes(dtype);
    view->rank = 0;
    view->blocked_dim = -1;
    view->block = 1;
}

typedef struct feed {
    alignas(64) char raw[EW_BLOCK * 8];
    alignas(64) char work[EW_BLOCK * 8];
    const ew_view *view;
    ew_convert convert;
    bool filled; /* of a constant: work holds it */
} feed;

static void feed_init(feed *f, const ew_view *view, edge_dtype work) {
    f->view = view;
    f->convert = work ? ew_to_work(view->dtype, work) : NULL;
    f->filled = false;
}

/* n elements from the first one (step 0) or from its neighbours (step 1). */
#define FILL(T)                                                         \
    do {                                                                \
        T first;                                                        \
        memcpy(&first, from, sizeof first);                             \
        int i = 0;                                                      \
        for (; i + EW_LANES <= n; i += EW_LANES)                        \
            EW_EACH_LANE memcpy((T *)to + i + j, &first, sizeof first); \
        for (; i < n; i++) memcpy((T *)to + i, &first, sizeof first);   \
    } while (0)

static void copy_run(void *to, const void *from, int bytes, int step, int n) {
    if (step == 1) {
        memcpy(to, from, (size_t)(n * bytes));
    } else if (bytes == 1) {
        memset(to, *(const uint8_t *)from, (size_t)n);
    } else if (bytes == 2) {
        FILL(uint16_t);
    } else if (bytes == 4) {
        FILL(uint32_t);
    } else {
        FILL(uint64_t);
    }
}

typedef struct place {
    int64_t at[EDGE_MAX_RANK];
} place;

static void seek(const ew_view *view, int64_t index, place *p) {
    for (int i = view->rank - 1; i > 0; i--) {
        p->at[i] = index % view->dims[i];
        index /= view->dims[i];
    }
    p->at[0] = index;
}

static const char *element(const ew_view *view, const place *p) {
    int64_t offset = 0;
    for (int i = 0; i < view->rank; i++) {
        int64_t at = i == view->blocked_dim ? p->at[i] / view->block : p->at[i];
        offset += at * view->steps[i];
    }
    return view->data + offset * view->bytes;
}

/* To the beginning of the next run of the last dim. */
static void next_run(const ew_view *view, place *p) {
    int i = view->rank - 1;
    p->at[i] = 0;
    while (i-- > 0 && ++p->at[i] == view->dims[i] && i > 0) p->at[i] = 0;
}

static int length_of_run(const ew_view *view, const place *p, int n) {
    int last = view->rank - 1;
    int64_t length = view->dims[last] - p->at[last];
    if (view->blocked_dim == last && length > view->block - p->at[last] % view->block)
        length = view->block - p->at[last] % view->block;
    return length < n ? (int)length : n;
}

/* n elements into raw, run by run of the last dim. */
static void gather(feed *f, place *p, int n) {
    const ew_view *view = f->view;
    int last = view->rank - 1, step = view->blocked_dim != last && view->steps[last] == 1;
    char *to = f->raw;
    while (n > 0) {
        int run = length_of_run(view, p, n);
        copy_run(to, element(view, p), view->bytes, step, run);
        to += run * view->bytes;
        n -= run;
        p->at[last] += run;
        if (p->at[last] == view->dims[last]) next_run(view, p);
    }
}

static const void *fetch_constant(feed *f, int padded) {
    if (!f->filled) {
        copy_run(f->raw, f->view->data, f->view->bytes, 0, padded);
        if (f->convert) f->convert(f->raw, f->work, padded);
        f->filled = true;
    }
    return f->convert ? f->work : f->raw;
}

/* Elements [start, start + n) of the operand, then what is harmless up to padded. */
static const void *fetch(feed *f, int64_t start, int n, int padded) {
    const ew_view *view = f->view;
    if (view->rank == 0) return fetch_constant(f, padded);
    place p;
    seek(view, start, &p);
    int last = view->rank - 1;
    const void *raw = f->raw;
    if (n == padded && view->blocked_dim != last && view->steps[last] == 1 && p.at[last] + n <= view->dims[last]) {
        raw = element(view, &p);
    } else {
        gather(f, &p, n);
        memset(f->raw + n * view->bytes, 0, (size_t)((padded - n) * view->bytes));
    }
    if (!f->convert) return raw;
    f->convert(raw, f->work, padded);
    return f->work;
}

typedef struct sink {
    alignas(64) char result[EW_BLOCK * 8];
    alignas(64) char stored[EW_BLOCK * 8];
    ew_convert convert;
} sink;

static void run_fold(const ew_walk *walk, feed *f, int64_t start, int n, int padded, void *result) {
    feed_init(f, &walk->views[0], walk->work);
    const void *in[2] = {fetch(f, start, n, padded), NULL};
    memcpy(result, in[0], (size_t)padded * ew_dtype_bytes(walk->work));
    in[0] = result;
    for (int k = 1; k < walk->count; k++) {
        feed_init(f, &walk->views[k], walk->work);
        in[1] = fetch(f, start, n, padded);
        walk->kernel(in, result, padded, walk->params);
    }
    if (walk->last) walk->last(in, result, padded, walk->params);
}

/* The work elements of a block, in target or where the operand lies. */
static const void *compute(const ew_walk *walk, feed *feeds, int64_t start, int n, int padded, void *target) {
    if (walk->fold) {
        run_fold(walk, feeds, start, n, padded, target);
        return target;
    }
    const void *in[EW_MAX_OPERANDS];
    for (int k = 0; k < walk->count; k++) in[k] = fetch(&feeds[k], start, n, padded);
    if (!walk->kernel) return in[0];
    walk->kernel(in, target, padded, walk->params);
    return target;
}

static void run_block(const ew_walk *walk, feed *feeds, sink *s, int64_t start, int n) {
    int padded = (n + EW_LANES - 1) / EW_LANES * EW_LANES;
    size_t bytes = ew_dtype_bytes(walk->out->dtype);
    char *out = (char *)walk->out->data + start * (int64_t)bytes;
    char *stored = n == padded ? out : s->stored;
    /* A fold reads inputs after it began to write its result, and the output may be one of them. */
    const void *result = compute(walk, feeds, start, n, padded, s->convert || walk->fold ? s->result : stored);
    if (s->convert) {
        s->convert(result, stored, padded);
        result = stored;
    }
    if (result != out) memmove(out, result, (size_t)n * bytes);
}

static void run_range(void *context, int64_t begin, int64_t end) {
    const ew_walk *walk = context;
    feed feeds[EW_MAX_OPERANDS];
    sink s;
    s.convert = walk->result ? ew_from_work(walk->result, walk->out->dtype) : NULL;
    if (!walk->fold) {
        for (int k = 0; k < walk->count; k++) feed_init(&feeds[k], &walk->views[k], walk->work);
    }
    int64_t total = ew_count(walk->out);
    for (int64_t block = begin; block < end; block++) {
        int64_t start = block * EW_BLOCK, left = total - start;
        run_block(walk, feeds, &s, start, left < EW_BLOCK ? (int)left : EW_BLOCK);
    }
}

void ew_walk_run(const ew_walk *walk) {
    int64_t blocks = ew_count(walk->out) / EW_BLOCK + (ew_count(walk->out) % EW_BLOCK != 0);
    if (blocks) ew_parallel(walk->call, blocks, GRAIN, run_range, (void *)walk);
}

edge_dtype ew_work_of(const ew_kernels *kernels, edge_dtype stored) {
    edge_dtype work = ew_work_dtype(stored);
    return work == EDGE_F32 && !kernels->f32 ? EDGE_F64 : work;
}

ew_kernel ew_pick_kernel(const ew_kernels *kernels, edge_dtype work) {
    if (work == EDGE_F32) return kernels->f32;
    if (work == EDGE_F64) return kernels->f64;
    return work == EDGE_U64 && kernels->u64 ? kernels->u64 : kernels->s64;
}

/* result 0: as the output is stored; swapped: the last operand first. */
static edge_status run(ew_call *call, int count, bool swapped, edge_dtype work, edge_dtype result, ew_kernel kernel,
                       const ew_params *params) {
    ew_tensor *out = ew_out(call, 0);
    if (!out) return EDGE_OK;
    ew_view views[EW_MAX_OPERANDS];
    for (int k = 0; k < count; k++) ew_view_of(&views[swapped ? count - 1 - k : k], ew_in(call, k), out);
    ew_walk_run(&(ew_walk){.call = call, .views = views, .count = count, .work = work, .result = result,
                           .kernel = kernel, .params = params, .out = out});
    return EDGE_OK;
}

edge_status ew_run_kernels(ew_call *call, int count, const ew_kernels *kernels, const ew_params *params) {
    edge_dtype work = ew_work_of(kernels, ew_in(call, 0)->dtype);
    return run(call, count, false, work, work, ew_pick_kernel(kernels, work), params);
}

static void each_f32(const void *const *in, void *out, int n, const ew_params *params) {
    const float *x = in[0];
    float *y = out;
    for (int i = 0; i < n; i++) y[i] = params->formula->f32(x[i], (float)params->alpha, (float)params->beta);
}

static void each_f64(const void *const *in, void *out, int n, const ew_params *params) {
    const double *x = in[0];
    double *y = out;
    for (int i = 0; i < n; i++) y[i] = params->formula->f64(x[i], params->alpha, params->beta);
}

static void by_map(const void *const *in, void *out, int n, const ew_params *params) { params->map(in[0], out, n); }

edge_status ew_run_formula(ew_call *call, const ew_formula *formula, ew_kernel f32, const ew_params *params) {
    static const ew_params none = {0};
    ew_params all = params ? *params : none;
    all.formula = formula;
    if (!f32 && formula->f32) f32 = each_f32;
    edge_dtype work = f32 ? ew_work_dtype(ew_in(call, 0)->dtype) : EDGE_F64;
    return run(call, 1, false, work, work, work == EDGE_F64 ? each_f64 : f32, &all);
}

edge_status ew_run_map(ew_call *call, const ew_formula *formula, edge_kernel_op op) {
    edge_any_kernel *map = edge_kernel_find(op, EDGE_KERNEL_F32, EDGE_DENSE, call->session->isa)->run;
    return ew_run_formula(call, formula, by_map, &(ew_params){.map = (edge_map_f32 *)map});
}

edge_status ew_run_truth(ew_call *call, int count, const ew_kernels *kernels, bool swapped, const ew_params *params) {
    edge_dtype work = ew_work_of(kernels, ew_in(call, 0)->dtype);
    return run(call, count, swapped, work, 0, ew_pick_kernel(kernels, work), params);
}

edge_status ew_run_stored(ew_call *call, int count, ew_kernel kernel) {
    return run(call, count, false, 0, 0, kernel, NULL);
}

edge_status ew_expect(const ew_call *call, int least, int most, int outputs) {
    const char *op = call->node->op_type;
    if (call->in_count > most)
        return ew_fail(EDGE_INVALID_MODEL, "%s has %d inputs, it takes at most %d", op, call->in_count, most);
    for (int i = 0; i < least; i++) {
        if (!ew_in(call, i)) return ew_fail(EDGE_INVALID_MODEL, "%s has no input %d, it needs %d", op, i, least);
    }
    if (call->out_count > outputs)
        return ew_fail(EDGE_INVALID_MODEL, "%s has %d outputs, it gives at most %d", op, call->out_count, outputs);
    return EDGE_OK;
}

edge_status ew_expect_one_dtype(const ew_call *call, int first, int count) {
    const ew_tensor *like = ew_in(call, first);
    for (int i = first + 1; i < count; i++) {
        const ew_tensor *t = ew_in(call, i);
        if (t && t->dtype != like->dtype)
            return ew_fail(EDGE_INVALID_MODEL, "inputs %d and %d of %s have dtypes %s and %s, they must be the same",
                           first, i, call->node->op_type, ew_dtype_name(like->dtype), ew_dtype_name(t->dtype));
    }
    return EDGE_OK;
}

edge_status ew_infer_broadcast(ew_call *call, edge_dtype dtype, int count) {
    ew_tensor *out = ew_out(call, 0);
    if (!out) return EDGE_OK;
    out->dtype = dtype;
    return ew_broadcast(out, call->in, count);
}

edge_status ew_dtype_of(const ew_call *call, int64_t number, edge_dtype *dtype) {
    if (number < EDGE_F32 || number > EDGE_U64 || !ew_dtype_bytes((edge_dtype)number))
        return ew_fail(EDGE_UNSUPPORTED, "%s to dtype %lld of ONNX is not supported", call->node->op_type,
                       (long long)number);
    *dtype = (edge_dtype)number;
    return EDGE_OK;
}
