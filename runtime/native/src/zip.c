#include "zip.h"

#include <stdlib.h>

#include "sort.h"
#include "utf8.h"

/* APPNOTE.TXT 6.3, sections 4.3.7, 4.3.12 and 4.3.14 to 4.3.16: signatures, and bytes without what varies. */
enum { LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50, END64 = 0x06064b50, LOCATOR64 = 0x07064b50 };
enum { LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, END64_BYTES = 56, LOCATOR64_BYTES = 20 };
/* Sections 4.4.4 and 4.5.3. */
enum { FLAGS_ENCRYPTED = 0x2041, FLAG_STREAMED = 0x8, FLAG_PATCH = 0x20, FLAG_UTF8 = 0x800, ZIP64_ID = 1 };
#define IN_ZIP64 0xffffffffu
#define LONGEST 0xffffu /* comment, name or extra field */

typedef struct reader {
    ew_read_at read_at;
    void *user;
    uint64_t size, directory_offset, directory_bytes, count;
    uint8_t *scratch; /* room for the end records, later for a local header */
    ew_zip_entry *entries;
} reader;

/* What the directory and the local header both say of an entry. */
typedef struct header {
    uint16_t flags, method;
    uint32_t crc;
    uint64_t stored_bytes, bytes;
    size_t name_bytes, extra_bytes;
} header;

static uint16_t u16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static uint32_t u32(const uint8_t *at) { return u16(at) | (uint32_t)u16(at + 2) << 16; }
static uint64_t u64(const uint8_t *at) { return u32(at) | (uint64_t)u32(at + 4) << 32; }

static edge_status refuse(const char *problem) { return ew_fail(EDGE_INVALID_MODEL, "the archive %s", problem); }

static edge_status refuse_entry(const char *name, const char *problem) {
    return ew_fail(EDGE_INVALID_MODEL, "the archive's entry \"%s\" %s", name, problem);
}

static edge_status read_bytes(const reader *r, uint64_t offset, void *into, size_t bytes) {
    if (offset > r->size || bytes > r->size - offset) return refuse("is cut off");
    return bytes ? r->read_at(r->user, offset, into, bytes) : EDGE_OK;
}

/* Moves *end from the locator, which lies before the end record, to the zip64 end record. */
static edge_status read_end64(reader *r, const uint8_t *locator, uint64_t *end) {
    uint8_t record[END64_BYTES];
    uint64_t offset = u64(locator + 8);
    if (*end < END64_BYTES || offset > *end - END64_BYTES) return refuse("has no zip64 end record");
    EW_TRY(read_bytes(r, offset, record, sizeof record));
    if (u32(record) != END64 || u64(record + 4) != *end - offset - 12) return refuse("has no zip64 end record");
    if (u32(locator + 4) || u32(locator + 16) > 1 || u32(record + 16) || u32(record + 20) ||
        u64(record + 24) != u64(record + 32))
        return refuse("is spread over several disks");
    r->count = u64(record + 32);
    r->directory_bytes = u64(record + 40);
    r->directory_offset = u64(record + 48);
    *end = offset;
    return EDGE_OK;
}

/* at lies in the scratch, offset is its place in the archive. */
static edge_status read_end(reader *r, const uint8_t *at, uint64_t offset) {
    if (u16(at + 4) || u16(at + 6) || u16(at + 8) != u16(at + 10)) return refuse("is spread over several disks");
    r->count = u16(at + 10);
    r->directory_bytes = u32(at + 12);
    r->directory_offset = u32(at + 16);
    if (offset >= LOCATOR64_BYTES && u32(at - LOCATOR64_BYTES) == LOCATOR64) {
        offset -= LOCATOR64_BYTES;
        EW_TRY(read_end64(r, at - LOCATOR64_BYTES, &offset));
    }
    if (r->directory_offset > offset || r->directory_bytes != offset - r->directory_offset)
        return refuse("has a directory that does not lie before its end record");
    return EDGE_OK;
}

