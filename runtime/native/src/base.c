#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef EW_WATCHED
#include <sanitizer/asan_interface.h>
#endif

#define MESSAGE_BYTES 4096
#define ALIGNMENT 64

static _Thread_local char message[MESSAGE_BYTES];

edge_status ew_fail(edge_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return status;
}

void ew_prefix_error(const char *format, ...) {
    char old[MESSAGE_BYTES];
    memcpy(old, message, sizeof old);
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (length >= 0 && length < MESSAGE_BYTES && /* what has no room is cut off */
        snprintf(message + length, (size_t)(MESSAGE_BYTES - length), ": %s", old) < 0)
        message[length] = 0;
}

edge_status ew_read_struct(const char *name, const void *given, void *copy, size_t bytes) {
    uint32_t struct_size;
    if (!given) return ew_fail(EDGE_INVALID_ARGUMENT, "no %s is given", name);
    memcpy(&struct_size, given, sizeof struct_size);
    if (struct_size < sizeof struct_size)
        return ew_fail(EDGE_INVALID_ARGUMENT, "struct_size of the %s is %u", name, struct_size);
    memset(copy, 0, bytes);
    memcpy(copy, given, struct_size < bytes ? struct_size : bytes);
    return EDGE_OK;
}

const char *edge_last_error(void) { return message; }

uint32_t edge_abi_version(void) { return EDGE_ABI_VERSION; }

struct ew_chunk {
    ew_chunk *next;
    size_t bytes; /* with this header */
    size_t used;
};

/* The first block of a chunk starts behind its header, on the next multiple of the alignment. */
#define HEADER_BYTES ((sizeof(ew_chunk) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)

/* Where a sanitizer watches, every block has a chunk of its own, and bytes behind it that nobody may touch. */
#ifdef EW_WATCHED
#define SMALL_CHUNK_BYTES 0
#define GUARD_BYTES ALIGNMENT
#define FORBID(at, bytes) __asan_poison_memory_region(at, bytes)
#define ALLOW(at, bytes) __asan_unpoison_memory_region(at, bytes)
#else
#define SMALL_CHUNK_BYTES ((size_t)64 << 10)
#define GUARD_BYTES 0
#define FORBID(at, bytes)
#define ALLOW(at, bytes)
#endif

static void *allocate(void *user, size_t bytes, size_t alignment) {
    (void)user;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void release(void *user, void *pointer, size_t bytes) {
    (void)user;
    (void)bytes;
    free(pointer);
}

void ew_arena_init(ew_arena *arena, const edge_allocator *allocator) {
    edge_allocator own = {sizeof own, allocate, release, NULL};
    *arena = (ew_arena){.allocator = allocator ? *allocator : own};
}

static ew_chunk *new_chunk(ew_arena *arena, size_t block_bytes) {
    size_t bytes = block_bytes > SMALL_CHUNK_BYTES / 2 ? block_bytes : SMALL_CHUNK_BYTES;
    bool counted = ew_add(bytes, HEADER_BYTES, &bytes);
    if (counted && arena->most_bytes && (bytes > arena->most_bytes || arena->total_bytes > arena->most_bytes - bytes)) {
        ew_fail(EDGE_NO_MEMORY, "the budget is %zu bytes, %zu of them are taken, a block of %zu is needed",
                arena->most_bytes, arena->total_bytes, bytes);
        return NULL;
    }
    ew_chunk *chunk = counted ? arena->allocator.allocate(arena->allocator.user, bytes, ALIGNMENT) : NULL;
    if (!chunk) {
        ew_fail(EDGE_NO_MEMORY, "the allocator has no block of %zu bytes", block_bytes);
        return NULL;
    }
    *chunk = (ew_chunk){arena->chunks, bytes, HEADER_BYTES};
    arena->chunks = chunk;
    arena->total_bytes += bytes;
    if (chunk->next && block_bytes > SMALL_CHUNK_BYTES / 2) { /* it is full: the one before may have room left */
        arena->chunks = chunk->next;
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
    }
    return chunk;
}

void *ew_arena_get_dirty(ew_arena *arena, size_t bytes) {
    size_t rounded;
    if (!ew_add(bytes ? bytes : 1, GUARD_BYTES + ALIGNMENT - 1, &rounded)) rounded = SIZE_MAX;
    rounded -= rounded % ALIGNMENT;
    ew_chunk *chunk = arena->chunks;
    if (!chunk || chunk->bytes - chunk->used < rounded) chunk = new_chunk(arena, rounded);
    if (!chunk) return NULL;
    void *block = (uint8_t *)chunk + chunk->used;
    chunk->used += rounded;
    FORBID((uint8_t *)block + bytes, rounded - bytes);
    return block;
}

void *ew_arena_get(ew_arena *arena, size_t bytes) {
    void *block = ew_arena_get_dirty(arena, bytes);
    if (block) memset(block, 0, bytes);
    return block;
}

void ew_arena_free(ew_arena *arena) {
    while (arena->chunks) {
        ew_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        ALLOW(chunk, chunk->bytes);
        arena->allocator.release(arena->allocator.user, chunk, chunk->bytes);
    }
    arena->total_bytes = 0;
}

/* No pointers: they would be relocated. */
static const struct {
    char name[8];
    uint8_t bits;
} DTYPES[] = {
    [EDGE_F32] = {"float32", 32}, [EDGE_U8] = {"uint8", 8},    [EDGE_S8] = {"int8", 8},
    [EDGE_U16] = {"uint16", 16},  [EDGE_S16] = {"int16", 16},  [EDGE_S32] = {"int32", 32},
    [EDGE_S64] = {"int64", 64},   [EDGE_BOOL] = {"bool", 8},   [EDGE_F16] = {"float16", 16},
    [EDGE_F64] = {"float64", 64}, [EDGE_U32] = {"uint32", 32}, [EDGE_U64] = {"uint64", 64},
    [EW_U4] = {"uint4", 4},       [EW_S4] = {"int4", 4},       [EW_U2] = {"uint2", 2},
    [EW_S2] = {"int2", 2},        [EW_S3] = {"int3", 3},
};
#define DTYPE_COUNT (sizeof DTYPES / sizeof *DTYPES)

unsigned ew_dtype_bits(edge_dtype dtype) { return (size_t)dtype < DTYPE_COUNT ? DTYPES[dtype].bits : 0; }

size_t ew_dtype_bytes(edge_dtype dtype) { return ew_dtype_bits(dtype) / 8; }

static int small_at(const uint8_t *data, unsigned bits, int sign, size_t i) {
    size_t at = i * bits;
    int both = data[at / 8];
    if (at % 8 + bits > 8) both |= data[at / 8 + 1] << 8;
    return ((both >> at % 8 & ((1 << bits) - 1)) ^ sign) - sign;
}

static int sign_of(edge_dtype dtype) { return ew_widened(dtype) == EDGE_S8 ? (int)ew_middle(dtype) : 0; }

int ew_small_at(edge_dtype dtype, const void *data, size_t i) {
    return small_at(data, ew_dtype_bits(dtype), sign_of(dtype), i);
}

void *ew_widen(ew_arena *arena, edge_dtype dtype, const void *from, size_t count) {
    uint8_t *to = ew_arena_get_dirty(arena, count);
    unsigned bits = ew_dtype_bits(dtype);
    int sign = sign_of(dtype);
    for (size_t i = 0; to && i < count; i++) to[i] = (uint8_t)small_at(from, bits, sign, i);
    return to;
}

const char *ew_dtype_name(edge_dtype dtype) {
    return ew_dtype_bits(dtype) ? DTYPES[dtype].name : "a dtype that is not supported";
}
