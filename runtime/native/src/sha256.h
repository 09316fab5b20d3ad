/* SHA-256 (FIPS 180-4), by the processor's own instructions where it has them. */
#ifndef EW_SHA256_H
#define EW_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EW_SHA256_BLOCK 64

/* FIPS 180-4, 4.2.2. */
extern const uint32_t ew_sha256_k[64];

/* Mixes whole blocks into the state. */
typedef void (*ew_sha256_mix)(uint32_t state[8], const uint8_t *data, size_t blocks);

typedef struct ew_sha256 {
    ew_sha256_mix mix;
    uint64_t bytes; /* added so far */
    uint32_t state[8];
    uint8_t rest[EW_SHA256_BLOCK]; /* bytes % EW_SHA256_BLOCK bytes that fill no block yet */
} ew_sha256;

void ew_sha256_init(ew_sha256 *hash);
void ew_sha256_add(ew_sha256 *hash, const void *data, size_t bytes);
/* The hash must be initialized again before more is added. */
void ew_sha256_finish(ew_sha256 *hash, uint8_t digest[32]);
/* Lower-case and zero-terminated. */
void ew_sha256_hex(const uint8_t digest[32], char hex[65]);
/* Whether this processor has no instructions for it, or they are not used. */
bool ew_sha256_is_portable(void);
/* For tests: hashes that are initialized from now on use no special instructions (true) or may again (false). */
void ew_sha256_force_portable(bool portable);

#endif
