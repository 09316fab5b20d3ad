#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "sort.h"
#include "utf8.h"

struct ew_json {
    const char *name; /* in an object, else NULL */
    union {
        const ew_json *items;
        const char *text;
        int64_t integer;
        double real;
    };
    size_t count; /* of items */
    ew_json_type type;
};

_Static_assert(sizeof(ew_json) <= EW_SORT_BYTES, "members are sorted");

/* Values that are in no finished container are a stack that grows up from nodes[0], the root; the items of finished
 * containers grow down from the end of nodes to nodes[placed].  Each value is in one of the two. */
typedef struct reader {
    const uint8_t *start, *at, *end;
    ew_json *nodes;
    size_t stacked, placed;
    char *strings; /* room for decoded text */
    int depth;
} reader;

#define EXPONENT_BYTES 24 /* "e", a long long and the terminator */
#define EXPONENT_LIMIT (INT64_MAX / 2)

static edge_status fail_with(const reader *r, const char *problem, const char *name) {
    size_t line = 1, column = 1;
    for (const uint8_t *at = r->start; at < r->at; at++) {
        if (*at == '\n') line++;
        column = *at == '\n' ? 1 : column + ((*at & 0xc0) != 0x80);
    }
    return ew_fail(EDGE_INVALID_MODEL, "JSON, line %zu column %zu: %s%s", line, column, problem, name);
}

static edge_status fail(const reader *r, const char *problem) { return fail_with(r, problem, ""); }

/* The next byte, -1 at the end. */
static int peek(const reader *r) { return r->at < r->end ? *r->at : -1; }

static bool accept(reader *r, char byte) {
    bool same = peek(r) == byte;
    r->at += same;
    return same;
}

static void skip_space(reader *r) {
    while (accept(r, ' ') || accept(r, '\n') || accept(r, '\t') || accept(r, '\r')) {}
}

/* At least as many as there are values. */
static size_t count_values(const uint8_t *text, size_t bytes) {
    size_t count = 1;
    bool quoted = false;
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '"') quoted = !quoted;
        if (quoted) i += text[i] == '\\';
        else count += text[i] == '[' || text[i] == ',' || text[i] == ':';
    }
    return count;
}

static bool hex4(reader *r, uint32_t *code) {
    static const char DIGITS[] = "0123456789abcdefABCDEF";
    *code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char *digit = peek(r) > 0 ? strchr(DIGITS, peek(r)) : NULL;
        if (!digit) return false;
        *code = *code << 4 | (uint32_t)(digit - DIGITS < 16 ? digit - DIGITS : digit - DIGITS - 6);
    }
    return true;
}

