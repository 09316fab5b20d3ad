/* Products of 8 bits: x and weights that were quantized, exact sums, one rescaling. */
#include <math.h>

#include "prepare.h"

static bool one_constant(const ew_preparer *p, int value, double *result) {
    if (!ew_is_constant(p, value) || ew_count(ew_tensor_of(p, value)) != 1) return false;
    *result = ew_get(ew_tensor_of(p, value), 0);
    return true;
}

static bool is_8_bit(edge_dtype dtype) { return dtype == EDGE_U8 || dtype == EDGE_S8; }

/* Scale and zero point, inputs 1 and 2, of a node whose side of 8 bits has this dtype. */
static bool read_grid(const ew_preparer *p, const ew_node *node, edge_dtype dtype, edge_grid *grid) {
    double scale, zero = 0;
    if (!is_8_bit(dtype) || node->input_count < 2 || !one_constant(p, node->inputs[1], &scale)) return false;
    if (ew_tensor_of(p, node->inputs[1])->dtype != EDGE_F32 || !(scale > 0) || isinf(scale)) return false;
    if (node->input_count > 2 && node->inputs[2] >= 0 && !one_constant(p, node->inputs[2], &zero)) return false;
    *grid = (edge_grid){(float)scale, (int32_t)zero, dtype == EDGE_S8};
    return true;
}

int ew_made_of(const ew_preparer *p, int value, edge_grid *grid) {
    int maker = value < 0 ? -1 : p->maker[value];
    if (maker < 0 || !ew_is(&p->from->nodes[maker], "DequantizeLinear")) return -1;
    const ew_node *node = &p->from->nodes[maker];
    return read_grid(p, node, ew_tensor_of(p, node->inputs[0])->dtype, grid) ? node->inputs[0] : -1;
}

bool ew_is_quantize(const ew_preparer *p, int n, edge_grid *grid) {
    if (n < 0 || !ew_is(&p->from->nodes[n], "QuantizeLinear")) return false;
    const ew_node *node = &p->from->nodes[n];
    return ew_tensor_of(p, node->inputs[0])->dtype == EDGE_F32 &&
           read_grid(p, node, ew_tensor_of(p, node->outputs[0])->dtype, grid);
}

bool ew_counts_from(const ew_preparer *p, const ew_node *node, int i, double zero) {
    if (i >= node->input_count || node->inputs[i] < 0) return zero == 0;
    if (!ew_is_constant(p, node->inputs[i])) return false;
    const ew_tensor *t = ew_tensor_of(p, node->inputs[i]);
    for (int64_t k = 0; k < ew_count(t); k++)
        if (ew_get(t, k) != zero) return false;
    return true;
}

/* Constant, of at most 8 bits, around zero, with one scale or one for each of the outputs, which lie along this axis. */
static bool find_weights(const ew_preparer *p, int value, int axis, ew_eight *e) {
    int maker = value < 0 ? -1 : p->maker[value];
    if (maker < 0 || !p->session->steps[maker].late) return false;
    const ew_node *node = &p->from->nodes[maker];
    if (!ew_is_constant(p, node->inputs[0]) || !ew_is_constant(p, node->inputs[1]) || !ew_counts_from(p, node, 2, 0))
        return false;
    const ew_tensor *weights = ew_tensor_of(p, node->inputs[0]);
    e->scale = ew_tensor_of(p, node->inputs[1]);
    e->weights = node->inputs[0];
    int64_t along = ew_attr_int(node, "axis", 1);
    if (along < 0) along += weights->rank;
    if (ew_widened(weights->dtype) != EDGE_S8 || e->scale->dtype != EDGE_F32 || ew_attr_int(node, "block_size", 0)) return false;
    return ew_count(e->scale) == 1 ||
           (e->scale->rank == 1 && along == axis && e->scale->dims[0] == weights->dims[axis]);
}

/* The window that the kernel has room for. */
static bool fits_depthwise(const ew_node *node, const ew_tensor *weights) {
    int count;
    const int64_t *dilations = ew_attr_ints(node, "dilations", &count);
    int64_t dilation = count > 0 ? dilations[count - 1] : 1, height = weights->rank == 4 ? weights->dims[2] : 1;
    return height <= EDGE_DEPTHWISE_MOST_HEIGHT &&
           (weights->dims[weights->rank - 1] - 1) * dilation < EDGE_DEPTHWISE_MOST_SPAN;
}

