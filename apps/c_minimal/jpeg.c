#include "jpeg.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#define EXIF_MARKER (JPEG_APP0 + 1)
#define ORIENTATION_TAG 0x0112

/* A file that is being read; of what changes between setjmp and longjmp nothing is a local variable. */
typedef struct reader {
    struct jpeg_decompress_struct decoder;
    struct jpeg_error_mgr errors;
    jmp_buf failed;
    edge_photo photo;
    uint8_t *pixels;
} reader;

static char problem[JMSG_LENGTH_MAX];

/* libjpeg hands fatal errors to a function that must not return. */
static void fail(j_common_ptr decoder) {
    decoder->err->format_message(decoder, problem);
    longjmp(((reader *)decoder->client_data)->failed, 1);
}

static unsigned number(const JOCTET *at, int bytes, int big_endian) {
    unsigned value = 0;
    for (int i = 0; i < bytes; i++) value |= (unsigned)at[i] << 8 * (big_endian ? bytes - 1 - i : i);
    return value;
}

/* The orientation in the first directory of an EXIF marker, 0 where there is none. */
static uint32_t orientation_of(const JOCTET *data, size_t bytes) {
    if (bytes < 14 || memcmp(data, "Exif\0\0", 6) != 0) return 0;
    const JOCTET *tiff = data + 6;
    size_t left = bytes - 6;
    int big = tiff[0] == 'M';
    size_t directory = number(tiff + 4, 4, big);
    if (directory > left - 2) return 0;
    unsigned entries = number(tiff + directory, 2, big);
    for (size_t at = directory + 2; entries > 0 && at + 12 <= left; entries--, at += 12)
        if (number(tiff + at, 2, big) == ORIENTATION_TAG) return number(tiff + at + 8, 2, big);
    return 0;
}

static uint32_t find_orientation(const struct jpeg_decompress_struct *decoder) {
    uint32_t found = 0;
    for (jpeg_saved_marker_ptr marker = decoder->marker_list; marker && !found; marker = marker->next)
        if (marker->marker == EXIF_MARKER) found = orientation_of(marker->data, marker->data_length);
    return found;
}

/* What libjpeg can turn the file's colours into, and what the engine calls that. */
static edge_pixel choose_pixel(struct jpeg_decompress_struct *decoder) {
    J_COLOR_SPACE given = decoder->jpeg_color_space;
    int inks = given == JCS_CMYK || given == JCS_YCCK, gray = given == JCS_GRAYSCALE;
    decoder->out_color_space = inks ? JCS_CMYK : gray ? JCS_GRAYSCALE : JCS_RGB;
    return inks ? EDGE_CMYK : gray ? EDGE_GRAY : EDGE_RGB;
}

static void start(reader *r, FILE *file) {
    struct jpeg_decompress_struct *decoder = &r->decoder;
    edge_photo *photo = &r->photo;
    jpeg_stdio_src(decoder, file);
    jpeg_save_markers(decoder, EXIF_MARKER, 0xffff);
    jpeg_read_header(decoder, TRUE);
    *photo = (edge_photo){.struct_size = sizeof *photo, .pixel = choose_pixel(decoder)};
    jpeg_start_decompress(decoder);
    photo->width = (int32_t)decoder->output_width;
    photo->height = (int32_t)decoder->output_height;
    photo->row_bytes = (size_t)decoder->output_width * (size_t)decoder->output_components;
    photo->bytes = photo->row_bytes * decoder->output_height;
    photo->orientation = find_orientation(decoder);
}

static const char *decode(reader *r, FILE *file) {
    if (setjmp(r->failed)) return problem;
    start(r, file);
    r->pixels = malloc(r->photo.bytes);
    if (!r->pixels) return "not enough memory for the photo";
    while (r->decoder.output_scanline < r->decoder.output_height) {
        JSAMPROW row = r->pixels + r->photo.row_bytes * r->decoder.output_scanline;
        jpeg_read_scanlines(&r->decoder, &row, 1);
    }
    if (r->photo.pixel == EDGE_CMYK) /* as Adobe writes them: 255 is no ink */
        for (size_t i = 0; i < r->photo.bytes; i++) r->pixels[i] = (uint8_t)(255 - r->pixels[i]);
    return NULL;
}

const char *jpeg_read(const char *path, edge_photo *photo) {
    reader r = {.pixels = NULL};
    FILE *file = fopen(path, "rb");
    if (!file) return strerror(errno);
    r.decoder.err = jpeg_std_error(&r.errors);
    r.decoder.client_data = &r;
    r.errors.error_exit = fail;
    jpeg_create_decompress(&r.decoder);
    const char *wrong = decode(&r, file);
    jpeg_destroy_decompress(&r.decoder);
    fclose(file);
    if (wrong) {
        free(r.pixels);
        return wrong;
    }
    *photo = r.photo;
    photo->data = r.pixels;
    return NULL;
}
