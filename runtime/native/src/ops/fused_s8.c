/* What stands between products of 8 bits. */
#include "fused.h"

#include <math.h>

static const ew_add_detail *add_detail(const ew_call *call) { return call->node->detail; }

edge_status ew_infer_fused_add(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    return ew_shape(ew_out(call, 0), add_detail(call)->dtype, x->rank, x->dims);
}

typedef struct sum {
    const ew_add_detail *detail;
    const uint8_t *a, *b;
    uint8_t *y;
} sum;

static void add_part(void *context, int64_t begin, int64_t end) {
    const sum *s = context;
    ((edge_add_s8_run *)s->detail->kernel->run)(&s->detail->job, s->a + begin, s->b + begin, s->y + begin,
                                                end - begin);
}

edge_status ew_run_fused_add(ew_call *call) {
    sum s = {add_detail(call), ew_in(call, 0)->data, ew_in(call, 1)->data, ew_out(call, 0)->data};
    ew_parallel(call, ew_count(ew_in(call, 0)), 32768, add_part, &s);
    return EDGE_OK;
}

static const ew_mean_detail *mean_detail(const ew_call *call) { return call->node->detail; }

/* [N, pixels, C] to [N, C], or [N, 1, .., C]. */
edge_status ew_infer_fused_mean(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    bool keep = mean_detail(call)->keep;
    int64_t dims[EDGE_MAX_RANK];
    int rank = keep ? x->rank : 2;
    for (int i = 1; i < rank - 1; i++) dims[i] = 1;
    dims[0] = x->dims[0];
    dims[rank - 1] = x->dims[x->rank - 1];
    return ew_shape(ew_out(call, 0), mean_detail(call)->dtype, rank, dims);
}

typedef struct mean {
    const ew_mean_detail *detail;
    const uint8_t *x;
    uint8_t *y;
    int64_t pixels, channels;
} mean;

enum { STRIP = 64 };

static void mean_strip(const mean *m, const uint8_t *x, int64_t count, uint8_t *y) {
    const edge_grid *from = &m->detail->x, *to = &m->detail->y;
    int64_t sums[STRIP] = {0};
    int turn = from->is_signed ? 128 : 0;
    for (int64_t p = 0; p < m->pixels; p++, x += m->channels)
        for (int64_t c = 0; c < count; c++) sums[c] += x[c] ^ turn;
    float low = to->is_signed ? -128 : 0, high = low + 255, factor = from->scale / to->scale;
    int64_t offset = m->pixels * (from->zero + turn);
    for (int64_t c = 0; c < count; c++) {
        float v = nearbyintf((float)(sums[c] - offset) / (float)m->pixels * factor) + (float)to->zero;
        y[c] = (uint8_t)(int32_t)(v > low ? v < high ? v : high : low);
    }
}

static void mean_image(void *context, int64_t begin, int64_t end) {
    const mean *m = context;
    for (int64_t n = begin; n < end; n++)
        for (int64_t c = 0; c < m->channels; c += STRIP)
            mean_strip(m, m->x + n * m->pixels * m->channels + c, m->channels - c < STRIP ? m->channels - c : STRIP,
                       m->y + n * m->channels + c);
}

edge_status ew_run_fused_mean(ew_call *call) {
    const ew_tensor *x = ew_in(call, 0);
    mean m = {mean_detail(call), x->data, ew_out(call, 0)->data, ew_span(x, 1, x->rank - 1), x->dims[x->rank - 1]};
    ew_parallel(call, x->dims[0], 1, mean_image, &m);
    return EDGE_OK;
}