static edge_status unicode_escape(reader *r) {
    uint32_t code, low;
    if (!hex4(r, &code)) return fail(r, "expected a hexadecimal digit");
    if (code == 0) return fail(r, "a string has a zero character");
    if (code >= 0xdc00 && code < 0xe000) return fail(r, "a surrogate pair lacks its first half");
    if (code >= 0xd800 && code < 0xdc00) {
        if (!accept(r, '\\') || !accept(r, 'u') || !hex4(r, &low) || low < 0xdc00 || low > 0xdfff)
            return fail(r, "a surrogate pair lacks its second half");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    r->strings = ew_utf8_put(r->strings, code);
    return EDGE_OK;
}

static edge_status escape(reader *r) {
    static const char LETTERS[] = "\"\\/bfnrt", MEANINGS[] = "\"\\/\b\f\n\r\t";
    if (accept(r, 'u')) return unicode_escape(r);
    const char *letter = peek(r) > 0 ? strchr(LETTERS, peek(r)) : NULL;
    if (!letter) return fail(r, "expected one of \" \\ / b f n r t u after \\");
    *r->strings++ = MEANINGS[letter - LETTERS];
    r->at++;
    return EDGE_OK;
}

static edge_status parse_string(reader *r, const char **text) {
    if (!accept(r, '"')) return fail(r, "expected a string");
    *text = r->strings;
    while (!accept(r, '"')) {
        if (peek(r) < 0x20) return fail(r, "expected the string to go on; control characters are written as \\u00..");
        if (accept(r, '\\')) {
            EW_TRY(escape(r));
            continue;
        }
        size_t length = ew_utf8_bytes(r->at, (size_t)(r->end - r->at));
        if (!length) return fail(r, "expected UTF-8");
        for (; length; length--) *r->strings++ = (char)*r->at++;
    }
    *r->strings++ = 0;
    return EDGE_OK;
}

static bool skip_digits(reader *r) {
    const uint8_t *first = r->at;
    while (peek(r) >= '0' && peek(r) <= '9') r->at++;
    return r->at > first;
}

/* Leaves the reader behind the number. */
static edge_status check_number(reader *r) {
    if (!accept(r, '-') && (peek(r) < '0' || peek(r) > '9')) return fail(r, "expected a value");
    if (!accept(r, '0') && !skip_digits(r)) return fail(r, "expected a digit");
    bool fraction = accept(r, '.');
    if (fraction && !skip_digits(r)) return fail(r, "expected a digit after the decimal point");
    bool power = accept(r, 'e') || accept(r, 'E');
    if (power && !accept(r, '+')) accept(r, '-');
    if (power && !skip_digits(r)) return fail(r, "expected a digit of the exponent");
    return EDGE_OK;
}

/* Of a number in the strings.  The point moves into the exponent (1.5e3: 15e2), as strtod expects the locale's. */
static double to_real(char *number) {
    char *power = number + strcspn(number, "eE"), *point = strchr(number, '.');
    long long exponent = *power ? strtoll(power + 1, NULL, 10) : 0;
    if (exponent > EXPONENT_LIMIT) exponent = EXPONENT_LIMIT;
    if (exponent < -EXPONENT_LIMIT) exponent = -EXPONENT_LIMIT;
    if (point) {
        exponent -= power - point - 1;
        memmove(point, point + 1, (size_t)(power - point - 1));
        power--;
    }
    snprintf(power, EXPONENT_BYTES, "e%lld", exponent);
    return strtod(number, NULL);
}

static edge_status parse_number(reader *r, ew_json *node) {
    const uint8_t *start = r->at;
    EW_TRY(check_number(r));
    memcpy(r->strings, start, (size_t)(r->at - start));
    r->strings[r->at - start] = 0;
    errno = 0;
    node->type = EW_JSON_INTEGER;
    node->integer = strtoll(r->strings, NULL, 10);
    if (errno == 0 && !strpbrk(r->strings, ".eE")) return EDGE_OK;
    node->type = EW_JSON_REAL;
    node->real = to_real(r->strings);
    return isfinite(node->real) ? EDGE_OK : fail(r, "no double can hold this number");
}

static edge_status parse_word(reader *r, ew_json *node, const char *word, ew_json_type type) {
    node->type = type;
    for (const char *letter = word; *letter; letter++)
        if (!accept(r, *letter)) return fail_with(r, "expected ", word);
    return EDGE_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const ew_json *)a)->name, ((const ew_json *)b)->name);
}

/* The values on the stack behind a container become its items. */
static edge_status finish(reader *r, ew_json *container) {
    size_t count = (size_t)(r->nodes + r->stacked - container) - 1;
    r->stacked -= count;
    r->placed -= count;
    ew_json *items = r->nodes + r->placed;
    memmove(items, r->nodes + r->stacked, count * sizeof *items);
    container->items = items;
    container->count = count;
    if (container->type == EW_JSON_ARRAY) return EDGE_OK;
    ew_sort(items, count, sizeof *items, compare_names);
    for (size_t i = 1; i < count; i++)
        if (compare_names(items + i - 1, items + i) == 0)
            return fail_with(r, "the object that ends here has one name twice: ", items[i].name);
    return EDGE_OK;
}

static edge_status parse_value(reader *r, const char *name);

static edge_status parse_member(reader *r) {
    const char *name;
    skip_space(r);
    EW_TRY(parse_string(r, &name));
    skip_space(r);
    return accept(r, ':') ? parse_value(r, name) : fail(r, "expected ':'");
}

