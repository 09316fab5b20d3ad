/* A photo becomes an input tensor: edge_image_workspace, edge_image_load. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "preprocess.h"

#define MOST_PIXELS (1 << 28) /* of a scaled photo, so that a strip of pixels cannot ask for all memory */
#define MOST_SIDE (1 << 24)
#define MOST_SIZE (1 << 14)

/* Everything that is wrong with an argument, one after the other. */
typedef struct complaints {
    char text[1024];
    size_t length;
} complaints;

__attribute__((format(printf, 3, 4))) static void unless(complaints *list, bool right, const char *format, ...) {
    if (right) return;
    size_t room = sizeof list->text - list->length;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(list->text + list->length, room, format, arguments);
    va_end(arguments);
    if (length > 0) list->length += (size_t)length < room ? (size_t)length : room - 1;
}

static edge_status refuse(const char *name, const complaints *list) {
    return list->length ? ew_fail(EDGE_INVALID_ARGUMENT, "the %s is refused:%s", name, list->text) : EDGE_OK;
}

static edge_status check_image(const edge_image *image) {
    complaints list = {.length = 0};
    unless(&list, image->size >= 1 && image->size <= MOST_SIZE, " size %d is not in 1..%d;", image->size, MOST_SIZE);
    unless(&list, image->resize >= EDGE_NEAREST && image->resize <= EDGE_LANCZOS, " there is no resize %d;",
           (int)image->resize);
    unless(&list, image->layout == EDGE_NCHW || image->layout == EDGE_NHWC, " there is no layout %d;",
           (int)image->layout);
    unless(&list, image->crop > 0 && image->crop <= 1, " crop %g is not in (0, 1];", image->crop);
    unless(&list, image->scale > 0 && isfinite(image->scale), " scale %g is not a positive number;", image->scale);
    for (int c = 0; c < 3; c++) {
        unless(&list, isfinite(image->mean[c]), " mean[%d] %g is not a number;", c, image->mean[c]);
        unless(&list, image->std[c] > 0 && isfinite(image->std[c]), " std[%d] %g is not a positive number;", c,
               image->std[c]);
    }
    return refuse("image", &list);
}

/* Bytes from the first to the last pixel, false when no size_t holds them. */
static bool photo_bytes(const edge_photo *photo, size_t row_bytes, size_t *bytes) {
    return ew_mul((size_t)photo->height - 1, photo->row_bytes, bytes) && ew_add(*bytes, row_bytes, bytes) &&
           *bytes <= PTRDIFF_MAX;
}

static edge_status check_photo(const edge_photo *photo) {
    complaints list = {.length = 0};
    bool known = photo->pixel >= EDGE_GRAY && photo->pixel <= EDGE_CMYK;
    unless(&list, photo->data != NULL, " data is NULL;");
    unless(&list, known, " there is no pixel %d;", (int)photo->pixel);
    unless(&list, photo->width >= 1 && photo->width <= MOST_SIDE, " width %d is not in 1..%d;", photo->width,
           MOST_SIDE);
    unless(&list, photo->height >= 1 && photo->height <= MOST_SIDE, " height %d is not in 1..%d;", photo->height,
           MOST_SIDE);
    EW_TRY(refuse("photo", &list));
    size_t row = (size_t)photo->width * (photo->pixel == EDGE_CMYK ? 4 : photo->pixel), bytes;
    unless(&list, photo->row_bytes >= row, " row_bytes is %zu, a row of %d pixels has %zu;", photo->row_bytes,
           photo->width, row);
    bool countable = photo_bytes(photo, row, &bytes);
    unless(&list, countable && bytes <= photo->bytes, " %d rows do not lie in %zu bytes;", photo->height, photo->bytes);
    return refuse("photo", &list);
}

