/* Writes a file of packed weights: a session is made for another instruction set, what it packs is kept, not run. */
#include <stdio.h>

#include "session.h"
#include "sha256.h"

/* The next packing of a constant that lies in the file of weights; always in the same order. */
static const ew_made *next(const ew_weights *weights, const ew_made *made, uint64_t *source) {
    made = made ? made->later : weights->first;
    while (made && (!made->code || !ew_weights_source(weights, made->constant, source))) made = made->later;
    return made;
}

/* Followed by zeros up to a multiple of 64. */
static edge_status write_padded(const edge_pack_options *options, const void *data, size_t bytes) {
    static const uint8_t zeros[64];
    edge_status status = options->write(options->user, data, bytes);
    if (status == EDGE_OK && bytes % 64) status = options->write(options->user, zeros, 64 - bytes % 64);
    return status == EDGE_OK ? EDGE_OK : ew_fail(EDGE_IO, "packed weights cannot be written");
}

static edge_status write_file(const edge_pack_options *options, ew_weights *weights) {
    const ew_blob *file = weights->source;
    const ew_made *made = NULL;
    uint32_t count = 0;
    uint64_t source;
    ew_sha256 hash;
    while ((made = next(weights, made, &source))) count++;
    size_t table = sizeof(ew_packed_header) + count * sizeof(ew_packed_entry);
    ew_packed_header *header = ew_arena_get(&weights->arena, table);
    if (!header) return EDGE_NO_MEMORY;
    ew_packed_entry *entry = (ew_packed_entry *)(header + 1);
    *header = (ew_packed_header){EW_PACKED_MAGIC, EW_PACKING_VERSION, count, (table + 63) / 64 * 64, file->bytes, {0}};
    ew_sha256_init(&hash);
    ew_sha256_add(&hash, file->data, file->bytes);
    ew_sha256_finish(&hash, header->model_sha256);
    while ((made = next(weights, made, &source))) {
        *entry++ = (ew_packed_entry){source, header->bytes, made->bytes, made->code, 0};
        header->bytes += (made->bytes + 63) / 64 * 64;
    }
    EW_TRY(write_padded(options, header, table));
    while ((made = next(weights, made, &source))) EW_TRY(write_padded(options, made->data, made->bytes));
    return EDGE_OK;
}

static edge_status find_isa(const char *name, int *isa) {
    char known[128] = "";
    *isa = name ? 0 : edge_isa_chosen();
    while (name && *isa < EDGE_ISA_COUNT && strcmp(name, edge_isa_name((edge_isa)*isa)) != 0) ++*isa;
    if (*isa >= 0 && *isa < EDGE_ISA_COUNT) return EDGE_OK;
    for (int i = 0; i < EDGE_ISA_COUNT; i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", edge_isa_name((edge_isa)i));
    }
    return ew_fail(EDGE_INVALID_ARGUMENT, "there is no instruction set '%s'; there are %s",
                   name ? name : "of EDGEWRIGHT_FORCE_ISA", known);
}

/* Makes sessions for the sake of what they pack: of the entry that options.session names, or of all. */
static edge_status pack(edge_model *model, const edge_pack_options *options, int isa, ew_weights *weights) {
    edge_session_options session = {0};
    edge_session *made;
    if (options->session) EW_TRY(ew_read_struct("session's options", options->session, &session, sizeof session));
    session.struct_size = sizeof session;
    bool all = !session.entry;
    for (int i = 0; i < (all ? model->bundle.entry_count : 1); i++) {
        if (all) session.entry = model->bundle.entries[i].name;
        EW_TRY(ew_session_make(model, &session, weights, isa, &made));
        edge_session_free(made);
    }
    return write_file(options, weights);
}

edge_status edge_model_pack(edge_model *model, const edge_pack_options *given) {
    edge_pack_options options;
    ew_weights weights;
    int isa;
    if (!model) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_model_pack needs a model");
    EW_TRY(ew_read_struct("packing's options", given, &options, sizeof options));
    if (!options.write) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_model_pack needs a function that writes");
    EW_TRY(find_isa(options.isa, &isa));
    edge_status status = ew_weights_init(&weights, ew_weights_file(model), NULL, &model->arena.allocator);
    if (status == EDGE_OK) status = pack(model, &options, isa, &weights);
    ew_weights_free(&weights);
    return status;
}
