/* Writes a file of packed weights: a session is made for another instruction set, what it packs is kept, not run. */
#include <stdio.h>

#include "session.h"
#include "sha256.h"

typedef struct writer {
    const edge_pack_options *options;
    const ew_weights *weights;
    uint32_t count;
    uint64_t at; /* of the next packed bytes */
} writer;

static edge_status write_bytes(const writer *w, const void *data, size_t bytes) {
    return w->options->write(w->options->user, data, bytes) == EDGE_OK
               ? EDGE_OK
               : ew_fail(EDGE_IO, "packed weights: %zu bytes could not be written", bytes);
}

static uint64_t round_up(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

/* Calls for every packing of a constant that lies in the file of weights, always in the same order. */
static edge_status each(writer *w, edge_status (*call)(writer *, const ew_made *, uint64_t)) {
    uint64_t source;
    for (const ew_made *made = w->weights->first; made; made = made->later)
        if (made->code && ew_weights_source(w->weights, made->constant, &source)) EW_TRY(call(w, made, source));
    return EDGE_OK;
}

static edge_status count(writer *w, const ew_made *made, uint64_t source) {
    (void)source;
    w->count++;
    w->at += round_up(made->bytes);
    return EDGE_OK;
}

static edge_status write_entry(writer *w, const ew_made *made, uint64_t source) {
    ew_packed_entry entry = {source, w->at, made->bytes, made->code, 0};
    w->at += round_up(made->bytes);
    return write_bytes(w, &entry, sizeof entry);
}

static edge_status write_padding(const writer *w, uint64_t bytes) {
    static const uint8_t zeros[64];
    return write_bytes(w, zeros, (size_t)(round_up(bytes) - bytes));
}

static edge_status write_data(writer *w, const ew_made *made, uint64_t source) {
    (void)source;
    EW_TRY(write_bytes(w, made->data, made->bytes));
    return write_padding(w, made->bytes);
}

static edge_status write_file(writer *w) {
    const ew_blob *file = w->weights->source;
    ew_packed_header header = {.version = EW_PACKING_VERSION, .model_bytes = file->bytes};
    ew_sha256 hash;
    ew_sha256_init(&hash);
    ew_sha256_add(&hash, file->data, file->bytes);
    ew_sha256_finish(&hash, header.model_sha256);
    memcpy(header.magic, EW_PACKED_MAGIC, sizeof header.magic);
    EW_TRY(each(w, count));
    uint64_t table = sizeof header + w->count * sizeof(ew_packed_entry);
    header.count = w->count;
    header.bytes = round_up(table) + w->at;
    w->at = round_up(table);
    EW_TRY(write_bytes(w, &header, sizeof header));
    EW_TRY(each(w, write_entry));
    EW_TRY(write_padding(w, table));
    return each(w, write_data);
}

static edge_status find_isa(const char *name, int *isa) {
    char names[128] = "";
    size_t used = 0;
    *isa = edge_isa_chosen();
    for (int i = 0; i < EDGE_ISA_COUNT; i++) {
        if (name && strcmp(name, edge_isa_name((edge_isa)i)) == 0) *isa = i;
        used += (size_t)snprintf(names + used, sizeof names - used, " %s", edge_isa_name((edge_isa)i));
    }
    if (*isa >= 0 && (!name || strcmp(name, edge_isa_name((edge_isa)*isa)) == 0)) return EDGE_OK;
    return ew_fail(EDGE_INVALID_ARGUMENT, "there is no instruction set '%s'; there are:%s", name ? name : "", names);
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
    writer w = {.options = options, .weights = weights};
    return write_file(&w);
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
