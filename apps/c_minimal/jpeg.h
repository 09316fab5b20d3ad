/* JPEG files as decoded photos, by libjpeg. */
#ifndef JPEG_H
#define JPEG_H

#include <edgewright.h>

/* Reads a file; NULL on success, else what is wrong with it, valid until the next call.  photo->data is the caller's to
 * free. */
const char *jpeg_read(const char *path, edge_photo *photo);

#endif
