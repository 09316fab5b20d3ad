/* Writes a file of packed weights: a session is made for another instruction set, what it packs is kept, not run. */
#include "session.h"
#include "sha256.h"

/* The next packing whose constant lies in the model's file, from value -1 on; always in the same order. */
static const ew_made *next(const ew_weights *weights, const edge_model *model, int *value, const ew_made *made,
                           uint64_t *source) {
    for (made = made ? made->next : NULL;; made = made->next) {
        while (!made) {
            if (++*value >= weights->count) return NULL;
            made = weights->made[*value];
        }
        if (made->code && ew_weights_source(weights, model->graph.values[*value].tensor.data, source)) return made;
    }
}

/* Followed by zeros up to a multiple of 64. */
static edge_status write_padded(const edge_pack_options *options, const void *data, size_t bytes) {
    static const uint8_t zeros[64];
    edge_status status = options->write(options->user, data, bytes);
    if (status == EDGE_OK && bytes % 64) status = options->write(options->user, zeros, 64 - bytes % 64);
    return status == EDGE_OK ? EDGE_OK : ew_fail(EDGE_IO, "packed weights cannot be written");
}

static edge_status write_file(const edge_pack_options *options, ew_weights *weights, const edge_model *model) {
    const ew_blob *file = &model->bundle.model;
    const ew_made *made = NULL;
    uint32_t count = 0;
    uint64_t source;
    ew_sha256 hash;
    for (int v = -1; (made = next(weights, model, &v, made, &source));) count++;
    size_t table = sizeof(ew_packed_header) + count * sizeof(ew_packed_entry);
    ew_packed_header *header = ew_arena_get(&weights->arena, table);
    if (!header) return EDGE_NO_MEMORY;
    ew_packed_entry *entry = (ew_packed_entry *)(header + 1);
    *header = (ew_packed_header){EW_PACKED_MAGIC, EW_PACKING_VERSION, count, (table + 63) / 64 * 64, file->bytes, {0}};
    ew_sha256_init(&hash);
    ew_sha256_add(&hash, file->data, file->bytes);
    ew_sha256_finish(&hash, header->model_sha256);
    for (int v = -1; (made = next(weights, model, &v, made, &source));) {
        *entry++ = (ew_packed_entry){source, header->bytes, made->bytes, made->code, 0};
        header->bytes += (made->bytes + 63) / 64 * 64;
    }
    EW_TRY(write_padded(options, header, table));
    for (int v = -1; (made = next(weights, model, &v, made, &source));)
        EW_TRY(write_padded(options, made->data, made->bytes));
    return EDGE_OK;
}

static edge_status find_isa(const char *name, int *isa) {
    *isa = name ? 0 : edge_isa_chosen();
    while (name && *isa < EDGE_ISA_COUNT && strcmp(name, edge_isa_name((edge_isa)*isa)) != 0) ++*isa;
    if (*isa >= 0 && *isa < EDGE_ISA_COUNT) return EDGE_OK;
    return ew_fail(EDGE_INVALID_ARGUMENT,
                   "there is no instruction set '%s'; there are scalar, avx2, avx512vnni, neon, neon_dot, wasm and "
                   "wasm_relaxed",
                   name ? name : "of EDGEWRIGHT_FORCE_ISA");
}

static edge_status pack(edge_model *model, const edge_pack_options *options, int isa, ew_weights *weights) {
    edge_session *session;
    EW_TRY(ew_session_make(model, options->session, weights, isa, &session));
    edge_status status = write_file(options, weights, model);
    edge_session_free(session);
    return status;
}

edge_status edge_model_pack(edge_model *model, const edge_pack_options *given) {
    edge_pack_options options;
    ew_weights weights;
    int isa;
    if (!model) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_model_pack needs a model");
    EW_TRY(ew_read_struct("packing's options", given, &options, sizeof options));
    if (!options.write) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_model_pack needs a function that writes");
    EW_TRY(find_isa(options.isa, &isa));
    edge_status status =
        ew_weights_init(&weights, model->graph.value_count, &model->bundle.model, NULL, &model->arena.allocator);
    if (status == EDGE_OK) status = pack(model, &options, isa, &weights);
    ew_weights_free(&weights);
    return status;
}
