/* Files of the system; CMake takes the one file beside this that has them, or the one that has none. */
#ifndef EW_FILES_H
#define EW_FILES_H

#include "blob.h"

/* A whole file, mapped. */
edge_status ew_blob_of_file(const char *path, ew_blob *result);
bool ew_is_folder(const char *path);

#endif
