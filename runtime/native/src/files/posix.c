#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"

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
