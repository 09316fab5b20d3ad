#include "blob.h"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define HAVE_FILES 1
#endif

edge_status ew_blob_get(const edge_source *source, uint64_t offset, uint64_t bytes, ew_arena *arena, ew_blob *result) {
    if (offset > source->bytes || bytes > source->bytes - offset || bytes > SIZE_MAX)
        return ew_fail(EDGE_INVALID_MODEL, "bytes %llu to %llu are beyond the end of the file",
                       (unsigned long long)offset, (unsigned long long)(offset + bytes));
    const void *mapped = source->map ? source->map(source->user, offset, (size_t)bytes) : NULL;
    if (mapped) {
        *result = (ew_blob){mapped, (size_t)bytes, *source};
        return EDGE_OK;
    }
    void *copy = ew_arena_get(arena, (size_t)bytes);
    if (!copy) return EDGE_NO_MEMORY;
    if (bytes && source->read_at(source->user, offset, copy, (size_t)bytes) != EDGE_OK)
        return ew_fail(EDGE_IO, "%llu bytes at %llu cannot be read", (unsigned long long)bytes,
                       (unsigned long long)offset);
    *result = (ew_blob){.data = copy, .bytes = (size_t)bytes};
    return EDGE_OK;
}

void ew_blob_release(ew_blob *bytes) {
    if (bytes->from.release) bytes->from.release(bytes->from.user, bytes->data, bytes->bytes);
    *bytes = (ew_blob){0};
}

static edge_status read_memory(void *user, uint64_t offset, void *into, size_t bytes) {
    memcpy(into, (const uint8_t *)user + offset, bytes);
    return EDGE_OK;
}

static const void *map_memory(void *user, uint64_t offset, size_t bytes) {
    (void)bytes;
    return (const uint8_t *)user + offset;
}

edge_source ew_source_of_memory(const ew_blob *memory) {
    return (edge_source){.struct_size = sizeof(edge_source),
                         .user = (void *)(uintptr_t)memory->data,
                         .bytes = memory->bytes,
                         .read_at = read_memory,
                         .map = map_memory};
}

#ifdef HAVE_FILES
static void unmap(void *user, const void *mapped, size_t bytes) {
    (void)user;
    munmap((void *)(uintptr_t)mapped, bytes);
}

edge_status ew_blob_of_file(const char *path, ew_blob *result) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (file < 0) return ew_fail(EDGE_IO, "'%s' is missing or cannot be opened", path);
    bool plain = fstat(file, &about) == 0 && S_ISREG(about.st_mode);
    size_t bytes = plain ? (size_t)about.st_size : 0;
    void *at = bytes ? mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0) : NULL;
    close(file);
    if (!plain) return ew_fail(EDGE_IO, "'%s' is no plain file", path);
    if (at == MAP_FAILED) return ew_fail(EDGE_IO, "'%s' cannot be mapped", path);
    *result = (ew_blob){.data = at ? at : (const void *)"", .bytes = bytes, .from = {.release = bytes ? unmap : NULL}};
    return EDGE_OK;
}

bool ew_is_folder(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}
#else
edge_status ew_blob_of_file(const char *path, ew_blob *result) {
    (void)result;
    return ew_fail(EDGE_UNSUPPORTED, "'%s': this build has no files; open the model from memory", path);
}

bool ew_is_folder(const char *path) {
    (void)path;
    return false;
}
#endif
