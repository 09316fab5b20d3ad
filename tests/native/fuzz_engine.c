/* Fuzzing of the engine.  What an input is, its first byte tells:
 *
 *     'P'   an archive
 *     '{'   manifest.json, a zero byte, labels.txt, a zero byte, model.onnx: packed and sealed here, since an archive
 *           whose manifest changed is refused before anything reads it; weights.bin is the model's file once more
 *     'I'   the numbers of an image and of a photo, then pixels: edge_image_load
 *     else  an ONNX file
 *
 * A model is opened and run at its largest and its smallest inputs; then again with all inputs fixed, so that what was
 * run is folded now; and sometimes once more, while one call to the allocator fails.  Memory is limited, all of it must
 * come back.  What takes longer than MILLISECONDS is left by a jump: only a run can be cancelled, and only between two
 * operators.
 *
 * With the option EDGEWRIGHT_FUZZ this is a program of libFuzzer.  With EW_REPLAY it runs the files it is given, and
 * links with any library of the engine and the sources base.c, protobuf.c and sha256.c. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>

#include "base.h"
#include "protobuf.h"
#include "sha256.h"

enum {
    MILLISECONDS = 300,
    MOST = 16,
    NAME_BYTES = 64,
    INPUT_BYTES = 64 << 10,
    BUDGET_BYTES = 4 << 20,
    MEMORY_BYTES = 32 << 20
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* ---- memory and time ---- */

typedef struct block {
    struct block *before, *after;
    size_t bytes;
    void *start;
} block;

static struct {
    block first; /* of a list, itself no block */
    size_t used;
    unsigned calls, fails_at;
    volatile sig_atomic_t busy, late;
} memory;
static sigjmp_buf out;
static uint64_t random_state;