static edge_status parse_container(reader *r, ew_json *node) {
    bool object = peek(r) == '{';
    char last = object ? '}' : ']';
    node->type = object ? EW_JSON_OBJECT : EW_JSON_ARRAY;
    if (r->depth++ == EW_JSON_MAX_DEPTH) return fail(r, "arrays and objects are nested too deeply");
    r->at++;
    skip_space(r);
    if (peek(r) != last) {
        do {
            EW_TRY(object ? parse_member(r) : parse_value(r, NULL));
        } while (accept(r, ','));
    }
    if (!accept(r, last)) return fail(r, object ? "expected ',' or '}'" : "expected ',' or ']'");
    r->depth--;
    return finish(r, node);
}

/* Pushes a value and skips the space around it. */
static edge_status parse_value(reader *r, const char *name) {
    ew_json *node = &r->nodes[r->stacked++];
    *node = (ew_json){.name = name};
    skip_space(r);
    switch (peek(r)) {
    case '{':
    case '[': EW_TRY(parse_container(r, node)); break;
    case '"': EW_TRY(parse_string(r, &node->text)); node->type = EW_JSON_STRING; break;
    case 'n': EW_TRY(parse_word(r, node, "null", EW_JSON_NULL)); break;
    case 'f': EW_TRY(parse_word(r, node, "false", EW_JSON_FALSE)); break;
    case 't': EW_TRY(parse_word(r, node, "true", EW_JSON_TRUE)); break;
    default: EW_TRY(parse_number(r, node));
    }
    skip_space(r);
    return EDGE_OK;
}

edge_status ew_json_parse(const char *text, size_t bytes, ew_arena *arena, const ew_json **root) {
    const uint8_t *start = (const uint8_t *)text;
    reader r = {.start = start, .at = start, .end = start + bytes, .placed = count_values(start, bytes)};
    size_t node_bytes;
    if (!ew_mul(r.placed, sizeof *r.nodes, &node_bytes)) node_bytes = SIZE_MAX;
    r.nodes = ew_arena_get(arena, node_bytes);
    /* Decoded text is never longer than what was read, but for the exponent that a number may get while it is read. */
    r.strings = r.nodes ? ew_arena_get(arena, bytes + EXPONENT_BYTES) : NULL;
    if (!r.strings) return EDGE_NO_MEMORY;
    EW_TRY(parse_value(&r, NULL));
    if (r.at < r.end) return fail(&r, "expected the end of the text");
    *root = r.nodes;
    return EDGE_OK;
}

ew_json_type ew_json_type_of(const ew_json *value) { return value ? value->type : EW_JSON_ABSENT; }

size_t ew_json_count(const ew_json *value) { return value ? value->count : 0; }

const ew_json *ew_json_at(const ew_json *value, size_t index) {
    return index < ew_json_count(value) ? &value->items[index] : NULL;
}

const char *ew_json_name(const ew_json *value) { return value ? value->name : NULL; }

const ew_json *ew_json_get(const ew_json *object, const char *name) {
    ew_json key = {.name = name};
    if (ew_json_type_of(object) != EW_JSON_OBJECT || !object->count) return NULL;
    return bsearch(&key, object->items, object->count, sizeof key, compare_names);
}

bool ew_json_string(const ew_json *value, const char **text) {
    bool is = ew_json_type_of(value) == EW_JSON_STRING;
    if (is) *text = value->text;
    return is;
}

bool ew_json_int(const ew_json *value, int64_t *integer) {
    bool is = ew_json_type_of(value) == EW_JSON_INTEGER;
    if (is) *integer = value->integer;
    return is;
}

bool ew_json_number(const ew_json *value, double *number) {
    bool whole = ew_json_type_of(value) == EW_JSON_INTEGER, is = whole || ew_json_type_of(value) == EW_JSON_REAL;
    if (is) *number = whole ? (double)value->integer : value->real;
    return is;
}
