#include "linear.h"

#include <math.h>

edge_status ew_infer_global_pool(ew_call *call) {
    EW_TRY(ew_require(call, 1));
    const ew_tensor *x = ew_in(call, 0);
    int64_t dims[EDGE_MAX_RANK] = {0};
    if (x->rank < 2) return ew_fail(EDGE_SHAPE_MISMATCH, "input 0 has rank %d, at least 2 is needed", x->rank);
    for (int i = 0; i < x->rank; i++) dims[i] = i < 2 ? x->dims[i] : 1;
    return ew_shape(ew_out(call, 0), x->dtype, x->rank, dims);
}

edge_status ew_infer_global_lp_pool(ew_call *call) {
    int64_t power = ew_attr_int(call->node, "p", 2);
    if (power < 1 || power > INT32_MAX)
        return ew_fail(EDGE_INVALID_MODEL, "attribute p is %lld, it must be at least 1", (long long)power);
    return ew_infer_global_pool(call);
}

typedef struct planes {
    const ew_tensor *x;
    ew_tensor *y;
    int64_t count, power;
    double (*reduce)(const struct planes *p, int64_t begin);
} planes;

/* Sums in eight parts, so that the additions of one do not wait for those of another. */
static double sum_f32(const float *x, int64_t count) {
    double parts[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int k = 0; k < 8; k++) parts[k] += (double)x[i + k];
    for (; i < count; i++) parts[0] += (double)x[i];
    return ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]));
}

static double average(const planes *p, int64_t begin) {
    double sum = 0;
    if (p->x->dtype == EDGE_F32)
        sum = sum_f32((const float *)p->x->data + begin, p->count);
    else
        for (int64_t i = 0; i < p->count; i++) sum += ew_get(p->x, begin + i);
    return sum / (double)p->count;
}

static double largest(const planes *p, int64_t begin) {
    double best = -INFINITY;
    for (int64_t i = 0; i < p->count; i++) {
        double value = ew_get(p->x, begin + i);
        if (value > best || value != value) best = value;
    }
    return best;
}

static double norm(const planes *p, int64_t begin) {
    double sum = 0;
    for (int64_t i = 0; i < p->count; i++) {
        double value = fabs(ew_get(p->x, begin + i));
        sum += p->power == 1 ? value : p->power == 2 ? value * value : pow(value, (double)p->power);
    }
    return p->power == 1 ? sum : p->power == 2 ? sqrt(sum) : pow(sum, 1 / (double)p->power);
}

static void run_planes(void *context, int64_t begin, int64_t end) {
    const planes *p = context;
    for (int64_t i = begin; i < end; i++) {
        double value = p->reduce(p, i * p->count);
        if (p->y->dtype == EDGE_F32)
            ((float *)p->y->data)[i] = (float)value;
        else if (p->y->dtype == EDGE_F64)
            ((double *)p->y->data)[i] = value;
        else
            ((uint16_t *)p->y->data)[i] = ew_f32_to_f16((float)value);
    }
}

static edge_status run(ew_call *call, double (*reduce)(const planes *, int64_t)) {
    const ew_tensor *x = ew_in(call, 0);
    planes p = {.x = x,
                .y = ew_out(call, 0),
                .count = ew_span(x, 2, x->rank),
                .power = ew_attr_int(call->node, "p", 2),
                .reduce = reduce};
    ew_parallel(call, x->dims[0] * x->dims[1], 1 + 65536 / (p.count > 0 ? p.count : 1), run_planes, &p);
    return EDGE_OK;
}

edge_status ew_run_global_average_pool(ew_call *call) { return run(call, average); }

edge_status ew_run_global_max_pool(ew_call *call) { return run(call, largest); }

edge_status ew_run_global_lp_pool(ew_call *call) { return run(call, norm); }