static bool is_fixed(const ew_preparer *p, const ew_node *node, int i) {
    double limit;
    return i >= node->input_count || node->inputs[i] < 0 || one_constant(p, node->inputs[i], &limit);
}

/* Whether a result is quantized, behind a clamp perhaps: depthwise kernels write nothing but bytes. */
static bool ends_on_grid(const ew_preparer *p, int value) {
    edge_grid grid;
    int next = ew_sole_reader(p, value);
    if (next < 0 || ew_is_quantize(p, next, &grid)) return next >= 0;
    const ew_node *node = &p->from->nodes[next];
    if (!ew_is(node, "Relu") && !(ew_is(node, "Clip") && is_fixed(p, node, 1) && is_fixed(p, node, 2))) return false;
    return ew_is_quantize(p, ew_sole_reader(p, node->outputs[0]), &grid);
}

static bool find_static(const ew_preparer *p, const ew_node *node, ew_eight *e) {
    bool conv = ew_is(node, "Conv"), depthwise;
    if (!conv && !ew_is(node, "Gemm") && !ew_is(node, "MatMul")) return false;
    *e = (ew_eight){.x_scale = -1, .x_zero = -1, .quantize = -1};
    e->x = ew_made_of(p, node->inputs[0], &e->grid);
    if (e->x < 0 || !find_weights(p, node->inputs[1], conv || ew_is_turned(node) ? 0 : 1, e)) return false;
    const ew_tensor *weights = ew_tensor_of(p, e->weights);
    if (!conv) return ew_is_plain_product(p, node, weights);
    return ew_is_window(node, weights, &depthwise) && ew_is_fitting_bias(p, node, 2, weights->dims[0]) &&
           (!depthwise || (fits_depthwise(node, weights) && ends_on_grid(p, node->outputs[0])));
}

/* The scale of x, a value, and that of the weights, in a product of both: one, or one for each column. */
static bool split_scales(const ew_preparer *p, int value, int64_t columns, ew_eight *e) {
    int maker = value < 0 ? -1 : p->maker[value];
    if (maker < 0 || !ew_is(&p->from->nodes[maker], "Mul")) return false;
    const int *inputs = p->from->nodes[maker].inputs;
    for (int i = 0; i < 2; i++) {
        const ew_tensor *x = ew_tensor_of(p, inputs[i]), *w = ew_tensor_of(p, inputs[1 - i]);
        if (!ew_is_constant(p, inputs[1 - i]) || w->dtype != EDGE_F32 || x->dtype != EDGE_F32) continue;
        bool fits = ew_count(w) == 1 || (ew_count(w) == columns && w->rank > 0 && w->dims[w->rank - 1] == columns);
        if (ew_count(x) != 1 || x->dynamic || !fits) continue;
        e->x_scale = inputs[i];
        e->scale = w;
        return true;
    }
    return false;
}

/* The nodes after a product of integers: its sums made f32, and multiplied. */
static bool find_tail(const ew_preparer *p, const ew_node *node, int64_t columns, ew_eight *e) {
    int cast = ew_sole_reader(p, node->outputs[0]);
    if (cast < 0 || !ew_is(&p->from->nodes[cast], "Cast")) return false;
    int value = p->from->nodes[cast].outputs[0], multiply = ew_sole_reader(p, value);
    if (multiply < 0 || !ew_is(&p->from->nodes[multiply], "Mul") || ew_tensor_of(p, value)->dtype != EDGE_F32)
        return false;
    return split_scales(p, ew_other(&p->from->nodes[multiply], value), columns, e);
}

