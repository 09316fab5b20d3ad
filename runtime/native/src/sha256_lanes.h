/* SHA-256 of the chunks of a file, several at once: each in a lane of vectors.  A processor with instructions for
 * SHA-256 takes one after the other. */
#ifndef EW_SHA256_LANES_H
#define EW_SHA256_LANES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EW_SHA256_CHUNK = 1 << 20, EW_SHA256_MOST_LANES = 16 };

/* Digests of the chunks that data consists of, the last one being shorter; bytes is at least 1 and at most that of
 * EW_SHA256_MOST_LANES chunks. */
void ew_sha256_chunks(const uint8_t *data, size_t bytes, uint8_t digests[][32]);
/* For tests: takes vectors of up to so many lanes from now on, 1: none, 0: the best; false where this machine or build
 * does not have them. */
bool ew_sha256_force_lanes(int lanes);

#endif
