/* Weights of products in the order in which kernels read them; those of the model's file belong to the model. */
#include "prepare.h"

typedef struct packer {
    const ew_preparer *p;
    edge_kernel kernel; /* whose rows and columns count */
    const ew_packing *packing;
    const ew_tensor *weights;
} packer;

static bool is_s8(const packer *k) { return k->kernel.dtype == EDGE_KERNEL_S8; }

static bool is_grouped(const packer *k) { return k->kernel.op == EDGE_GEMM_GROUPED; }

/* Bits of a weight in words; 2 take as many as 4. */
static int32_t word_bits(const packer *k) { return ew_is_small(k->weights->dtype) ? 4 : 8; }

static bool is_depthwise(const packer *k) { return k->packing->kind == EW_PACK_DEPTHWISE; }

static void set_layout(packer *k, int isa) {
    if (isa < 0) return;
    k->kernel.nr = is_s8(k) ? ew_layouts[isa].s8 : ew_layouts[isa].f32;
    k->kernel.mr = ew_layouts[isa].taps;
}

/* What tells packings of one constant apart, and packings that a kernel can read from others. */
static uint32_t code_of(const packer *k) {
    int layout = !is_depthwise(k) ? k->kernel.nr : is_s8(k) ? k->kernel.mr : 1;
    uint32_t kind = (uint32_t)k->packing->kind | (is_grouped(k) ? 4 : 0); /* depthwise is no product */
    edge_dtype dtype = k->weights->dtype;
    uint32_t small = (uint32_t)ew_is_small(dtype) << 1 | (ew_widened(dtype) == EDGE_U8);
    uint32_t fewer = ew_is_small(dtype) ? 4 - ew_dtype_bits(dtype) : 0; /* constants of one place may differ in it */
    return (uint32_t)EW_PACKING_VERSION << 24 | fewer << 22 | (uint32_t)k->packing->taps << 12 | small << 10 | (uint32_t)layout << 4 |
           (uint32_t)is_s8(k) << 3 | kind;
}

static size_t bytes_of(const packer *k) {
    const ew_packing *g = k->packing;
    if (is_depthwise(k))
        return is_s8(k) ? edge_depthwise_packed_s8(&k->kernel, g->outputs, g->taps, g->depth) : ew_bytes(k->weights);
    int64_t depth = is_grouped(k) ? (g->depth * word_bits(k) + 31) / 32 : g->depth * g->taps;
    return is_s8(k) ? edge_gemm_packed_s8(&k->kernel, g->outputs, g->depth, g->taps)
                    : edge_gemm_packed_f32(&k->kernel, g->outputs, depth) * sizeof(float);
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

/* What packers read: s8, of unsigned weights what is left without the middle, or f32; NULL: there is no memory. */
static const void *source_of(const packer *k, ew_arena *passing) {
    edge_dtype dtype = k->weights->dtype, wide = ew_widened(dtype);
    if (wide == dtype && wide != EDGE_U8) return k->weights->data;
    size_t count = (size_t)ew_count(k->weights);
    uint8_t *to = ew_widen(passing, dtype, k->weights->data, count);
    for (size_t i = 0; to && wide == EDGE_U8 && i < count; i++) to[i] -= ew_middle(dtype);
    return to;
}

static void pack_product(const packer *k, const void *b, void *into) {
    const ew_packing *g = k->packing;
    bool plain = g->kind == EW_PACK_LINEAR;
    int64_t depth = g->depth * g->taps, row = plain ? g->outputs : 1, column = plain ? 1 : depth;
    if (ew_count(k->weights) == 1) column = 0; /* one scale of all columns */
    if (is_grouped(k)) edge_gemm_pack_grouped(&k->kernel, g->outputs, depth, word_bits(k), b, row, column, into);
    else if (is_s8(k)) edge_gemm_pack_s8(&k->kernel, g->outputs, g->depth, g->taps, b, row, column, into);
    else edge_gemm_pack_f32(&k->kernel, g->outputs, depth, b, row, column, into);
}

static edge_status fill_from(const packer *k, ew_arena *passing, void *into) {
    const ew_tensor *w = k->weights;
    const void *data = source_of(k, passing);
    size_t each = is_s8(k) || is_grouped(k) ? 1 : sizeof(float);
    int64_t window = k->packing->kind < EW_PACK_CONV ? 1 : ew_span(w, 2, w->rank);
    if (!data) return EDGE_NO_MEMORY;
    if (is_depthwise(k)) {
        if (is_s8(k)) edge_depthwise_pack_s8(&k->kernel, w->dims[0], k->packing->taps, k->packing->depth, data, into);
        else turn(data, each, 1, w->dims[0], window, into);
        return EDGE_OK;
    }
    if (window > 1 || (uintptr_t)data % each) {
        void *ordered = ew_arena_get_dirty(passing, (size_t)ew_count(w) * each);
        if (!ordered) return EDGE_NO_MEMORY;
        turn(data, each, window > 1 ? w->dims[0] : 1, window > 1 ? w->dims[1] : ew_count(w), window, ordered);
        data = ordered;
    }
    pack_product(k, data, into);
    return EDGE_OK;
}

static edge_status fill(const void *context, void *into) {
    const packer *k = context;
    ew_arena passing;
    ew_arena_init(&passing, &k->p->session->arena.allocator);
    edge_status status = fill_from(k, &passing, into);
    ew_arena_free(&passing);
    return status;
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