static bool find_dynamic(const ew_preparer *p, const ew_node *node, ew_eight *e) {
    bool conv = ew_is(node, "ConvInteger"), depthwise = false;
    if (!conv && !ew_is(node, "MatMulInteger")) return false;
    int value = node->inputs[1], maker = p->maker[value];
    if (maker >= 0 && p->session->steps[maker].late) value = p->from->nodes[maker].inputs[0];
    if (!ew_is_constant(p, value) || !ew_counts_from(p, node, 3, 0)) return false;
    const ew_tensor *x = ew_tensor_of(p, node->inputs[0]), *weights = ew_tensor_of(p, value);
    int zero = node->input_count > 2 ? node->inputs[2] : -1;
    if (zero >= 0 && (ew_count(ew_tensor_of(p, zero)) != 1 || ew_tensor_of(p, zero)->dynamic)) return false;
    if (ew_widened(weights->dtype) != EDGE_S8) return false;
    if (conv && (!ew_is_window(node, weights, &depthwise) || depthwise))
        return false;
    if (!conv && (weights->rank != 2 || ew_count(weights) == 0 || x->rank < 2)) return false;
    *e = (ew_eight){.x = node->inputs[0],
                    .grid = {.is_signed = x->dtype == EDGE_S8},
                    .x_zero = zero,
                    .weights = value,
                    .quantize = -1};
    return find_tail(p, node, conv ? 1 : weights->dims[1], e);
}

bool ew_find_eight(const ew_preparer *p, int n, ew_eight *e) {
    const ew_node *node = &p->from->nodes[n];
    return find_static(p, node, e) || find_dynamic(p, node, e);
}

void ew_take_scales(const ew_preparer *p, const ew_eight *e, ew_chain *c, bool *absorbed) {
    if (e->x_scale < 0) return;
    ew_chain_extend(p, c, ew_sole_reader(p, c->result), absorbed);
    ew_chain_extend(p, c, ew_sole_reader(p, c->result), absorbed);
}

void ew_take_quantize(const ew_preparer *p, ew_eight *e, ew_chain *c, bool *absorbed) {
    int next = ew_sole_reader(p, c->result);
    if (e->x_scale >= 0 || c->map || c->add >= 0 || !ew_is_quantize(p, next, &e->y)) return;
    e->quantize = next;
    ew_chain_extend(p, c, next, absorbed);
}

/* Whether the taps of a convolution are lines of its window. */
static bool by_lines(const ew_node *head, const ew_tensor *weights) {
    int count, last = weights->rank - 1;
    const int64_t *dilations = ew_attr_ints(head, "dilations", &count);
    int64_t height = last == 3 ? weights->dims[2] : 1;
    return ew_by_lines(height, weights->dims[last], count > 0 ? dilations[count - 1] : 1, weights->dims[1]);
}

static edge_status pack_weights(ew_preparer *p, const ew_node *head, int value, ew_fused *f, ew_quantized *q) {
    const ew_tensor *weights = ew_tensor_of(p, value);
    bool conv = ew_is_conv(head), depthwise = f->kernel->op == EDGE_DEPTHWISE;
    ew_packing packing = ew_packing_of(head, weights, conv, depthwise);
    f->outputs = packing.outputs;
    f->depth = depthwise ? packing.outputs : packing.depth;
    if (!depthwise) EW_TRY(ew_pack_sparse_s8(p, value, &packing, ew_tensor_of(p, head->outputs[0]), f));
    if (f->weights) return EDGE_OK;
    q->by_lines = conv && !depthwise && by_lines(head, weights);
    if (q->by_lines) {
        packing.taps /= weights->dims[weights->rank - 1];
        packing.depth *= weights->dims[weights->rank - 1];
    }
    return ew_pack(p, f->kernel, value, &packing, &f->weights);
}

/* A limit of the f32 result on the grid of the 8-bit one. */
static float on_grid(float limit, const edge_grid *y) {
    float low = y->is_signed ? -128 : 0, high = low + 255, q = nearbyintf(limit / y->scale) + (float)y->zero;
    return q > low ? q < high ? q : high : low;
}

