#include "files.h"

edge_status ew_blob_of_file(const char *path, ew_blob *result) {
    (void)result;
    return ew_fail(EDGE_UNSUPPORTED, "'%s': this build has no files; open the model from memory", path);
}

bool ew_is_folder(const char *path) {
    (void)path;
    return false;
}