static uint64_t draw(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void leave(int signal) {
    (void)signal;
    memory.late = 1;
    if (!memory.busy) siglongjmp(out, 1);
}

/* Around what must not be left half done. */
static void begin(void) { memory.busy = 1; }
static void end(void) {
    memory.busy = 0;
    if (memory.late) siglongjmp(out, 1);
}

static void *get(size_t bytes, size_t alignment) {
    size_t before = (sizeof(block) + alignment - 1) / alignment * alignment;
    void *start = NULL;
    if (bytes > MEMORY_BYTES - memory.used || posix_memalign(&start, alignment, before + bytes)) return NULL;
    memset(start, 0xa5, before + bytes);
    block *b = (block *)((uint8_t *)start + before) - 1;
    *b = (block){&memory.first, memory.first.after, bytes, start};
    b->before->after = b->after->before = b;
    memory.used += bytes;
    return b + 1;
}

static void give(void *pointer) {
    block *b = (block *)pointer - 1;
    b->before->after = b->after;
    b->after->before = b->before;
    memory.used -= b->bytes;
    free(b->start);
}

static void *allocate(void *user, size_t bytes, size_t alignment) {
    (void)user;
    if (memory.calls++ == memory.fails_at) return NULL;
    begin();
    void *pointer = get(bytes, alignment);
    end();
    return pointer;
}

static void release(void *user, void *pointer, size_t bytes) {
    (void)user;
    if (((block *)pointer - 1)->bytes != bytes) abort(); /* another size than was asked for */
    begin();
    give(pointer);
    end();
}

static const edge_allocator ALLOCATOR = {sizeof ALLOCATOR, allocate, release, NULL};

static void set_timer(int milliseconds) {
    struct itimerval timer = {.it_value = {.tv_usec = 1000 * milliseconds}};
    setitimer(ITIMER_VIRTUAL, &timer, NULL);
}

/* ---- values ---- */

static void fill_one(edge_dtype dtype, uint8_t *to) {
    static const double REALS[] = {0, 1, -1, 0.5, 1e-30, 1e30, (double)INFINITY, -(double)INFINITY, (double)NAN};
    uint64_t bits = draw();
    int64_t whole = bits % 16 ? "\1\1\2\3\0\0\0\1"[bits >> 61] - (bits % 16 == 1) : (int64_t)draw();
    double real = bits % 8 ? (double)((int64_t)(bits >> 40) - (1 << 23)) * 1e-6 : REALS[(bits >> 8) % 9];
    float single = (float)real;
    switch (dtype) {
    case EDGE_F32: memcpy(to, &single, 4); break;
    case EDGE_F64: memcpy(to, &real, 8); break;
    case EDGE_BOOL: *to = bits & 1; break;
    case EDGE_F16: memcpy(to, &bits, 2); break;
    default: memcpy(to, &whole, ew_dtype_bytes(dtype));
    }
}

static bool make(edge_tensor *tensor) {
    size_t width = ew_dtype_bytes(tensor->dtype);
    tensor->bytes = width;
    for (int axis = 0; axis < tensor->rank; axis++)
        if (!ew_mul(tensor->bytes, (uint64_t)tensor->shape[axis], &tensor->bytes)) return false;
    begin();
    tensor->data = get(tensor->bytes, 64);
    end();
    for (size_t i = 0; tensor->data && i < tensor->bytes; i += width)
        fill_one(tensor->dtype, (uint8_t *)tensor->data + i);
    return tensor->data;
}

/* Whatever a result says that it has must be there. */
static void read_all(const edge_tensor *tensor) {
    static volatile uint8_t seen;
    for (size_t i = 0; i < tensor->bytes; i++) seen ^= ((const uint8_t *)tensor->data)[i];
}

/* ---- inputs of an ONNX file; an open dimension is -1 ---- */

typedef struct input {
    char name[NAME_BYTES];
    edge_tensor tensor;
} input;

/* The next field that is a message or text; false at the end. */
static bool next(ew_proto *proto, ew_field *field) {
    bool more;
    return ew_proto_next(proto, field, &more) == EDGE_OK && more;
}

static void read_shape(ew_proto shape, edge_tensor *tensor) {
    for (ew_field dim, field; next(&shape, &dim);) {
        if (dim.number != 1 || tensor->rank == EDGE_MAX_RANK) continue;
        int64_t *length = &tensor->shape[tensor->rank++];
        for (*length = -1; next(&dim.bytes, &field);)
            if (field.number == 1) *length = (int64_t)field.value;
    }
}

static void read_type(ew_proto type, edge_tensor *tensor) {
    for (ew_field kind, field; next(&type, &kind);)
        while (kind.number == 1 && next(&kind.bytes, &field)) {
            if (field.number == 1) tensor->dtype = (edge_dtype)field.value;
            if (field.number == 2) read_shape(field.bytes, tensor);
        }
}

static void read_input(ew_proto info, input *in) {
    *in = (input){.name = ""};
    for (ew_field field; next(&info, &field);) {
        size_t length = ew_proto_size(field.bytes);
        if (field.number == 1 && length < NAME_BYTES && length)
            memcpy(in->name, field.bytes.at, length), in->name[length] = 0;
        if (field.number == 2) read_type(field.bytes, &in->tensor);
    }
}

static size_t read_inputs(const uint8_t *data, size_t bytes, input *inputs) {
    ew_proto model = {data, data + bytes};
    size_t count = 0;
    for (ew_field graph, field; next(&model, &graph);)
        while (graph.number == 7 && next(&graph.bytes, &field))
            if (field.number == 11 && count < MOST) read_input(field.bytes, &inputs[count++]);
    return count;
}

/* ---- sessions ---- */

static void run(edge_session *session, bool largest) {
    edge_tensor given[MOST] = {0}, found[MOST];
    edge_tensor_info info;
    size_t count = edge_session_input_count(session), results = edge_session_output_count(session);
    if (count > MOST || results > MOST) return;
    for (size_t i = 0; i < count; i++) {
        edge_session_input(session, i, &info);
        given[i] = (edge_tensor){.dtype = info.dtype, .rank = info.rank};
        memcpy(given[i].shape, largest ? info.max_shape : info.min_shape, sizeof info.max_shape);
        if (!make(&given[i])) goto done;
    }
    if (edge_session_run(session, given, count, found, results) == EDGE_OK)
        for (size_t i = 0; i < results; i++) read_all(&found[i]);
done:
    begin();
    for (size_t i = 0; i < count; i++)
        if (given[i].data) give(given[i].data);
    end();
}

static bool is_float(edge_dtype dtype) { return dtype == EDGE_F32 || dtype == EDGE_F64 || dtype == EDGE_F16; }

typedef enum fixing { NONE, NO_FLOATS, ALL } fixing;

/* The status of creation. */
static edge_status use(edge_model *model, const char *entry, edge_state *state, input *inputs, size_t count, fixing which) {
    edge_fixed_input fixed[MOST];
    edge_bound bounds[MOST * EDGE_MAX_RANK];
    char names[MOST * EDGE_MAX_RANK][NAME_BYTES + 3];
    int64_t low = (int64_t)(draw() % 2), high = low + (int64_t)(draw() % 4);
    edge_session_options options = {.struct_size = sizeof options,
                                    .fixed_inputs = fixed,
                                    .bounds = bounds,
                                    .memory_budget_bytes = BUDGET_BYTES,
                                    .profile = draw() & 1,
                                    .entry = entry};
    for (size_t i = 0; i < count; i++) {
        edge_tensor value = inputs[i].tensor;
        for (int axis = 0; axis < value.rank; axis++) {
            char *name = names[options.bound_count];
            snprintf(name, sizeof *names, "%s:%d", inputs[i].name, axis);
            if (value.shape[axis] < 0) value.shape[axis] = high;
            bounds[options.bound_count++] = (edge_bound){name, low, high};
        }
        if (which == NONE || (which == NO_FLOATS && is_float(value.dtype)) || !make(&value)) continue;
        fixed[options.fixed_input_count++] = (edge_fixed_input){inputs[i].name, value};
    }
    edge_session *session = NULL;
    edge_step_info step;
    edge_status status = edge_session_create(model, &options, &session);
    begin();
    for (size_t i = 0; i < options.fixed_input_count; i++) give(fixed[i].value.data);
    end();
    if (status != EDGE_OK) return status;
    if (edge_session_memory_bytes(session) > BUDGET_BYTES + (64 << 10)) abort();
    if (edge_session_set_state(session, state) != EDGE_OK) abort();
    for (size_t i = 0; i < 3; i++) run(session, i != 1);
    for (size_t i = 0; edge_session_step(session, i, &step) == EDGE_OK; i++)
        if (!step.node || !step.op) abort();
    edge_session_free(session);
    return EDGE_OK;
}

/* What an app does with a state between runs. */
static void change_state(edge_state *state) {
    edge_state *copy = NULL;
    int64_t length = edge_state_length(state);
    if (edge_state_fork(state, &copy) != EDGE_OK) return;
    if (edge_state_length(copy) != length || edge_state_truncate(state, length) != EDGE_OK) abort();
    if (edge_state_truncate(state, length / 2) != EDGE_OK && edge_state_reset(state) != EDGE_OK) abort();
    edge_state_free(copy);
}

static void use_entries(edge_model *model, input *inputs, size_t count) {
    const char *entry;
    edge_state *state = NULL;
    edge_state_create(model, &state);
    for (size_t i = 0; i < MOST && (entry = edge_model_entry(model, i)); i++) {
        if (use(model, entry, state, inputs, count, NONE) == EDGE_UNSUPPORTED)
            use(model, entry, state, inputs, count, NO_FLOATS);
        if (state) change_state(state);
        if (count) use(model, entry, state, inputs, count, ALL);
    }
    edge_state_free(state);
}

static void read_bundle(const edge_model *model) {
    edge_image image = {.struct_size = sizeof image};
    edge_ranking ranking = {.struct_size = sizeof ranking};
    float scores[4] = {1, NAN, 3, 3};
    edge_tensor row = {EDGE_F32, 2, {1, 4}, scores, sizeof scores};
    edge_class best[4];
    size_t count, labels = edge_model_label_count(model);
    for (size_t i = 0; i < labels; i++)
        if (!edge_model_label(model, i)) abort();
    edge_model_image(model, NULL, &image);
    if (edge_model_ranking(model, &ranking) == EDGE_OK && edge_rank(&ranking, &row, model, best, &count) == EDGE_OK)
        if (count > 4) abort();
}

static edge_status copy_at(void *user, uint64_t offset, void *into, size_t bytes) {
    memcpy(into, (const uint8_t *)user + offset, bytes);
    return EDGE_OK;
}

static void open_model(const uint8_t *data, size_t bytes) {
    edge_model_options options = {sizeof options, &ALLOCATOR, 1};
    edge_source source = {
        .struct_size = sizeof source, .user = (void *)(uintptr_t)data, .bytes = bytes, .read_at = copy_at};
    edge_model *model = NULL;
    input inputs[MOST];
    size_t count = data[0] == 'P' ? 0 : read_inputs(data, bytes, inputs);
    if ((draw() % 2 ? edge_model_open_memory(data, bytes, &options, &model)
                    : edge_model_open_source(&source, &options, &model)) != EDGE_OK)
        return;
    read_bundle(model);
    use_entries(model, inputs, count);
    edge_model_free(model);
}

/* ---- archives ---- */

typedef struct file {
    const char *name;
    const void *data;
    size_t bytes, offset;
} file;

static uint8_t *put(uint8_t *to, uint64_t value, int bytes) {
    for (; bytes; bytes--, value >>= 8) *to++ = (uint8_t)value;
    return to;
}

/* From the needed version on, where both headers of an entry are alike. */
static uint8_t *put_entry(uint8_t *to, const file *f) {
    to = put(put(put(to, 20, 2), 0, 8), 0, 4);
    to = put(put(put(to, f->bytes, 4), f->bytes, 4), strlen(f->name), 2);
    return put(to, 0, 2);
}

static uint8_t *put_bytes(uint8_t *to, const void *data, size_t bytes) {
    if (bytes) memcpy(to, data, bytes);
    return to + bytes;
}

static size_t pack(file *files, size_t count, uint8_t *archive) {
    uint8_t *to = archive, *directory;
    for (file *f = files; f < files + count; f++) {
        f->offset = (size_t)(to - archive);
        to = put_bytes(put_entry(put(to, 0x04034b50, 4), f), f->name, strlen(f->name));
        to = put_bytes(to, f->data, f->bytes);
    }
    directory = to;
    for (file *f = files; f < files + count; f++) {
        to = put(put_entry(put(put(to, 0x02014b50, 4), 20, 2), f), 0, 10);
        to = put_bytes(put(to, f->offset, 4), f->name, strlen(f->name));
    }
    size_t bytes = (size_t)(to - directory);
    to = put(put(put(put(to, 0x06054b50, 4), 0, 4), count, 2), count, 2);
    return (size_t)(put(put(put(to, bytes, 4), (uint64_t)(directory - archive), 4), 0, 2) - archive);
}

/* Up to the next zero byte, which is skipped. */
static file part(const char *name, const uint8_t **at, const uint8_t *end) {
    const uint8_t *start = *at, *zero = memchr(start, 0, (size_t)(end - start));
    const uint8_t *stop = zero ? zero : end;
    *at = zero ? zero + 1 : end;
    return (file){name, start, (size_t)(stop - start), 0};
}

static void open_manifest(const uint8_t *data, size_t bytes) {
    static uint8_t archive[2 * INPUT_BYTES + 1024];
    const uint8_t *end = data + bytes;
    char seal[66];
    uint8_t digest[32];
    ew_sha256 hash;
    file files[5] = {
        part("manifest.json", &data, end), {"manifest.sha256", seal, 65, 0}, part("labels.txt", &data, end)};
    files[3] = (file){"model.onnx", data, (size_t)(end - data), 0};
    files[4] = (file){"weights.bin", data, (size_t)(end - data), 0};
    ew_sha256_init(&hash);
    ew_sha256_add(&hash, files[0].data, files[0].bytes);
    ew_sha256_finish(&hash, digest);
    ew_sha256_hex(digest, seal);
    seal[64] = '\n';
    open_model(archive, pack(files, 5, archive));
}

/* ---- photos ---- */

typedef struct numbers {
    uint8_t kind, resize, layout, pixel;
    uint16_t width, height, row_bytes, size;
    uint16_t crop, orientation;
} numbers;

static void load_image(const uint8_t *data, size_t bytes) {
    numbers n;
    if (bytes < sizeof n) return;
    memcpy(&n, data, sizeof n);
    size_t left = bytes - sizeof n, needed;
    edge_photo photo = {sizeof photo, n.pixel, n.width, n.height, data + sizeof n, n.row_bytes, left, n.orientation};
    edge_image image = {sizeof image, n.size % 2048, n.resize, n.layout, n.crop / 65535.0, 1 / 255.0, {0}, {1, 1, 1}};
    edge_tensor tensor = {.dtype = EDGE_F32, .rank = 1, .shape = {3 * image.size * image.size}};
    if (edge_image_workspace(&image, &photo, &needed) != EDGE_OK || !make(&tensor)) return;
    begin();
    void *workspace = get(needed, 1 << 3);
    end();
    if (!workspace) return;
    if (edge_image_load(&image, &photo, workspace, needed, &tensor) != EDGE_OK) abort();
    read_all(&tensor);
}

static void take(const uint8_t *data, size_t bytes) {
    if (data[0] == '{') open_manifest(data, bytes);
    else if (data[0] == 'I') load_image(data, bytes);
    else open_model(data, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (!bytes || bytes > INPUT_BYTES) return 0;
    memory.first = (block){&memory.first, &memory.first, 0, NULL};
    memory.used = memory.calls = memory.late = memory.busy = 0;
    random_state = bytes * 0x9e3779b97f4a7c15u + data[bytes / 2] + 1;
    memory.fails_at = ~0u;
    signal(SIGVTALRM, leave);
    if (sigsetjmp(out, 1) == 0) {
        set_timer(MILLISECONDS);
        take(data, bytes);
        if (memory.calls && draw() % 8 == 0) {
            memory.fails_at = (unsigned)(memory.calls + draw() % memory.calls);
            take(data, bytes);
        }
        set_timer(0);
        if (data[0] != 'I' && memory.first.after != &memory.first) abort(); /* memory that did not come back */
    }
    memory.busy = 1;
    while (memory.first.after != &memory.first) give(memory.first.after + 1);
    return 0;
}

/* ---- mutation: of one field of a model, at any depth, with the lengths of all that it lies in ---- */

#ifndef EW_REPLAY
enum { MOST_FIELDS = 512, MOST_DEPTH = 6 };

size_t LLVMFuzzerMutate(uint8_t *data, size_t bytes, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t most, unsigned seed);

typedef struct span {
    uint8_t *start, *end;
    ew_field field;
} span;

/* 0: this is no message. */
static size_t list_fields(uint8_t *data, size_t bytes, span *spans) {
    ew_proto proto = {data, data + bytes};
    size_t count = 0;
    while (proto.at < proto.end && count < MOST_FIELDS) {
        span *s = &spans[count++];
        s->start = data + (proto.at - data);
        if (!next(&proto, &s->field)) return 0;
        s->end = data + (proto.at - data);
    }
    return count;
}

static uint8_t *put_varint(uint8_t *to, uint64_t value) {
    for (; value > 127; value >>= 7) *to++ = (uint8_t)(value | 128);
    *to++ = (uint8_t)value;
    return to;
}

static uint64_t other_number(uint64_t value) {
    switch (draw() % 8) {
    case 0: return value + 1;
    case 1: return value - 1;
    case 2: return -value;
    case 3: return value << draw() % 64;
    case 4: return draw() >> draw() % 64;
    default: return draw() % 20;
    }
}

/* Puts bytes in the place of a field, or with start == end between two. */
static size_t replace(uint8_t *data, size_t bytes, size_t most, uint8_t *start, uint8_t *end, const uint8_t *by,
                      size_t count) {
    size_t old = (size_t)(end - start), behind = (size_t)(data + bytes - end);
    if (bytes - old + count > most) return bytes;
    memmove(start + count, end, behind);
    memcpy(start, by, count);
    return bytes - old + count;
}

static size_t change(uint8_t *data, size_t bytes, size_t most, int depth) {
    static uint8_t scratch[MOST_DEPTH + 1][2 * INPUT_BYTES];
    span spans[MOST_FIELDS];
    size_t count = list_fields(data, bytes, spans);
    if (count == 0 || depth == MOST_DEPTH || most > INPUT_BYTES) return LLVMFuzzerMutate(data, bytes, most);
    const span *s = &spans[draw() % count], *other = &spans[draw() % count];
    uint8_t *copy = scratch[depth], *content = copy + 32, *to = copy;
    size_t length = (size_t)(s->end - s->start);
    switch (draw() % 8) {
    case 0: return replace(data, bytes, most, s->start, s->end, copy, 0);
    case 1:
    case 2:
        memcpy(copy, s->start, length);
        return replace(data, bytes, most, other->start, draw() % 2 ? other->start : other->end, copy, length);
    default: break;
    }
    to = put_varint(to, (uint64_t)s->field.number << 3 | s->field.wire);
    if (s->field.wire == EW_BYTES) {
        length = ew_proto_size(s->field.bytes);
        if (length) memcpy(content, s->field.bytes.at, length);
        length = draw() % 8 ? change(content, length, INPUT_BYTES, depth + 1)
                            : LLVMFuzzerMutate(content, length, INPUT_BYTES);
        to = put_varint(to, length);
        memmove(to, content, length);
        to += length;
    } else if (s->field.wire == EW_VARINT) {
        to = put_varint(to, other_number(s->field.value));
    } else {
        size_t width = s->field.wire == EW_FIXED32 ? 4 : 8;
        memcpy(to, s->end - width, width);
        LLVMFuzzerMutate(to, width, width);
        to += width;
    }
    return replace(data, bytes, most, s->start, s->end, copy, (size_t)(to - copy));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t bytes, size_t most, unsigned seed) {
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    if (!bytes || data[0] == 'P' || data[0] == '{' || data[0] == 'I' || draw() % 4 == 0)
        return LLVMFuzzerMutate(data, bytes, most);
    return change(data, bytes, most, 0);
}
#endif

#ifdef EW_REPLAY
int main(int count, char **paths) {
    static uint8_t content[INPUT_BYTES + 1];
    for (int i = 1; i < count; i++) {
        FILE *from = fopen(paths[i], "rb");
        if (!from) return fprintf(stderr, "%s cannot be read\n", paths[i]), 2;
        size_t bytes = fread(content, 1, sizeof content, from);
        fclose(from);
        printf("%s\n", paths[i]);
        fflush(stdout);
        uint8_t *copy = malloc(bytes ? bytes : 1); /* so that whoever reads beyond it is seen */
        memcpy(copy, content, bytes);
        LLVMFuzzerTestOneInput(copy, bytes);
        free(copy);
    }
    return 0;
}
#endif
