/* Mixes whole blocks of MIX_LANES messages, at[lane], into their states; included once for each number of lanes, with
 * MIX_NAME and MIX_TARGET.  FIPS 180-4, 6.2.2; the message schedule keeps its last sixteen words. */

#define ROTATE(x, bits) ((x) >> (bits) | (x) << (32 - (bits)))

MIX_TARGET static void MIX_NAME(uint32_t *state, const uint8_t *const *at, size_t blocks) {
    typedef uint32_t words __attribute__((vector_size(4 * MIX_LANES)));
    words s[8];
    memcpy(s, state, sizeof s);
    for (size_t from = 0; from < blocks * EW_SHA256_BLOCK; from += EW_SHA256_BLOCK) {
        words w[16], a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        uint32_t word[16][MIX_LANES];
        for (int lane = 0; lane < MIX_LANES; lane++)
            for (int t = 0; t < 16; t++) word[t][lane] = load(at[lane] + from + 4 * t);
        memcpy(w, word, sizeof w);
        for (const uint32_t *k = ew_sha256_k; k < ew_sha256_k + 64; k += 16)
#if defined(__x86_64__) /* elsewhere small code counts for more */
#pragma GCC unroll 16
#endif
            for (int t = 0; t < 16; t++) {
                words one = h + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) + (g ^ (e & (f ^ g))) + k[t] + w[t];
                words two = (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) + ((a & b) | (c & (a | b)));
                words early = w[(t + 1) % 16], late = w[(t + 14) % 16];
                w[t] += (ROTATE(early, 7) ^ ROTATE(early, 18) ^ early >> 3) + w[(t + 9) % 16] +
                        (ROTATE(late, 17) ^ ROTATE(late, 19) ^ late >> 10);
                h = g, g = f, f = e, e = d + one;
                d = c, c = b, b = a, a = one + two;
            }
        s[0] += a, s[1] += b, s[2] += c, s[3] += d, s[4] += e, s[5] += f, s[6] += g, s[7] += h;
    }
    memcpy(state, s, sizeof s);
}

#undef ROTATE
#undef MIX_LANES
#undef MIX_NAME
#undef MIX_TARGET
