/* The little of the C library's text that the engine uses, in place of the C library's: those bring 128-bit floating
 * arithmetic with them, which is a tenth of the module. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct text {
    char *at;
    size_t room, length; /* length: of the whole, also where it does not fit */
} text;

static void put(text *t, const char *from, size_t count) {
    for (size_t i = 0; i < count; i++, t->length++)
        if (t->length + 1 < t->room) t->at[t->length] = from[i];
}

static void put_unsigned(text *t, uint64_t value) {
    char digits[20];
    size_t first = sizeof digits;
    do digits[--first] = (char)('0' + value % 10);
    while (value /= 10);
    put(t, digits + first, sizeof digits - first);
}

static void put_signed(text *t, int64_t value) {
    if (value < 0) put(t, "-", 1);
    put_unsigned(t, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

/* As %g: six significant digits without zeros at their end, an exponent below -4 and from 6 on. */
static void put_real(text *t, double value) {
    if (value != value) return put(t, "nan", 3);
    if (value < 0) put(t, "-", 1), value = -value;
    if (value > 1.7976931348623157e308) return put(t, "inf", 3);
    if (value == 0) return put(t, "0", 1);
    char digits[6];
    int power = 5, count = 6; /* power: of the first digit */
    for (; value >= 999999.5; power++) value /= 10;
    for (; value < 99999.95; power--) value *= 10;
    uint64_t whole = (uint64_t)rint(value);
    for (int i = 5; i >= 0; i--, whole /= 10) digits[i] = (char)('0' + whole % 10);
    while (count > 1 && digits[count - 1] == '0') count--;
    bool scientific = power < -4 || power > 5;
    int before = scientific ? 1 : power + 1; /* digits before the point */
    if (before <= 0) put(t, "0.0000", (size_t)(2 - before));
    for (int i = 0; i < count || i < before; i++) {
        if (i == before && before > 0) put(t, ".", 1);
        put(t, i < count ? digits + i : "0", 1);
    }
    if (!scientific) return;
    put(t, power < 0 ? "e-" : "e+", 2);
    if (power > -10 && power < 10) put(t, "0", 1);
    put_unsigned(t, (uint64_t)(power < 0 ? -power : power));
}

/* %s %d %u %lld %llu %zu %g %% and a precision of %s. */
int vsnprintf(char *into, size_t room, const char *format, va_list values) {
    text t = {into, room, 0};
    for (; *format; format++) {
        const char *percent = strchr(format, '%');
        size_t plain = percent ? (size_t)(percent - format) : strlen(format);
        put(&t, format, plain);
        format += plain;
        if (!percent) break;
        size_t most = SIZE_MAX;
        if (*++format == '.') most = (size_t)strtoll(format + 1, (char **)(uintptr_t)&format, 10);
        int longs = 0;
        for (; *format == 'l'; format++) longs++;
        if (*format == 'z') format++;
        switch (*format) {
        case 's': {
            const char *string = va_arg(values, const char *);
            put(&t, string, strnlen(string, most));
            break;
        }
        case 'd': put_signed(&t, longs > 1 ? va_arg(values, long long) : va_arg(values, int)); break;
        case 'u': put_unsigned(&t, longs > 1 ? va_arg(values, unsigned long long) : va_arg(values, unsigned)); break;
        case 'g': put_real(&t, va_arg(values, double)); break;
        default: put(&t, format, 1);
        }
    }
    if (room) into[t.length < room ? t.length : room - 1] = 0;
    return (int)t.length;
}

int snprintf(char *into, size_t room, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int length = vsnprintf(into, room, format, values);
    va_end(values);
    return length;
}

/* Decimal digits after an optional sign. */
long long strtoll(const char *from, char **end, int base) {
    (void)base;
    const char *at = from + (*from == '-' || *from == '+');
    bool negative = *from == '-';
    uint64_t value = 0, most = (uint64_t)INT64_MAX + negative;
    for (; *at >= '0' && *at <= '9'; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (value > (most - digit) / 10) errno = ERANGE, value = most;
        else value = value * 10 + digit;
    }
    if (end) *end = (char *)(uintptr_t)at;
    return (long long)(negative ? 0 - value : value);
}

/* Of a JSON number: exact where it has at most 15 digits and a power of ten up to 22 (Clinger, 1990), else within a few
 * units of the last place. */
double strtod(const char *from, char **end) {
    const char *at = from + (*from == '-');
    double value = 0;
    long long power = 0;
    for (; *at >= '0' && *at <= '9'; at++) value = value * 10 + (*at - '0');
    if (*at == 'e') power = strtoll(at + 1, (char **)(uintptr_t)&at, 10);
    double scale = 1;
    for (long long i = power < 0 ? -power : power; i > 0 && scale < 1e308; i--) scale *= 10;
    value = power < 0 ? value / scale : value * scale;
    if (end) *end = (char *)(uintptr_t)at;
    return *from == '-' ? -value : value;
}
