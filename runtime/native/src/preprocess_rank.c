/* Scores become classes: edge_rank. */
#include <math.h>

#include "graph.h"
#include "preprocess.h"
#include "sort.h"

static double score_at(const edge_tensor *scores, size_t i) {
    switch (scores->dtype) {
    case EDGE_F16: return (double)ew_f16_to_f32(((const uint16_t *)scores->data)[i]);
    case EDGE_F32: return (double)((const float *)scores->data)[i];
    case EDGE_F64: return ((const double *)scores->data)[i];
    case EDGE_S8: return ((const int8_t *)scores->data)[i];
    case EDGE_S16: return ((const int16_t *)scores->data)[i];
    case EDGE_S32: return ((const int32_t *)scores->data)[i];
    case EDGE_S64: return (double)((const int64_t *)scores->data)[i];
    case EDGE_BOOL:
    case EDGE_U8: return ((const uint8_t *)scores->data)[i];
    case EDGE_U16: return ((const uint16_t *)scores->data)[i];
    case EDGE_U32: return ((const uint32_t *)scores->data)[i];
    case EDGE_U64: return (double)((const uint64_t *)scores->data)[i];
    }
    return NAN;
}

static edge_status count_classes(const edge_tensor *scores, size_t *classes) {
    size_t count = 1, rows = 0, bytes;
    bool valid = scores->rank >= 0 && scores->rank <= EDGE_MAX_RANK;
    for (int32_t axis = 0; valid && axis < scores->rank; axis++) {
        valid = scores->shape[axis] > 0 && (uint64_t)scores->shape[axis] <= SIZE_MAX;
        if (scores->shape[axis] == 1) continue;
        count = (size_t)scores->shape[axis];
        rows++;
    }
    if (!valid || rows > 1)
        return ew_fail(EDGE_SHAPE_MISMATCH,
                       "edge_rank needs one row of scores: a shape of 1 to %d axes, of which all but one are 1",
                       EDGE_MAX_RANK);
    size_t size = ew_dtype_bytes(scores->dtype);
    if (!size || !scores->data || !ew_mul(count, size, &bytes) || bytes > scores->bytes)
        return ew_fail(EDGE_INVALID_ARGUMENT, "the scores are %zu values of %s and have %zu bytes", count,
                       ew_dtype_name(scores->dtype), scores->data ? scores->bytes : 0);
    *classes = count;
    return EDGE_OK;
}

/* What scores are divided by and reduced by to become probabilities. */
typedef struct softmax {
    double most, sum;
} softmax;

static softmax softmax_of(const edge_tensor *scores, size_t classes) {
    softmax found = {score_at(scores, 0), 0};
    for (size_t i = 1; i < classes; i++) {
        double score = score_at(scores, i);
        if (score > found.most || isnan(score)) found.most = score;
    }
    for (size_t i = 0; i < classes; i++) found.sum += exp(score_at(scores, i) - found.most);
    return found;
}

/* Negative when a is the better one.  No two are equal. */
static int compare(const void *left, const void *right) {
    const edge_class *a = left, *b = right;
    if (isnan(a->score) != isnan(b->score)) return isnan(a->score) ? 1 : -1;
    if (a->score != b->score && !isnan(a->score)) return a->score > b->score ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* The best `count` are a heap with the worst of them on top until all classes were seen. */
static void pick(const edge_tensor *scores, size_t classes, const softmax *softmax, edge_class *best, size_t count) {
    for (size_t i = 0; i < classes; i++) {
        double score = score_at(scores, i);
        edge_class candidate = {.index = i, .score = softmax ? exp(score - softmax->most) / softmax->sum : score};
        if (i < count) best[i] = candidate;
        else if (compare(&candidate, best) < 0) best[0] = candidate;
        else continue;
        if (i + 1 == count)
            for (size_t parent = count / 2; parent-- > 0;) ew_sink(best, parent, count, sizeof *best, compare);
        if (i >= count) ew_sink(best, 0, count, sizeof *best, compare);
    }
    ew_sort(best, count, sizeof *best, compare);
}

edge_status edge_rank(const edge_ranking *given, const edge_tensor *scores, const edge_model *model, edge_class *best,
                      size_t *count) {
    edge_ranking ranking;
    size_t classes = 0, labels = edge_model_label_count(model);
    EW_TRY(ew_read_struct("ranking", given, &ranking, sizeof ranking));
    if (!scores || !best || !count || !ranking.top_k)
        return ew_fail(EDGE_INVALID_ARGUMENT, "edge_rank needs scores, room for classes, a place for their number and "
                                              "a top_k of at least 1");
    EW_TRY(count_classes(scores, &classes));
    if (labels && labels != classes)
        return ew_fail(EDGE_SHAPE_MISMATCH, "the bundle has %zu labels, the output has %zu classes", labels, classes);
    size_t kept = ranking.top_k < classes ? ranking.top_k : classes;
    softmax over = ranking.softmax ? softmax_of(scores, classes) : (softmax){0};
    pick(scores, classes, ranking.softmax ? &over : NULL, best, kept);
    for (size_t i = 0; i < kept; i++) best[i].label = edge_model_label(model, best[i].index);
    *count = kept;
    return EDGE_OK;
}
