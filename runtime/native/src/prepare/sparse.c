/* Weights with zeros: which blocks of them hold anything, and their order for kernels. */
#include "prepare.h"

/* What the packer writes: start, index and value, one after the other. */
static int64_t groups_of(const ew_blocks *s) { return (s->outputs + s->kernel->nr - 1) / s->kernel->nr; }
static size_t start_bytes(const ew_blocks *s) { return (size_t)(groups_of(s) + 1) * sizeof(int32_t); }
static size_t index_bytes(const ew_blocks *s) { return (size_t)(s->blocks + s->blocks % 2) * sizeof(uint16_t); }
static size_t bytes_of(const ew_blocks *s) {
    return start_bytes(s) + index_bytes(s) + (size_t)(s->blocks * s->kernel->nr) * sizeof(float);
}

static ew_sparse parts_of(const ew_blocks *s, const void *packed) {
    const uint8_t *at = packed;
    return (ew_sparse){.kernel = s->kernel,
                       .start = packed,
                       .index = (const uint16_t *)(const void *)(at + start_bytes(s)),
                       .value = (const float *)(const void *)(at + start_bytes(s) + index_bytes(s)),
                       .outputs = s->outputs,
                       .depth = s->depth};
}

static edge_status fill(const void *context, void *into) {
    const ew_blocks *s = context;
    ew_sparse to = parts_of(s, into);
    if (s->blocks % 2) memset((uint8_t *)into + start_bytes(s) + index_bytes(s) - sizeof(uint16_t), 0, sizeof(uint16_t));
    edge_spmm_pack_f32(s->kernel, s->outputs, s->depth, s->weights, s->row, s->column, (int32_t *)(uintptr_t)to.start,
                       (uint16_t *)(uintptr_t)to.index, (float *)(uintptr_t)to.value);
    return EDGE_OK;
}

/* What was packed may come from a file: nothing in it may lead a kernel outside. */
static bool is_sound(const ew_blocks *s, const ew_sparse *packed) {
    int64_t groups = groups_of(s);
    if (packed->start[0] != 0 || packed->start[groups] != s->blocks) return false;
    for (int64_t g = 0; g < groups; g++)
        if (packed->start[g] > packed->start[g + 1]) return false;
    for (int64_t i = 0; i < s->blocks; i++)
        if (packed->index[i] >= s->depth) return false;
    return true;
}

/* Of kind 0, or as dense weights that lie so: those have other layouts. */
static uint32_t code_of(const ew_blocks *s) {
    uint32_t kind = s->column == 1 ? 0 : EW_PACK_LINEAR;
    return (uint32_t)EW_PACKING_VERSION << 24 | (uint32_t)s->kernel->nr << 4 | kind;
}

edge_status ew_pack_blocks(ew_preparer *p, const ew_blocks *s, int value, ew_sparse *detail) {
    edge_session *session = p->session;
    const ew_graph *model = session->model_graph;
    const void *packed;
    if (value < model->value_count && model->values[value].has_data) {
        EW_TRY(ew_weights_get(session->weights, model->values[value].tensor.data, code_of(s), bytes_of(s), fill, s, &packed));
    } else {
        void *own = ew_arena_get_dirty(&session->arena, bytes_of(s));
        if (!own) return EDGE_NO_MEMORY;
        EW_TRY(fill(s, own));
        packed = own;
    }
    *detail = parts_of(s, packed);
    if (!is_sound(s, detail)) return ew_fail(EDGE_INVALID_MODEL, "packed weights of '%s' are damaged", p->from->values[value].name);
    return EDGE_OK;
}

bool ew_seems_dense(const ew_tensor *weights) {
    enum { RUNS = 8, RUN = 256, FEW = 8 };
    int64_t count = ew_count(weights), run = count < RUN ? count : RUN, zeros = 0;
    for (int64_t i = 0; i < RUNS; i++) {
        const uint8_t *at = (const uint8_t *)weights->data + (size_t)((count - run) / RUNS * i) * sizeof(float);
        for (int64_t j = 0; j < run; j++, at += sizeof(float)) {
            float value;
            memcpy(&value, at, sizeof value);
            zeros += value == 0;
        }
    }
    return zeros * FEW < RUNS * run;
}

bool ew_count_blocks(const ew_preparer *p, edge_kernel_format format, ew_blocks *s) {
    s->kernel = edge_kernel_find(EDGE_SPMM, EDGE_KERNEL_F32, format, p->session->isa);
    if (!s->kernel || s->depth > EDGE_SPMM_MOST_DEPTH) return false;
    s->blocks = edge_spmm_blocks(s->kernel, s->outputs, s->depth, s->weights, s->row, s->column);
    return s->blocks <= INT32_MAX;
}
