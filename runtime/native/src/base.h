/* Status, errors, memory and dtypes: what every file of the engine uses. */
#ifndef EW_BASE_H
#define EW_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "edgewright.h"

/* Sets this thread's last error and returns status. */
edge_status ew_fail(edge_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Puts "prefix: " before this thread's last error. */
void ew_prefix_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Copies a struct that a caller filled; members beyond its struct_size become zero.  `name` is for the error. */
edge_status ew_read_struct(const char *name, const void *given, void *copy, size_t bytes);

#define EW_TRY(expression)                                                                                             \
    do {                                                                                                               \
        edge_status ew_status_ = (expression);                                                                         \
        if (ew_status_ != EDGE_OK) return ew_status_;                                                                  \
    } while (0)

/* Memory that is given back all at once.  Every block is aligned to 64 bytes and zeroed. */
typedef struct ew_chunk ew_chunk;

typedef struct ew_arena {
    edge_allocator allocator;
    ew_chunk *chunks;
    size_t total_bytes; /* taken from the allocator */
    size_t most_bytes;  /* of these; 0: no limit */
} ew_arena;

void ew_arena_init(ew_arena *arena, const edge_allocator *allocator);
/* NULL when there is no memory; the error is set. */
void *ew_arena_get(ew_arena *arena, size_t bytes);
/* The same with memory that holds anything. */
void *ew_arena_get_dirty(ew_arena *arena, size_t bytes);
void ew_arena_free(ew_arena *arena);

/* a * b and a + b, false on overflow.  Factors are wider than a size where that has 32 bits. */
static inline bool ew_mul(uint64_t a, uint64_t b, size_t *result) { return !__builtin_mul_overflow(a, b, result); }
static inline bool ew_add(size_t a, size_t b, size_t *result) { return !__builtin_add_overflow(a, b, result); }

/* Integers of less than a byte, ONNX's numbers: dtypes of constants of a file and of nothing else.  The first element
 * is in the lowest bits of the first byte. */
enum { EW_U4 = 21, EW_S4 = 22, EW_U2 = 25, EW_S2 = 26, EW_S3 = 30 /* ours, in no file: onnx_int3.c */ };

/* Bits of an element, 0 for a dtype that the engine does not have. */
unsigned ew_dtype_bits(edge_dtype dtype);
/* Bytes of an element, 0 for those of less than a byte as well. */
size_t ew_dtype_bytes(edge_dtype dtype);
/* Whether its elements have less than a byte. */
static inline bool ew_is_small(edge_dtype dtype) { return (int)dtype >= EW_U4; }
/* The dtype of 8 bits that holds what a small one holds; another dtype as it is. */
static inline edge_dtype ew_widened(edge_dtype dtype) {
    return !ew_is_small(dtype) ? dtype : (int)dtype == EW_U4 || (int)dtype == EW_U2 ? EDGE_U8 : EDGE_S8;
}
/* What a whole number of at most 8 bits counts from, when it has no sign. */
static inline unsigned ew_middle(edge_dtype dtype) { return 1u << (ew_dtype_bits(dtype) - 1); }
/* Element i of a small dtype. */
int ew_small_at(edge_dtype dtype, const void *data, size_t i);
/* All of them, one a byte, in an arena's memory; NULL when there is none. */
void *ew_widen(ew_arena *arena, edge_dtype dtype, const void *from, size_t count);
/* numpy's name of a dtype, "dtype 23" style text for others is made by the caller. */
const char *ew_dtype_name(edge_dtype dtype);

/* Sets of dtypes. */
#define EW_T(dtype) (1u << (dtype))
#define EW_FLOATS (EW_T(EDGE_F16) | EW_T(EDGE_F32) | EW_T(EDGE_F64))
#define EW_SIGNED (EW_T(EDGE_S8) | EW_T(EDGE_S16) | EW_T(EDGE_S32) | EW_T(EDGE_S64))
#define EW_UNSIGNED (EW_T(EDGE_U8) | EW_T(EDGE_U16) | EW_T(EDGE_U32) | EW_T(EDGE_U64))
#define EW_INTEGERS (EW_SIGNED | EW_UNSIGNED)
#define EW_NUMBERS (EW_FLOATS | EW_INTEGERS)
#define EW_8_BITS (EW_T(EDGE_U8) | EW_T(EDGE_S8))
#define EW_ALL (EW_NUMBERS | EW_T(EDGE_BOOL))

/* IEEE binary16; rounds to nearest even, keeps NaN and infinity. */
static inline float ew_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu, bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000u | (mantissa << 13);
    } else if (exponent) {
        bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else if (mantissa) {
        int shift = __builtin_clz(mantissa) - 21;
        bits = sign | ((uint32_t)(113 - shift) << 23) | ((mantissa << (13 + shift)) & 0x7fffffu);
    } else {
        bits = sign;
    }
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint16_t ew_f32_to_f16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x33000000u) return (uint16_t)sign;
    uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    int exponent = (int)(magnitude >> 23) - 112, drop = exponent > 0 ? 13 : 14 - exponent;
    uint32_t half = 1u << (drop - 1), kept = mantissa >> drop, rest = mantissa & ((1u << drop) - 1);
    if (rest > half || (rest == half && (kept & 1))) kept++;
    return (uint16_t)(sign | (exponent > 0 ? ((uint32_t)(exponent - 1) << 10) + kept : kept));
}

#endif
