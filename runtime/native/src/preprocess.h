/* From a photo to an input: upright RGB rows, and their resampling. */
#ifndef EW_PREPROCESS_H
#define EW_PREPROCESS_H

#include "base.h"

/* A photo turned upright, without moving its bytes. */
typedef struct ew_upright {
    const uint8_t *origin; /* the pixel on the upper left */
    ptrdiff_t right, down; /* bytes from a pixel to its neighbours */
    int32_t width, height;
    edge_pixel pixel;
} ew_upright;

/* Of a photo that was checked. */
ew_upright ew_upright_of(const edge_photo *photo);
/* Pixels x .. x + count - 1 of row y as RGB; `room` takes 3 * count bytes where they do not lie so in the photo. */
const uint8_t *ew_upright_row(const ew_upright *photo, int32_t x, int32_t y, int32_t count, uint8_t *room);

/* One direction of a resampling, for a part of the results: result i is the sum of weights[i * taps + j] times value
 * first[i] + j over j < count[i].  first never falls. */
typedef struct ew_axis {
    int32_t size, taps;
    int32_t *first, *count, *weights;
} ew_axis;

#define EW_WEIGHT_BITS 22 /* of the fraction of a weight */
#define EW_WEIGHT_HALF (1 << (EW_WEIGHT_BITS - 1))

/* The largest count when `source` values become `scaled`. */
int32_t ew_axis_taps(edge_resize resize, int32_t source, int32_t scaled);
/* Fills the arrays for results offset .. offset + axis->size - 1 of `scaled`.  scratch: axis->taps doubles. */
void ew_axis_fill(ew_axis *axis, edge_resize resize, int32_t source, int32_t scaled, int32_t offset, double *scratch);

/* A row of RGB, from pixel axis->first[0] on, as axis->size pixels. */
void ew_scale_row(const ew_axis *axis, const uint8_t *row, uint8_t *to);
/* Row i of the result as sums for ew_clip; source row y is number y % axis->taps in the ring. */
void ew_scale_column(const ew_axis *axis, int32_t i, const uint8_t *ring, size_t row_bytes, int32_t *sums);

static inline uint8_t ew_clip(int32_t sum) {
    int32_t value = sum >> EW_WEIGHT_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

#endif
