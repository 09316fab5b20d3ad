/* Products of f32 with small weights, which stay small: each is made f32 in the registers of the kernel. */
#include "prepare.h"

/* How many values of the axis `along` share a scale; 0: the kernel has no such groups. */
static int64_t group_of(const ew_node *node, const ew_tensor *weights, const ew_tensor *scale, int along) {
    int64_t block = ew_attr_int(node, "block_size", 0), axis = ew_attr_int(node, "axis", 1);
    int64_t depth = weights->dims[along];
    if (axis < 0) axis += weights->rank;
    if (!block) return ew_count(scale) == 1 || axis != along ? depth : 0;
    return axis == along && block % 8 == 0 && depth % block == 0 ? block : 0;
}

bool ew_find_grouped(const ew_preparer *p, const ew_node *node, ew_grouped *g) {
    if ((!ew_is(node, "Gemm") && !ew_is(node, "MatMul")) || ew_tensor_of(p, node->inputs[0])->dtype != EDGE_F32)
        return false;
    int maker = p->maker[node->inputs[1]];
    if (maker < 0 || !p->session->steps[maker].late) return false;
    const ew_node *from = &p->from->nodes[maker];
    *g = (ew_grouped){.weights = from->inputs[0], .scale = from->inputs[1]};
    const ew_tensor *weights = ew_tensor_of(p, g->weights), *scale = ew_tensor_of(p, g->scale);
    edge_dtype dtype = ew_widened(weights->dtype);
    if ((dtype != EDGE_S8 && dtype != EDGE_U8) || scale->dtype != EDGE_F32 ||
        ew_tensor_of(p, node->inputs[1])->dtype != EDGE_F32 || !ew_is_plain_product(p, node, weights) ||
        !ew_counts_from(p, from, 2, dtype == EDGE_U8 ? ew_middle(weights->dtype) : 0))
        return false;
    g->group = group_of(from, weights, scale, ew_is_turned(node));
    return g->group > 0;
}

edge_status ew_pack_grouped(ew_preparer *p, const ew_node *head, const ew_grouped *g, ew_fused *f) {
    const ew_tensor *weights = ew_tensor_of(p, g->weights);
    const edge_kernel *f32 = edge_kernel_find(EDGE_GEMM, EDGE_KERNEL_F32, EDGE_DENSE, p->session->isa);
    ew_packing packing = ew_packing_of(head, weights, false, false);
    const void *scale;
    f->kernel = edge_kernel_find(EDGE_GEMM_GROUPED, EDGE_KERNEL_F32, EDGE_DENSE, p->session->isa);
    f->outputs = packing.outputs;
    f->depth = packing.depth;
    f->group = g->group;
    f->bits = ew_is_small(weights->dtype) ? 4 : 8;
    EW_TRY(ew_pack(p, f->kernel, g->weights, &packing, &f->weights));
    packing.depth /= g->group;
    EW_TRY(ew_pack(p, f32, g->scale, &packing, &scale));
    f->scale = scale;
    return EDGE_OK;
}