/* The end record is the last one whose comment reaches to the last byte. */
static edge_status find_end(reader *r) {
    size_t most = LOCATOR64_BYTES + END_BYTES + LONGEST, bytes = r->size < most ? (size_t)r->size : most;
    EW_TRY(read_bytes(r, r->size - bytes, r->scratch, bytes));
    for (size_t comment = 0; comment <= LONGEST && comment + END_BYTES <= bytes; comment++) {
        const uint8_t *at = r->scratch + bytes - comment - END_BYTES;
        if (u32(at) == END && u16(at + 20) == comment) return read_end(r, at, r->size - comment - END_BYTES);
    }
    return refuse("is no zip file, is cut off, or has something behind it");
}

/* Relative, '/' between its parts, none of them empty, "." or ".." (BUNDLE.md, "Folder"). */
static bool is_inside(const uint8_t *name, size_t bytes, bool utf8) {
    size_t part = 0;  /* bytes of the part so far */
    bool dots = true; /* they are all dots */
    for (size_t at = 0, length; at < bytes; at += length) {
        length = ew_utf8_bytes(name + at, bytes - at);
        if (!length || (length > 1 && !utf8) || name[at] == 0 || name[at] == '\\' || name[at] == ':') return false;
        if (name[at] == '/' && dots && part <= 2) return false;
        dots = name[at] == '/' || (dots && name[at] == '.');
        part = name[at] == '/' ? 0 : part + length;
    }
    return !(dots && part <= 2);
}

/* From the flags on, where both headers are alike. */
static header read_header(const uint8_t *at) {
    return (header){u16(at), u16(at + 2), u32(at + 8), u32(at + 12), u32(at + 16), u16(at + 20), u16(at + 22)};
}

/* Replaces each value that is all ones by the next one in the zip64 field; false if an extra field is broken. */
static bool read_zip64(const uint8_t *extra, size_t bytes, uint64_t **values, size_t count) {
    const uint8_t *field = NULL, *end = extra + bytes;
    size_t room = 0;
    for (size_t length; !field && end - extra >= 4; extra += 4 + length) {
        length = u16(extra + 2);
        if (length > (size_t)(end - extra) - 4) return false;
        if (u16(extra) == ZIP64_ID) field = extra + 4, room = length;
    }
    for (size_t i = 0; i < count; i++) {
        if (*values[i] != IN_ZIP64) continue;
        if (room < 8) return false;
        *values[i] = u64(field);
        field += 8, room -= 8;
    }
    return true;
}

static edge_status check_stored(const header *h, const char *name) {
    if (h->flags & FLAGS_ENCRYPTED) return refuse_entry(name, "is encrypted");
    if (h->method || h->flags & FLAG_PATCH) return refuse_entry(name, "is compressed, expected stored");
    return h->stored_bytes == h->bytes ? EDGE_OK : refuse_entry(name, "has a stored size that is not its size");
}

/* Its name moves to the front to have room for a terminator; its offset is that of the local header. */
static edge_status read_central(uint8_t **next, const uint8_t *end, ew_zip_entry *entry) {
    uint8_t *at = *next, *name = at + CENTRAL_BYTES;
    if (end - at < CENTRAL_BYTES || u32(at) != CENTRAL) return refuse("has a broken directory");
    header h = read_header(at + 8);
    uint64_t disk = u16(at + 34), offset = u32(at + 42), *values[] = {&h.bytes, &h.stored_bytes, &offset};
    size_t varying = h.name_bytes + h.extra_bytes + u16(at + 32);
    if (varying > (size_t)(end - name) || !read_zip64(name + h.name_bytes, h.extra_bytes, values, 3))
        return refuse("has a broken directory");
    if (disk) return refuse("is spread over several disks");
    if (!is_inside(name, h.name_bytes, h.flags & FLAG_UTF8))
        return refuse("has an entry whose name is not that of a file inside a bundle");
    *next = name + varying;
    memmove(at, name, h.name_bytes);
    at[h.name_bytes] = 0;
    *entry = (ew_zip_entry){(const char *)at, offset, h.bytes, h.crc};
    return check_stored(&h, entry->name);
}

