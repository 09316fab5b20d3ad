#include "sha256_lanes.h"

#include <stdatomic.h>
#include <string.h>

#include "sha256.h"

static void hash_one(const uint8_t *data, size_t bytes, uint8_t digest[32]) {
    ew_sha256 hash;
    ew_sha256_init(&hash);
    ew_sha256_add(&hash, data, bytes);
    ew_sha256_finish(&hash, digest);
}

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__)
#include "edge_x86.h"
#endif

/* state: word by word, of all lanes. */
typedef void (*mix_lanes)(uint32_t *state, const uint8_t *const *at, size_t blocks);

static uint32_t load(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

#define MIX_LANES 4
#define MIX_NAME mix_4
#define MIX_TARGET
#include "sha256_mix.h"

#if defined(__x86_64__)
#define MIX_LANES 8
#define MIX_NAME mix_8
#define MIX_TARGET __attribute__((target("avx2")))
#include "sha256_mix.h"

/* These rotate in one instruction. */
#define WITH_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define MIX_LANES 4
#define MIX_NAME mix_4_rotating
#define MIX_TARGET WITH_AVX512
#include "sha256_mix.h"

#define MIX_LANES 8
#define MIX_NAME mix_8_rotating
#define MIX_TARGET WITH_AVX512
#include "sha256_mix.h"

#define MIX_LANES 16
#define MIX_NAME mix_16
#define MIX_TARGET WITH_AVX512
#include "sha256_mix.h"
#endif

/* The most lanes that a processor has, 1: one after the other is better. */
static bool has(int most) {
#if defined(__x86_64__)
    if (most == 16) return edge_x86_has(0, EDGE_X86_AVX2 | EDGE_X86_AVX512_F_DQ_BW_VL, 0, EDGE_X86_ZMM);
    if (most == 8) return edge_x86_has(0, EDGE_X86_AVX2, 0, EDGE_X86_YMM);
#endif
    return most == 1 || most == 4;
}

static mix_lanes with_lanes(int most, int lanes) {
#if defined(__x86_64__)
    if (most == 16) return lanes == 16 ? mix_16 : lanes == 8 ? mix_8_rotating : mix_4_rotating;
    if (lanes == 8) return mix_8;
#endif
    (void)most, (void)lanes;
    return mix_4;
}

static atomic_int chosen; /* lanes; 0 until the first chunk */

bool ew_sha256_force_lanes(int lanes) {
    if (lanes && !has(lanes)) return false;
    atomic_store(&chosen, lanes);
    return true;
}

static int choose(void) {
    int lanes = atomic_load(&chosen);
    if (lanes) return lanes;
    lanes = ew_sha256_is_portable() ? EW_SHA256_MOST_LANES : 1;
    while (!has(lanes)) lanes /= 2;
    atomic_store(&chosen, lanes);
    return lanes;
}

/* The rest of a message after the whole blocks that state has seen. */
static void finish(const uint32_t *state, int lanes, int lane, const uint8_t *message, size_t bytes,
                   uint8_t digest[32]) {
    ew_sha256 hash;
    size_t rest = bytes % EW_SHA256_BLOCK;
    ew_sha256_init(&hash);
    hash.bytes = bytes - rest;
    for (int i = 0; i < 8; i++) hash.state[i] = state[i * lanes + lane];
    ew_sha256_add(&hash, message + bytes - rest, rest);
    ew_sha256_finish(&hash, digest);
}

/* Up to so many chunks; the last one leaves its lane first, which then does over what the first lane does. */
static void hash_together(mix_lanes mix, int lanes, const uint8_t *data, size_t bytes, uint8_t digests[][32]) {
    const uint8_t *at[EW_SHA256_MOST_LANES];
    uint32_t state[8 * EW_SHA256_MOST_LANES];
    int last = (int)((bytes - 1) / EW_SHA256_CHUNK);
    size_t last_bytes = bytes - (size_t)last * EW_SHA256_CHUNK, together = last_bytes / EW_SHA256_BLOCK;
    ew_sha256 start;
    ew_sha256_init(&start);
    for (int lane = 0; lane < lanes; lane++) {
        at[lane] = data + (lane <= last ? (size_t)lane * EW_SHA256_CHUNK : 0);
        for (int i = 0; i < 8; i++) state[i * lanes + lane] = start.state[i];
    }
    mix(state, at, together);
    finish(state, lanes, last, at[last], last_bytes, digests[last]);
    at[last] = data;
    for (int lane = 0; lane < lanes; lane++) at[lane] += together * EW_SHA256_BLOCK;
    if (last) mix(state, at, EW_SHA256_CHUNK / EW_SHA256_BLOCK - together);
    for (int lane = 0; lane < last; lane++)
        finish(state, lanes, lane, data + (size_t)lane * EW_SHA256_CHUNK, EW_SHA256_CHUNK, digests[lane]);
}

/* As many chunks as are left, in the fewest lanes that hold them; gives back their bytes. */
static size_t hash_some(const uint8_t *data, size_t bytes, uint8_t digests[][32]) {
    int most = choose(), lanes = 1;
    while (lanes < most && (size_t)lanes * EW_SHA256_CHUNK < bytes) lanes *= lanes == 1 ? 4 : 2;
    size_t room = (size_t)lanes * EW_SHA256_CHUNK, part = bytes < room ? bytes : room;
    if (lanes == 1) hash_one(data, part, *digests);
    else hash_together(with_lanes(most, lanes), lanes, data, part, digests);
    return part;
}

#else
bool ew_sha256_force_lanes(int lanes) { return lanes <= 1; }

static size_t hash_some(const uint8_t *data, size_t bytes, uint8_t digests[][32]) {
    size_t part = bytes < EW_SHA256_CHUNK ? bytes : EW_SHA256_CHUNK;
    hash_one(data, part, *digests);
    return part;
}
#endif

void ew_sha256_chunks(const uint8_t *data, size_t bytes, uint8_t digests[][32]) {
    while (bytes) {
        size_t part = hash_some(data, bytes, digests);
        digests += (part + EW_SHA256_CHUNK - 1) / EW_SHA256_CHUNK;
        data += part;
        bytes -= part;
    }
}
