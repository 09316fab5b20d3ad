/* Nodes between convolutions, on images whose channels are last. */
#include <math.h>

#include "prepare.h"

/* Whether the only form of an input so far is the channels-last one. */
static bool comes_last(const ew_preparer *p, int value) {
    if (value < 0 || p->plain[value]) return false;
    if (p->channels_last[value] >= 0) return true;
    int maker = p->dequantized[value];
    return maker >= 0 && comes_last(p, p->from->nodes[maker].inputs[0]);
}

static bool any_comes_last(const ew_preparer *p, const ew_node *node) {
    for (int i = 0; i < node->input_count; i++)
        if (comes_last(p, node->inputs[i])) return true;
    return false;
}

static int rank_of(const ew_preparer *p, int value) { return ew_tensor_of(p, value)->rank; }

/* Emits a node whose inputs are already in their new form; its one output is channels-last. */
static edge_status emit_last(ew_preparer *p, const ew_op *op, const ew_node *node, const int *inputs, int count,
                             ew_node **emitted) {
    int value = node->outputs[0], output;
    EW_TRY(ew_new_value(p, &p->from->values[value], &output));
    p->channels_last[value] = output;
    return ew_emit(p, op, node, inputs, count, &output, 1, emitted);
}

/* Of fewer axes: one value, or values along the channels, which keep their order. */
static bool is_narrow(const ew_preparer *p, int value, int rank) {
    const ew_tensor *t = ew_tensor_of(p, value);
    if (ew_count(t) == 1) return true;
    return ew_is_constant(p, value) && t->rank == rank - 1 && t->dims[0] == ew_count(t);
}

/* [C, 1, 1] to [C], which broadcasts to [..., C]; one value stays. */
static edge_status narrow(ew_preparer *p, int value, int *index) {
    const ew_tensor *t = ew_tensor_of(p, value);
    *index = value;
    if (t->rank < 2 || ew_count(t) == 1) return ew_plain(p, value);
    void *data;
    int64_t length = ew_count(t);
    EW_TRY(ew_new_constant(p, t->dtype, 1, &length, index, &data));
    memcpy(data, t->data, ew_bytes(t));
    return EDGE_OK;
}

static edge_status emit_pointwise(ew_preparer *p, const ew_node *node, bool *done) {
    enum { MOST = 16 };
    int rank = rank_of(p, node->outputs[0]), inputs[MOST];
    if (!(node->op->flags & EW_POINTWISE) || node->input_count > MOST || node->output_count != 1) return EDGE_OK;
    for (int i = 0; i < node->input_count; i++) {
        int value = node->inputs[i];
        if (value >= 0 && rank_of(p, value) != rank && !is_narrow(p, value, rank)) return EDGE_OK;
        if (value >= 0 && rank_of(p, value) == rank && ew_tensor_of(p, value)->known == EW_AT_MAX) return EDGE_OK;
    }
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = node->inputs[i];
        if (inputs[i] < 0) continue;
        if (rank_of(p, inputs[i]) == rank) EW_TRY(ew_channels_last(p, inputs[i], &inputs[i]));
        else EW_TRY(narrow(p, inputs[i], &inputs[i]));
    }
    ew_node *emitted;
    *done = true;
    return emit_last(p, node->op, node, inputs, node->input_count, &emitted);
}

static edge_status emit_pool(ew_preparer *p, const ew_node *node, bool *done) {
    bool largest = ew_is(node, "MaxPool");
    int rank = rank_of(p, node->inputs[0]), input;
    if ((!largest && !ew_is(node, "AveragePool")) || ew_tensor_of(p, node->inputs[0])->dtype != EDGE_F32) return EDGE_OK;
    if (rank > 4 || (node->output_count > 1 && node->outputs[1] >= 0)) return EDGE_OK;
    ew_node *emitted;
    *done = true;
    EW_TRY(ew_channels_last(p, node->inputs[0], &input));
    return emit_last(p, ew_find_op(EW_FUSED_DOMAIN, "ChannelsLastPool", 1), node, &input, 1, &emitted);
}

bool ew_is_mean_of_pixels(const ew_preparer *p, const ew_node *node) {
    int rank = rank_of(p, node->inputs[0]);
    if (ew_is(node, "GlobalAveragePool")) return true;
    if (!ew_is(node, "ReduceMean") || rank < 3) return false;
    uint32_t wanted = (1u << rank) - 1 - 3, found = 0;
    int count = 0;
    const int64_t *axes = ew_attr_ints(node, "axes", &count);
    if (node->input_count > 1 && node->inputs[1] >= 0) {
        const ew_tensor *t = ew_tensor_of(p, node->inputs[1]);
        if (!ew_is_constant(p, node->inputs[1]) || t->dtype != EDGE_S64) return false;
        axes = t->data;
        count = (int)ew_count(t);
    }
    for (int i = 0; i < count; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 2 || axis >= rank) return false;
        found |= 1u << axis;
    }
    return found == wanted;
}