/* A request that was checked, and where everything lies in the workspace. */
typedef struct job {
    edge_image image;
    ew_upright photo;
    int32_t scaled_width, scaled_height;
    ew_axis columns, rows;
    double *scratch;
    int32_t *sums;    /* of one row of the result */
    uint8_t *line;    /* a row of the photo */
    uint8_t *ring;    /* rows.taps rows that are scaled in width; row y is number y % rows.taps */
    size_t row_bytes; /* of each of them, and of a row of the result */
} job;

static edge_status find_sizes(job *job) {
    const ew_upright *photo = &job->photo;
    double shorter = rint(job->image.size / job->image.crop);
    double ratio = shorter / (photo->width < photo->height ? photo->width : photo->height);
    double width = fmax(shorter, rint(photo->width * ratio)), height = fmax(shorter, rint(photo->height * ratio));
    if (!(width * height <= MOST_PIXELS))
        return ew_fail(EDGE_INVALID_ARGUMENT,
                       "a photo of %d x %d pixels becomes %g x %g when its shorter side is scaled to %g; at most "
                       "%d pixels are scaled, crop it first",
                       photo->width, photo->height, width, height, shorter, MOST_PIXELS);
    job->scaled_width = (int32_t)width;
    job->scaled_height = (int32_t)height;
    return EDGE_OK;
}

/* A workspace from which blocks are taken; base NULL: only counted. */
typedef struct room {
    uint8_t *base;
    size_t used;
    bool full; /* beyond any size_t */
} room;

#define BLOCK_ALIGNMENT 8

static void *take(room *room, size_t count, size_t bytes) {
    size_t start = room->used, size;
    room->full |= !ew_mul(count, bytes, &size) || !ew_add(size, BLOCK_ALIGNMENT - 1, &size) ||
                  !ew_add(start, size - size % BLOCK_ALIGNMENT, &room->used);
    return room->base && !room->full ? room->base + start : NULL;
}

static void lay_out_axis(room *room, ew_axis *axis, int32_t size, int32_t taps) {
    *axis = (ew_axis){.size = size, .taps = taps};
    axis->first = take(room, (size_t)size, sizeof *axis->first);
    axis->count = take(room, (size_t)size, sizeof *axis->count);
    axis->weights = take(room, (size_t)size, sizeof *axis->weights * (size_t)taps);
}

/* Bytes that are taken, with those before the first aligned one. */
static edge_status lay_out(job *job, void *workspace, size_t *bytes) {
    const ew_upright *photo = &job->photo;
    int32_t size = job->image.size, across = ew_axis_taps(job->image.resize, photo->width, job->scaled_width);
    int32_t down = ew_axis_taps(job->image.resize, photo->height, job->scaled_height);
    size_t before = workspace ? -(uintptr_t)workspace % BLOCK_ALIGNMENT : BLOCK_ALIGNMENT - 1;
    room room = {.base = workspace ? (uint8_t *)workspace + before : NULL};
    job->row_bytes = 3 * (size_t)size;
    lay_out_axis(&room, &job->columns, size, across);
    lay_out_axis(&room, &job->rows, size, down);
    job->scratch = take(&room, (size_t)(across > down ? across : down), sizeof *job->scratch);
    job->sums = take(&room, job->row_bytes, sizeof *job->sums);
    job->line = take(&room, (size_t)photo->width, 3);
    job->ring = take(&room, (size_t)down, job->row_bytes);
    if (room.full || !ew_add(room.used, before, bytes))
        return ew_fail(EDGE_NO_MEMORY, "to scale a photo of %d x %d pixels needs more memory than can be addressed",
                       photo->width, photo->height);
    return EDGE_OK;
}

static edge_status read_job(const edge_image *image, const edge_photo *photo, job *job) {
    edge_photo given;
    EW_TRY(ew_read_struct("image", image, &job->image, sizeof job->image));
    EW_TRY(ew_read_struct("photo", photo, &given, sizeof given));
    EW_TRY(check_image(&job->image));
    EW_TRY(check_photo(&given));
    job->photo = ew_upright_of(&given);
    return find_sizes(job);
}

