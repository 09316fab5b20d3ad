/* .edgez (runtime/BUNDLE.md): where the files in a zip archive lie.  Nothing is unpacked and no CRC is checked. */
#ifndef EW_ZIP_H
#define EW_ZIP_H

#include "base.h"

#define EW_ZIP_MAX_ENTRIES 65536
#define EW_ZIP_MAX_DIRECTORY_BYTES ((uint64_t)64 << 20)

/* Reads exactly that many bytes; is never asked for bytes beyond the archive's size. */
typedef edge_status (*ew_read_at)(void *user, uint64_t offset, void *into, size_t bytes);

typedef struct ew_zip_entry {
    const char *name;
    uint64_t offset, bytes; /* of the data */
    uint32_t crc;           /* as the directory has it */
} ew_zip_entry;

typedef struct ew_zip {
    const ew_zip_entry *entries; /* in the order of their names' bytes */
    size_t count;
} ew_zip;

/* Everything lies in the arena; *zip is untouched on failure.  EDGE_INVALID_MODEL: not an archive of stored files
 * with distinct names inside a bundle, or one that contradicts itself; other failures are those of read_at. */
edge_status ew_zip_open(ew_read_at read_at, void *user, uint64_t size, ew_arena *arena, ew_zip *zip);
/* NULL when there is none of that name. */
const ew_zip_entry *ew_zip_find(const ew_zip *zip, const char *name);

#endif
