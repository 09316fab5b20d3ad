#include "real.h"
#include "sequence.h"

typedef struct job {
    const ew_tensor *theta;
    ew_tensor *y;
    bool align;
    int axes;
    int64_t size[3], points;
} job;

static edge_status read_job(const ew_call *call, job *j) {
    int64_t sizes[5], align;
    int count;
    *j = (job){0};
    EW_TRY(ew_seq_need(call, 2));
    EW_TRY(ew_seq_integer(call, "align_corners", 0, 0, 1, &align));
    EW_TRY(ew_ints(call, 1, sizes, 5, &count));
    if (count < 4) return ew_fail(EDGE_INVALID_MODEL, "size has %d numbers, expected 4 or 5", count);
    j->theta = ew_in(call, 0);
    j->y = ew_out(call, 0);
    j->align = align != 0;
    j->axes = count - 2;
    j->points = 1;
    for (int i = 0; i < j->axes; i++) {
        j->size[i] = sizes[2 + i];
        if (j->size[i] < 0 || j->size[i] > INT32_MAX || __builtin_mul_overflow(j->points, j->size[i], &j->points)) {
            return ew_fail(EDGE_INVALID_ARGUMENT, "size has %lld, expected a length", (long long)j->size[i]);
        }
    }
    return ew_seq_expect(j->theta, "theta", j->theta->dtype, 3, (int64_t[]){sizes[0], j->axes, j->axes + 1});
}

edge_status ew_infer_affine_grid(ew_call *call) {
    job j;
    EW_TRY(read_job(call, &j));
    if (!j.y) return EDGE_OK;
    int64_t dims[5] = {j.theta->dims[0], j.size[0], j.size[1], j.size[2]};
    dims[1 + j.axes] = j.axes;
    return ew_shape(j.y, j.theta->dtype, j.axes + 2, dims);
}

/* Positions from -1 to 1: centers of the outer pixels, or edges of them. */
static double position(const job *j, int64_t at, int64_t length) {
    if (!j->align) return (2 * (double)at + 1) / (double)length - 1;
    return length > 1 ? 2 * (double)at / (double)(length - 1) - 1 : 0;
}

static void run_points(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    int axes = j->axes;
    for (int64_t point = begin; point < end; point++) {
        int64_t rest = point % j->points, first = point / j->points * axes * (axes + 1);
        double at[4] = {0};
        for (int i = axes - 1; i >= 0; i--) {
            at[axes - 1 - i] = position(j, rest % j->size[i], j->size[i]);
            rest /= j->size[i];
        }
        at[axes] = 1;
        for (int row = 0; row < axes; row++) {
            double sum = 0;
            for (int i = 0; i <= axes; i++) {
                sum += ew_real_get(j->theta->data, j->theta->dtype, first + row * (axes + 1) + i) * at[i];
            }
            ew_real_put(j->y->data, j->y->dtype, point * axes + row, sum);
        }
    }
}

edge_status ew_run_affine_grid(ew_call *call) {
    job j;
    EW_TRY(read_job(call, &j));
    if (!j.y || !ew_count(j.y)) return EDGE_OK;
    ew_parallel(call, j.theta->dims[0] * j.points, 2048, run_points, &j);
    return EDGE_OK;
}