edge_status edge_image_workspace(const edge_image *image, const edge_photo *photo, size_t *bytes) {
    job job;
    if (!bytes) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_image_workspace needs a place for the number of bytes");
    EW_TRY(read_job(image, photo, &job));
    return lay_out(&job, NULL, bytes);
}

/* Row y of the photo, scaled in width, into the ring. */
static void scale_width(job *job, int32_t y) {
    const ew_axis *axis = &job->columns;
    int32_t from = axis->first[0], end = axis->first[axis->size - 1] + axis->count[axis->size - 1];
    const uint8_t *line = ew_upright_row(&job->photo, from, y, end - from, job->line);
    ew_scale_row(axis, line, job->ring + job->row_bytes * (size_t)(y % job->rows.taps));
}

/* What each of the 256 levels becomes, by channel. */
static void fill_levels(const edge_image *image, float levels[3][256]) {
    for (int c = 0; c < 3; c++)
        for (int level = 0; level < 256; level++)
            levels[c][level] = ((float)level * (float)image->scale - (float)image->mean[c]) / (float)image->std[c];
}

static void load(job *job, float *values) {
    float levels[3][256];
    size_t size = (size_t)job->image.size, plane = size * size;
    bool first = job->image.layout == EDGE_NCHW; /* channels come first */
    size_t to_pixel = first ? 1 : 3, to_channel = first ? plane : 1;
    fill_levels(&job->image, levels);
    for (int32_t i = 0, next = 0; i < job->rows.size; i++) {
        if (next < job->rows.first[i]) next = job->rows.first[i];
        while (next < job->rows.first[i] + job->rows.count[i]) scale_width(job, next++);
        ew_scale_column(&job->rows, i, job->ring, job->row_bytes, job->sums);
        float *to = values + (size_t)i * size * to_pixel;
        for (size_t x = 0; x < size; x++, to += to_pixel)
            for (size_t c = 0; c < 3; c++) to[c * to_channel] = levels[c][ew_clip(job->sums[3 * x + c])];
    }
}

static edge_status check_tensor(const edge_image *image, const edge_tensor *tensor) {
    size_t needed = 3 * sizeof(float) * (size_t)image->size * (size_t)image->size;
    if (!tensor || !tensor->data || (uintptr_t)tensor->data % sizeof(float))
        return ew_fail(EDGE_INVALID_ARGUMENT, "edge_image_load needs a tensor with data for floats");
    if (tensor->bytes >= needed) return EDGE_OK;
    return ew_fail(EDGE_INVALID_ARGUMENT, "the tensor has %zu bytes, an image of size %d needs %zu", tensor->bytes,
                   image->size, needed);
}

edge_status edge_image_load(const edge_image *image, const edge_photo *photo, void *workspace, size_t workspace_bytes,
                            edge_tensor *tensor) {
    job job;
    size_t needed;
    EW_TRY(read_job(image, photo, &job));
    EW_TRY(check_tensor(&job.image, tensor));
    EW_TRY(lay_out(&job, workspace, &needed));
    if (!workspace || workspace_bytes < needed)
        return ew_fail(EDGE_INVALID_ARGUMENT,
                       "the workspace has %zu bytes, this photo needs %zu; ask edge_image_workspace",
                       workspace ? workspace_bytes : 0, needed);
    int32_t size = job.image.size, left = (job.scaled_width - size) / 2, top = (job.scaled_height - size) / 2;
    ew_axis_fill(&job.columns, job.image.resize, job.photo.width, job.scaled_width, left, job.scratch);
    ew_axis_fill(&job.rows, job.image.resize, job.photo.height, job.scaled_height, top, job.scratch);
    load(&job, tensor->data);
    bool first = job.image.layout == EDGE_NCHW;
    *tensor = (edge_tensor){EDGE_F32, 4, {1, first ? 3 : size, size, first ? size : 3}, tensor->data, tensor->bytes};
    return EDGE_OK;
}
