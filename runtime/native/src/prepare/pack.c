/* Weights of products in the order in which kernels read them; those of the model's file belong to the model. */
#include "prepare.h"

typedef struct packer {
    const ew_preparer *p;
    edge_kernel kernel; /* whose rows and columns count */
    const ew_packing *packing;
    const ew_tensor *weights;
} packer;

static bool is_s8(const packer *k) { return k->kernel.dtype == EDGE_KERNEL_S8; }

static bool is_depthwise(const packer *k) { return k->packing->kind == EW_PACK_DEPTHWISE; }

static void set_layout(packer *k, int isa) {
    if (isa < 0) return;
    k->kernel.nr = is_s8(k) ? ew_layouts[isa].s8 : ew_layouts[isa].f32;
    k->kernel.mr = ew_layouts[isa].taps;
}

/* What tells packings of one constant apart, and packings that a kernel can read from others. */
static uint32_t code_of(const packer *k) {
    int layout = !is_depthwise(k) ? k->kernel.nr : is_s8(k) ? k->kernel.mr : 1;
    return (uint32_t)EW_PACKING_VERSION << 24 | (uint32_t)k->packing->taps << 12 | (uint32_t)layout << 4 |
           (uint32_t)is_s8(k) << 3 | (uint32_t)k->packing->kind;
}

static size_t bytes_of(const packer *k) {
    const ew_packing *g = k->packing;
    if (is_depthwise(k))
        return is_s8(k) ? edge_depthwise_packed_s8(&k->kernel, g->outputs, g->taps, g->depth) : ew_bytes(k->weights);
    return is_s8(k) ? edge_gemm_packed_s8(&k->kernel, g->outputs, g->depth, g->taps)
                    : edge_gemm_packed_f32(&k->kernel, g->outputs, g->depth * g->taps) * sizeof(float);
}

/* [rows][columns] to [columns][rows] for each of count; of weights [out][in][taps]: [out][taps][in]. */
static void turn(const uint8_t *from, size_t bytes, int64_t count, int64_t rows, int64_t columns, uint8_t *to) {
    if (columns == 1) {
        memcpy(to, from, (size_t)(count * rows) * bytes);
        return;
    }
    for (int64_t n = 0; n < count; n++, to += (size_t)(rows * columns) * bytes)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++, from += bytes) {
                uint8_t *at = to + (size_t)(c * rows + r) * bytes;
                if (bytes == 1) *at = *from;
                else memcpy(at, from, sizeof(float));
            }
}

static void pack_product(const packer *k, const void *b, void *into) {
    const ew_packing *g = k->packing;
    bool plain = g->kind == EW_PACK_LINEAR;
    int64_t depth = g->depth * g->taps, row = plain ? g->outputs : 1, column = plain ? 1 : depth;
    if (is_s8(k)) edge_gemm_pack_s8(&k->kernel, g->outputs, g->depth, g->taps, b, row, column, into);
    else edge_gemm_pack_f32(&k->kernel, g->outputs, depth, b, row, column, into);
}

static edge_status fill(const void *context, void *into) {
    const packer *k = context;
    const ew_tensor *w = k->weights;
    size_t each = is_s8(k) ? 1 : sizeof(float);
    int64_t window = k->packing->kind < EW_PACK_CONV ? 1 : ew_span(w, 2, w->rank);
    if (is_depthwise(k)) {
        if (is_s8(k))
            edge_depthwise_pack_s8(&k->kernel, w->dims[0], k->packing->taps, k->packing->depth, w->data, into);
        else turn(w->data, each, 1, w->dims[0], window, into);
        return EDGE_OK;
    }
    if (window == 1 && (uintptr_t)w->data % each == 0) {
        pack_product(k, w->data, into);
        return EDGE_OK;
    }
    ew_arena passing;
    ew_arena_init(&passing, &k->p->session->arena.allocator);
    void *ordered = ew_arena_get_dirty(&passing, ew_bytes(w));
    if (!ordered) return EDGE_NO_MEMORY;
    turn(w->data, each, ew_count(w) / (window * w->dims[1]), w->dims[1], window, ordered);
    pack_product(k, ordered, into);
    ew_arena_free(&passing);
    return EDGE_OK;
}

edge_status ew_pack(ew_preparer *p, const edge_kernel *kernel, int value, const ew_packing *packing,
                    const void **packed) {
    edge_session *session = p->session;
    packer k = {p, *kernel, packing, ew_tensor_of(p, value)};
    set_layout(&k, session->packed_for);
    const ew_graph *model = session->model_graph;
    if (value < model->value_count && model->values[value].has_data)
        return ew_weights_get(session->weights, model->values[value].tensor.data, code_of(&k), bytes_of(&k), fill, &k,
                              packed);
    void *own = ew_arena_get_dirty(&session->arena, bytes_of(&k));
    *packed = own;
    return own ? fill(&k, own) : EDGE_NO_MEMORY;
}
