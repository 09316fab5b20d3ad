/* UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef EW_UTF8_H
#define EW_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at the front of some bytes, 0 when it is malformed or cut off. */
static inline size_t ew_utf8_bytes(const uint8_t *at, size_t bytes) {
    static const uint32_t LEAST[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = *at < 0x80 ? 1 : *at < 0xc0 ? 0 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : *at < 0xf8 ? 4 : 0;
    if (length < 2) return length;
    if (length > bytes) return 0;
    uint32_t code = *at & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (at[i] & 0x3fu);
    }
    return code >= LEAST[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? length : 0;
}

/* Writes a character that is no surrogate and at most U+10FFFF; returns what lies behind it. */
static inline char *ew_utf8_put(char *to, uint32_t code) {
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; code >>= 6) to[i] = (char)(0x80 | (code & 0x3f));
    *to = (char)(length == 1 ? code : (0xf00u >> length & 0xf0) | code);
    return to + length;
}

#endif