/* Sums have the scale of x times that of the weights; the bias joins them where the result is 8 bits. */
static edge_status rescale(ew_preparer *p, const ew_chain *c, ew_fused *f, ew_quantized *q) {
    const ew_eight *e = c->eight;
    size_t outputs = (size_t)f->outputs;
    float *scale = ew_arena_get(&p->session->arena, outputs * sizeof *scale);
    int32_t *bias = ew_arena_get(&p->session->arena, outputs * sizeof *bias);
    if (!scale || !bias) return EDGE_NO_MEMORY;
    EW_TRY(ew_join_bias(p, c, f->outputs, false, &f->bias));
    for (int64_t i = 0; i < f->outputs; i++) {
        double w = ew_get(e->scale, ew_count(e->scale) == 1 ? 0 : i), sum = q->dynamic ? w : w * (double)e->grid.scale;
        scale[i] = (float)(e->quantize < 0 ? sum : sum / (double)e->y.scale);
        double start = f->bias ? nearbyint((double)f->bias[i] / sum) : 0;
        bias[i] = (int32_t)(start > -2147483647.0 ? start < 2147483647.0 ? start : 2147483647.0 : -2147483647.0);
    }
    q->out = (edge_rescale){
        .scale = scale, .a_zero = e->grid.zero, .a_signed = e->grid.is_signed, .low = c->low, .high = c->high};
    if (e->quantize < 0) return EDGE_OK;
    q->out.bias = bias;
    f->bias = NULL;
    q->out.zero = e->y.zero;
    q->out.low = on_grid(c->low, &e->y);
    q->out.high = on_grid(c->high, &e->y);
    return EDGE_OK;
}

static edge_status pack(ew_preparer *p, const ew_chain *c, bool depthwise, ew_fused *f) {
    const ew_eight *e = c->eight;
    const ew_node *head = &p->from->nodes[c->head];
    const ew_tensor *weights = ew_tensor_of(p, e->weights);
    bool conv = ew_is_conv(head);
    ew_quantized *q = ew_arena_get(&p->session->arena, sizeof *q);
    if (!q) return EDGE_NO_MEMORY;
    q->dynamic = e->x_scale >= 0;
    q->dtype = e->quantize < 0 ? EDGE_F32 : e->y.is_signed ? EDGE_S8 : EDGE_U8;
    f->kernel = edge_kernel_find(depthwise ? EDGE_DEPTHWISE : EDGE_GEMM, EDGE_KERNEL_S8, EDGE_DENSE, p->session->isa);
    f->quantized = q;
    f->map = c->map;
    EW_TRY(pack_weights(p, head, e->weights, f, q));
    q->line = f->depth * (conv ? weights->dims[weights->rank - 1] : 1);
    void *zeros = ew_arena_get(&p->session->arena, (size_t)q->line);
    if (!zeros) return EDGE_NO_MEMORY;
    memset(zeros, (uint8_t)e->grid.zero, (size_t)q->line);
    f->zeros = zeros;
    return rescale(p, c, f, q);
}

edge_status ew_emit_eight(ew_preparer *p, const ew_chain *c) {
    const ew_eight *e = c->eight;
    const ew_node *head = &p->from->nodes[c->head];
    bool conv = ew_is_conv(head), depthwise = conv && ew_attr_int(head, "group", 1) > 1;
    int inputs[5] = {e->x, e->weights, c->add, e->x_scale, e->x_zero}, output = c->result;
    ew_fused *f = ew_arena_get(&p->session->arena, sizeof *f);
    if (!f) return EDGE_NO_MEMORY;
    EW_TRY(pack(p, c, depthwise, f));
    if (conv) {
        EW_TRY(ew_channels_last(p, inputs[0], &inputs[0]));
        if (c->add >= 0) EW_TRY(ew_channels_last(p, c->add, &inputs[2]));
        EW_TRY(ew_new_value(p, &p->from->values[c->result], &output));
        p->channels_last[c->result] = output;
    } else {
        for (int i = 0; i < 5; i++) EW_TRY(ew_plain(p, inputs[i]));
        p->plain[c->result] = true;
    }
    const ew_op *op = ew_find_op(EW_FUSED_DOMAIN, depthwise ? "FusedDepthwise" : conv ? "FusedConv" : "FusedLinear", 1);
    ew_node *node;
    EW_TRY(ew_emit(p, op, head, inputs, e->x_scale >= 0 ? 5 : 3, &output, 1, &node));
    node->detail = f;
    return EDGE_OK;
}