static edge_status emit_mean(ew_preparer *p, const ew_node *node, bool *done) {
    int rank = rank_of(p, node->inputs[0]), inputs[2];
    if (!ew_is_mean_of_pixels(p, node)) return EDGE_OK;
    bool keep = ew_is(node, "GlobalAveragePool") || ew_attr_int(node, "keepdims", 1);
    const ew_op *op = ew_find_op("", "ReduceMean", 18);
    void *data;
    EW_TRY(ew_channels_last(p, node->inputs[0], &inputs[0]));
    EW_TRY(ew_new_constant(p, EDGE_S64, 1, &(int64_t){rank - 2}, &inputs[1], &data));
    for (int i = 0; i < rank - 2; i++) ((int64_t *)data)[i] = i + 1;
    ew_node *emitted;
    *done = true;
    if (keep) {
        EW_TRY(emit_last(p, op, node, inputs, 2, &emitted));
    } else {
        p->plain[node->outputs[0]] = true;
        EW_TRY(ew_emit(p, op, node, inputs, 2, node->outputs, 1, &emitted));
    }
    emitted->opset = 18;
    emitted->op_type = "ReduceMean";
    emitted->attributes = NULL;
    emitted->attribute_count = 0;
    if (keep) return EDGE_OK;
    return ew_set_int(p, emitted, "keepdims", 0);
}

static edge_status emit_join(ew_preparer *p, const ew_node *node, bool *done) {
    enum { MOST = 64 };
    int rank = rank_of(p, node->outputs[0]), inputs[MOST];
    int64_t axis = ew_attr_int(node, "axis", 1);
    if (!ew_is(node, "Concat") || (axis < 0 ? axis + rank : axis) != 1 || node->input_count > MOST) return EDGE_OK;
    for (int i = 0; i < node->input_count; i++) EW_TRY(ew_channels_last(p, node->inputs[i], &inputs[i]));
    ew_node *emitted;
    *done = true;
    EW_TRY(emit_last(p, node->op, node, inputs, node->input_count, &emitted));
    return ew_set_int(p, emitted, "axis", rank - 1);
}

/* Scale and shift of every channel: a depthwise convolution of one tap. */
static edge_status emit_batch_norm(ew_preparer *p, const ew_node *node, bool *done) {
    int input = node->inputs[0], rank = rank_of(p, input), inputs[2];
    if (!ew_is(node, "BatchNormalization") || rank < 3 || rank > 4 || ew_tensor_of(p, input)->dtype != EDGE_F32)
        return EDGE_OK;
    if (node->output_count != 1 || ew_attr_int(node, "training_mode", 0)) return EDGE_OK;
    const float *of[5];
    int64_t dims[4] = {ew_tensor_of(p, input)->dims[1], 1, 1, 1};
    for (int i = 1; i < 5; i++) {
        const ew_tensor *t = ew_tensor_of(p, node->inputs[i]);
        if (!ew_is_constant(p, node->inputs[i]) || t->dtype != EDGE_F32 || ew_count(t) != dims[0]) return EDGE_OK;
        of[i] = t->data;
    }
    void *scale;
    float *bias = ew_arena_get(&p->session->arena, (size_t)dims[0] * sizeof *bias);
    float *zeros = ew_arena_get(&p->session->arena, (size_t)dims[0] * sizeof *zeros);
    ew_fused *f = ew_arena_get(&p->session->arena, sizeof *f);
    if (!bias || !zeros || !f) return EDGE_NO_MEMORY;
    EW_TRY(ew_channels_last(p, input, &inputs[0]));
    EW_TRY(ew_new_constant(p, EDGE_F32, rank, dims, &inputs[1], &scale));
    double epsilon = (double)ew_attr_float(node, "epsilon", 1e-5f);
    for (int64_t c = 0; c < dims[0]; c++) {
        double factor = (double)of[1][c] / sqrt((double)of[4][c] + epsilon);
        ((float *)scale)[c] = (float)factor;
        bias[c] = (float)((double)of[2][c] - (double)of[3][c] * factor);
    }
    *f = (ew_fused){.kernel = edge_kernel_find(EDGE_DEPTHWISE, EDGE_KERNEL_F32, EDGE_DENSE, p->session->isa),
                    .weights = scale,
                    .bias = bias,
                    .zeros = zeros,
                    .outputs = dims[0],
                    .depth = dims[0],
                    .low = -INFINITY,
                    .high = INFINITY};
    ew_node *emitted;
    EW_TRY(emit_last(p, ew_find_op(EW_FUSED_DOMAIN, "FusedDepthwise", 1), node, inputs, 2, &emitted));
    emitted->detail = f;
    EW_TRY(ew_set_int(p, emitted, "group", dims[0]));
    *done = true;
    return EDGE_OK;
}

edge_status ew_emit_channels_last(ew_preparer *p, const ew_node *node, bool *done) {
    if (!any_comes_last(p, node) || node->outputs[0] < 0) return EDGE_OK;
    EW_TRY(emit_pointwise(p, node, done));
    if (!*done) EW_TRY(emit_pool(p, node, done));
    if (!*done) EW_TRY(emit_mean(p, node, done));
    if (!*done) EW_TRY(emit_join(p, node, done));
    if (!*done) EW_TRY(emit_batch_norm(p, node, done));
    return EDGE_OK;
}
