#include <math.h>

#include "reduction.h"

#define EW_OP(d, n, f, l, t, g, i, r, w) \
    edge_status i(ew_call *);            \
    edge_status r(ew_call *);            \
    size_t w(const ew_call *);
#include "reduction.inc"
#undef EW_OP

typedef struct job {
    const ew_tensor *x, *scale, *shift, *mean, *variance;
    ew_tensor *y, *running_mean, *running_variance; /* the last two may be NULL */
    int64_t images, channels, area;
    double epsilon, momentum;
} job;

/* Before version 9 every element of an image could be a channel. */
static bool is_spatial(const ew_call *call) {
    return call->node->opset >= 9 || ew_attr_int(call->node, "spatial", 1) != 0;
}

static bool is_training(const ew_call *call) {
    return call->node->opset >= 14 && ew_attr_int(call->node, "training_mode", 0) != 0;
}

static int64_t channels_of(const ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    if (!is_spatial(call)) return ew_span(x, 1, x->rank);
    return x->rank > 1 ? x->dims[1] : 1;
}

static edge_status check_parameters(const ew_call *call) {
    int64_t channels = channels_of(call);
    for (int i = 1; i < 5; i++) {
        const ew_tensor *t = ew_in(call, i);
        edge_dtype same = i == 2 || i == 4 ? ew_in(call, i - 1)->dtype : 0;
        if (is_spatial(call)) {
            EW_TRY(ew_needs_vector(call, i, channels, same));
        } else if (ew_count(t) != channels || t->dtype != ew_in(call, 0)->dtype) {
            return ew_fail(EDGE_INVALID_MODEL, "input %d must have the dtype and the %lld elements of an image", i,
                           (long long)channels);
        }
    }
    return EDGE_OK;
}

edge_status ew_infer_batch_norm(ew_call *call) {
    EW_TRY(ew_needs(call, 5, 5));
    const ew_tensor *x = ew_in(call, 0);
    if (x->rank < 1) return ew_fail(EDGE_INVALID_MODEL, "input 0 is a scalar, at least 1 axis is needed");
    EW_TRY(check_parameters(call));
    for (int i = 1; i < call->out_count; i++) {
        if (!ew_out(call, i)) continue;
        if (!is_training(call) || i > 2)
            return ew_fail(EDGE_UNSUPPORTED, "output %d is of training, which needs version 14 and training_mode", i);
        EW_TRY(ew_same(ew_out(call, i), ew_in(call, 2 + i)));
    }
    return ew_same(ew_out(call, 0), x);
}

static void normalize(const job *job, int64_t image, int64_t channel, double mean, double variance) {
    double scale = ew_get(job->scale, channel) / sqrt(variance + job->epsilon);
    int64_t first = (image * job->channels + channel) * job->area;
    ew_stretch_affine(job->y, job->x, first, job->area, mean, scale, ew_get(job->shift, channel));
}

static void normalize_planes(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    for (int64_t plane = begin; plane < end; plane++) {
        int64_t channel = plane % job->channels;
        normalize(job, plane / job->channels, channel, ew_get(job->mean, channel), ew_get(job->variance, channel));
    }
}

/* EW_LANES channels of one element each. */
static void normalize_lanes(const job *job, int64_t channel) {
    int64_t left = job->channels - channel;
    float mean[EW_LANES] = {0}, scale[EW_LANES] = {0}, shift[EW_LANES] = {0}, lane[EW_LANES];
    for (int64_t j = 0; j < left && j < EW_LANES; j++) {
        int64_t c = channel + j;
        mean[j] = (float)ew_get(job->mean, c);
        scale[j] = (float)(ew_get(job->scale, c) / sqrt(ew_get(job->variance, c) + job->epsilon));
        shift[j] = (float)ew_get(job->shift, c);
    }
    for (int64_t i = channel; i < job->images * job->channels; i += job->channels) {
        ew_take_lanes(lane, (const float *)job->x->data + i, left);
        for (int j = 0; j < EW_LANES; j++) lane[j] = (lane[j] - mean[j]) * scale[j] + shift[j];
        ew_give_lanes((float *)job->y->data + i, lane, left);
    }
}

static void normalize_lane_blocks(void *context, int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) normalize_lanes(context, block * EW_LANES);
}

static void put_running(const job *job, ew_tensor *to, const ew_tensor *from, int64_t channel, double current) {
    if (!to) return;
    double value = ew_get(from, channel) * job->momentum + current * (1 - job->momentum);
    ew_store_double(to->data, to->dtype, channel, value);
}

static void train_channels(void *context, int64_t begin, int64_t end) {
    const job *job = context;
    double n = (double)job->images * (double)job->area;
    for (int64_t c = begin; c < end; c++) {
        double sum = 0, deviation = 0;
        for (int64_t i = 0; i < job->images; i++)
            sum += ew_stretch_sum(job->x, (i * job->channels + c) * job->area, job->area);
        for (int64_t i = 0; i < job->images; i++)
            deviation += ew_stretch_deviation(job->x, (i * job->channels + c) * job->area, job->area, sum / n);
        put_running(job, job->running_mean, job->mean, c, sum / n);
        put_running(job, job->running_variance, job->variance, c, deviation / n);
        for (int64_t i = 0; i < job->images; i++) normalize(job, i, c, sum / n, deviation / n);
    }
}

edge_status ew_run_batch_norm(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    job job = {.x = x, .scale = ew_in(call, 1), .shift = ew_in(call, 2), .mean = ew_in(call, 3),
               .variance = ew_in(call, 4), .y = ew_out(call, 0), .running_mean = ew_out(call, 1),
               .running_variance = ew_out(call, 2), .images = x->dims[0], .channels = channels_of(call)};
    job.area = is_spatial(call) && x->rank > 2 ? ew_span(x, 2, x->rank) : 1;
    job.epsilon = ew_attr_float(call->node, "epsilon", 1e-5f);
    job.momentum = ew_attr_float(call->node, "momentum", 0.9f);
    int64_t blocks = job.channels / EW_LANES + (job.channels % EW_LANES != 0);
    if (is_training(call))
        ew_parallel(call, job.channels, ew_grain(3 * job.images * job.area), train_channels, &job);
    else if (ew_count(x) == 0)
        return EDGE_OK;
    else if (x->dtype == EDGE_F32 && job.area == 1)
        ew_parallel(call, blocks, ew_grain(EW_LANES * job.images), normalize_lane_blocks, &job);
    else
        ew_parallel(call, job.images * job.channels, ew_grain(job.area), normalize_planes, &job);
    return EDGE_OK;
}
