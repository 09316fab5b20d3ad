/* Weights of transposed convolutions: a product for each place modulo the strides (ops/fused_transposed.c). */
#include "prepare.h"

/* Strides of the last two axes. */
static void read_strides(const ew_node *node, int spatial, int64_t stride[2]) {
    int count = 0;
    const int64_t *given = ew_attr_ints(node, "strides", &count);
    stride[0] = stride[1] = 1;
    for (int i = 0; i < spatial && i < count; i++) stride[2 - spatial + i] = given[i];
}

bool ew_is_fitting_transposed(const ew_node *node, const ew_tensor *weights) {
    int count = 0, spatial = weights->rank - 2;
    const int64_t *dilation = ew_attr_ints(node, "dilations", &count);
    int64_t stride[2];
    if (spatial < 1 || spatial > 2 || ew_count(weights) == 0 || ew_attr_int(node, "group", 1) != 1) return false;
    for (int i = 0; i < count; i++)
        if (dilation[i] != 1) return false;
    read_strides(node, spatial, stride);
    for (int i = 0; i < spatial; i++)
        if (stride[2 - spatial + i] < 1 || weights->dims[2 + i] < stride[2 - spatial + i]) return false;
    return ew_span(weights, 2, weights->rank) <= 1024;
}

/* Taps my, my + stride, .. and mx, mx + stride, .. of weights [in, out, height, width] as rows of b: [tap][in] x out;
 * gives how many rows. */
static int64_t order(const ew_tensor *weights, const int64_t stride[2], int64_t my, int64_t mx, float *ordered) {
    int64_t in = weights->dims[0], out = weights->dims[1], width = weights->dims[weights->rank - 1];
    int64_t size = ew_span(weights, 2, weights->rank), rows = 0;
    const float *w = weights->data;
    for (int64_t y = my; y < size / width; y += stride[0])
        for (int64_t x = mx; x < width; x += stride[1])
            for (int64_t i = 0; i < in; i++, rows++)
                for (int64_t o = 0; o < out; o++) *ordered++ = w[(i * out + o) * size + y * width + x];
    return rows;
}

edge_status ew_pack_transposed(ew_preparer *p, const ew_node *node, const ew_tensor *weights, ew_fused *f) {
    int64_t stride[2], kernel[2] = {weights->rank > 3 ? weights->dims[2] : 1, weights->dims[weights->rank - 1]};
    size_t total = 0;
    read_strides(node, weights->rank - 2, stride);
    f->depth = weights->dims[0];
    f->outputs = weights->dims[1];
    for (int64_t m = 0; m < stride[0] * stride[1]; m++)
        total += edge_gemm_packed_f32(f->kernel, f->outputs,
                                      f->depth * ew_taps_of(kernel[0], stride[0], m / stride[1]) *
                                          ew_taps_of(kernel[1], stride[1], m % stride[1]));
    float *packed = ew_arena_get(&p->session->arena, total * sizeof *packed);
    if (!packed) return EDGE_NO_MEMORY;
    ew_arena passing;
    ew_arena_init(&passing, &p->session->arena.allocator);
    float *ordered = ew_arena_get(&passing, ew_bytes(weights));
    if (!ordered) return EDGE_NO_MEMORY;
    f->weights = packed;
    for (int64_t m = 0; m < stride[0] * stride[1]; m++) {
        int64_t rows = order(weights, stride, m / stride[1], m % stride[1], ordered);
        edge_gemm_pack_f32(f->kernel, f->outputs, rows, ordered, f->outputs, 1, packed);
        packed += edge_gemm_packed_f32(f->kernel, f->outputs, rows);
    }
    ew_arena_free(&passing);
    return EDGE_OK;
}