/* Moves the entry's offset on to its data. */
static edge_status read_local(const reader *r, ew_zip_entry *entry) {
    uint8_t *at = r->scratch, *name = at + LOCAL_BYTES;
    EW_TRY(read_bytes(r, entry->offset, at, LOCAL_BYTES));
    header h = read_header(at + 6);
    if (u32(at) != LOCAL || h.name_bytes != strlen(entry->name))
        return refuse_entry(entry->name, "is not where the directory says");
    EW_TRY(read_bytes(r, entry->offset + LOCAL_BYTES, name, h.name_bytes + h.extra_bytes));
    uint64_t *values[] = {&h.bytes, &h.stored_bytes};
    if (memcmp(name, entry->name, h.name_bytes) || !read_zip64(name + h.name_bytes, h.extra_bytes, values, 2))
        return refuse_entry(entry->name, "has another name or broken fields where it lies");
    EW_TRY(check_stored(&h, entry->name));
    bool follow = h.flags & FLAG_STREAMED && h.bytes == 0; /* the sizes follow the data */
    if (h.bytes != entry->bytes && !follow) return refuse_entry(entry->name, "has another size where it lies");
    entry->offset += LOCAL_BYTES + h.name_bytes + h.extra_bytes;
    return EDGE_OK;
}

static edge_status read_directory(reader *r, ew_arena *arena) {
    if (r->count > EW_ZIP_MAX_ENTRIES || r->directory_bytes > EW_ZIP_MAX_DIRECTORY_BYTES)
        return refuse("has more than 65536 entries or 64 MiB of directory");
    uint8_t *next = ew_arena_get(arena, (size_t)r->directory_bytes);
    r->entries = next ? ew_arena_get(arena, (size_t)r->count * sizeof *r->entries) : NULL;
    if (!r->entries) return EDGE_NO_MEMORY;
    const uint8_t *end = next + r->directory_bytes;
    EW_TRY(read_bytes(r, r->directory_offset, next, (size_t)r->directory_bytes));
    for (size_t i = 0; i < r->count; i++) EW_TRY(read_central(&next, end, &r->entries[i]));
    return next == end ? EDGE_OK : refuse("has more in its directory than it counts");
}

static int compare_offsets(const void *a, const void *b) {
    uint64_t one = ((const ew_zip_entry *)a)->offset, two = ((const ew_zip_entry *)b)->offset;
    return (one > two) - (one < two);
}

/* Front to back, so that the header of each must lie behind the data of the one before. */
static edge_status find_data(const reader *r) {
    ew_sort(r->entries, (size_t)r->count, sizeof *r->entries, compare_offsets);
    uint64_t used = 0;
    for (size_t i = 0; i < r->count; i++) {
        ew_zip_entry *entry = &r->entries[i];
        if (entry->offset < used) return refuse_entry(entry->name, "overlaps another one");
        EW_TRY(read_local(r, entry));
        if (entry->offset > r->directory_offset || entry->bytes > r->directory_offset - entry->offset)
            return refuse_entry(entry->name, "reaches into the directory");
        used = entry->offset + entry->bytes;
    }
    return EDGE_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const ew_zip_entry *)a)->name, ((const ew_zip_entry *)b)->name);
}

static edge_status sort_names(const reader *r) {
    ew_sort(r->entries, (size_t)r->count, sizeof *r->entries, compare_names);
    for (size_t i = 1; i < r->count; i++)
        if (compare_names(&r->entries[i - 1], &r->entries[i]) == 0)
            return refuse_entry(r->entries[i].name, "occurs twice");
    return EDGE_OK;
}

edge_status ew_zip_open(ew_read_at read_at, void *user, uint64_t size, ew_arena *arena, ew_zip *zip) {
    reader r = {.read_at = read_at, .user = user, .size = size};
    r.scratch = ew_arena_get(arena, LOCAL_BYTES + 2 * LONGEST);
    if (!r.scratch) return EDGE_NO_MEMORY;
    EW_TRY(find_end(&r));
    EW_TRY(read_directory(&r, arena));
    EW_TRY(find_data(&r));
    EW_TRY(sort_names(&r));
    *zip = (ew_zip){r.entries, (size_t)r.count};
    return EDGE_OK;
}

const ew_zip_entry *ew_zip_find(const ew_zip *zip, const char *name) {
    ew_zip_entry key = {.name = name};
    return zip->count ? bsearch(&key, zip->entries, zip->count, sizeof key, compare_names) : NULL;
}
