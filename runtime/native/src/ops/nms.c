/* NonMaxSuppression. */
#include "movement.h"

#include <math.h>

typedef struct box {
    float low[2], high[2];
} box;

static box read_box(const float *b, bool center) {
    box r;
    for (int i = 0; i < 2; i++) {
        const float first = center ? b[i] - b[2 + i] / 2 : b[i], second = center ? b[i] + b[2 + i] / 2 : b[2 + i];
        const bool flip = !center && second < first;
        r.low[i] = flip ? second : first;
        r.high[i] = flip ? first : second;
    }
    return r;
}

static float area(const float *low, const float *high) { return (high[0] - low[0]) * (high[1] - low[1]); }

static bool overlaps(const box *a, const box *b, float threshold) {
    float low[2], high[2];
    for (int i = 0; i < 2; i++) {
        low[i] = a->low[i] > b->low[i] ? a->low[i] : b->low[i];
        high[i] = a->high[i] < b->high[i] ? a->high[i] : b->high[i];
        if (!(high[i] > low[i])) return false;
    }
    const float common = area(low, high), first = area(a->low, a->high), second = area(b->low, b->high);
    const float either = first + second - common;
    return common > 0 && first > 0 && second > 0 && either > 0 && common / either > threshold;
}

static edge_status check_limits(const ew_call *call) {
    if (ew_in(call, 2)) {
        EW_TRY(ew_move_need_index(call, 2));
        EW_TRY(ew_move_need_one(call, 2));
    }
    for (int i = 3; i < 5; i++) {
        if (!ew_in(call, i)) continue;
        EW_TRY(ew_move_need_dtype(call, i, EDGE_F32));
        EW_TRY(ew_move_need_one(call, i));
    }
    return EDGE_OK;
}

/* Boxes of one class that are selected at most. */
static int64_t class_limit(const ew_call *call) {
    const ew_tensor *limit = ew_in(call, 2);
    const int64_t boxes = ew_in(call, 0)->dims[1];
    if (limit && !ew_known(call, limit)) return boxes;
    const int64_t most = limit ? ew_move_index(limit, 0) : 0;
    return most < 0 ? 0 : most < boxes ? most : boxes;
}

edge_status ew_infer_non_max_suppression(ew_call *call) {
    EW_TRY(ew_move_need(call, 2, 1));
    EW_TRY(ew_move_need_dtype(call, 0, EDGE_F32));
    EW_TRY(ew_move_need_dtype(call, 1, EDGE_F32));
    EW_TRY(check_limits(call));
    const ew_tensor *boxes = ew_in(call, 0), *scores = ew_in(call, 1);
    if (boxes->rank != 3 || scores->rank != 3 || boxes->dims[2] != 4 || boxes->dims[0] != scores->dims[0] ||
        boxes->dims[1] != scores->dims[2])
        return ew_fail(EDGE_SHAPE_MISMATCH, "boxes must be [batches, boxes, 4] and scores [batches, classes, boxes]");
    const int64_t lists = scores->dims[0] * scores->dims[1];
    int64_t dims[2] = {0, 3};
    if (__builtin_mul_overflow(lists, class_limit(call), &dims[0]))
        return ew_fail(EDGE_SHAPE_MISMATCH, "%lld batches and classes are too many", (long long)lists);
    return ew_shape(ew_out(call, 0), EDGE_S64, 2, dims);
}

/* Of one class: a heap of candidates, and the boxes that are selected. */
size_t ew_workspace_non_max_suppression(const ew_call *call) {
    return ew_move_workspace(ew_in(call, 0)->dims[1], sizeof(ew_ranked) + sizeof(box));
}

/* A heap whose first entry has the highest score, of equal ones the lowest index (negated).  NaN is no candidate. */
static int64_t make_candidates(const float *scores, int64_t count, const ew_tensor *threshold, ew_ranked *heap) {
    const float least = threshold ? *(const float *)threshold->data : 0;
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        const float score = scores[i];
        if (threshold ? score > least : !isnan(score)) heap[kept++] = (ew_ranked){ew_move_key_f32(score), -i};
    }
    ew_heap_make(heap, kept);
    return kept;
}

typedef struct suppression {
    bool center;
    float threshold;
    int64_t limit;
} suppression;

/* Writes the indices of the boxes that stay, three apart; returns how many they are. */
static int64_t select_boxes(const suppression *s, const float *boxes, ew_ranked *heap, int64_t count, box *selected,
                            int64_t *to) {
    int64_t found = 0;
    while (count > 0 && found < s->limit) {
        const int64_t index = -heap[0].index;
        heap[0] = heap[--count];
        ew_heap_sift(heap, count);
        const box candidate = read_box(boxes + 4 * index, s->center);
        int64_t i = 0;
        while (i < found && !overlaps(&candidate, &selected[i], s->threshold)) i++;
        if (i < found) continue;
        to[3 * found] = index;
        selected[found++] = candidate;
    }
    return found;
}

edge_status ew_run_non_max_suppression(ew_call *call) {
    const ew_tensor *boxes = ew_in(call, 0), *scores = ew_in(call, 1), *iou = ew_in(call, 3);
    ew_tensor *out = ew_out(call, 0);
    const int64_t classes = scores->dims[1], count = boxes->dims[1];
    const suppression s = {.center = ew_attr_int(call->node, "center_point_box", 0) != 0,
                           .threshold = iou ? *(const float *)iou->data : 0,
                           .limit = class_limit(call)};
    ew_ranked *heap = call->workspace;
    box *selected = (box *)(heap + count);
    int64_t *to = out->data, total = 0;
    for (int64_t list = 0; count > 0 && list < scores->dims[0] * classes; list++) {
        const float *own = (const float *)scores->data + list * count;
        const int64_t kept = make_candidates(own, count, ew_in(call, 4), heap);
        const float *corners = (const float *)boxes->data + list / classes * count * 4;
        const int64_t found = select_boxes(&s, corners, heap, kept, selected, to + 3 * total + 2);
        for (int64_t i = total; i < total + found; i++) {
            to[3 * i] = list / classes;
            to[3 * i + 1] = list % classes;
        }
        total += found;
    }
    out->dims[0] = total;
    return EDGE_OK;
}
