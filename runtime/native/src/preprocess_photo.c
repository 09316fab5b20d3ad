/* Photos of every kind of pixel and orientation as upright rows of RGB. */
#include "preprocess.h"

/* How the eight orientations of EXIF lie in memory. */
static const struct {
    bool from_right, from_bottom, swapped;
} TURNS[] = {
    [1] = {0, 0, 0}, [2] = {1, 0, 0}, [3] = {1, 1, 0}, [4] = {0, 1, 0},
    [5] = {0, 0, 1}, [6] = {0, 1, 1}, [7] = {1, 1, 1}, [8] = {1, 0, 1},
};

static ptrdiff_t bytes_per_pixel(edge_pixel pixel) { return pixel == EDGE_CMYK ? 4 : (ptrdiff_t)pixel; }

ew_upright ew_upright_of(const edge_photo *photo) {
    uint32_t turn = photo->orientation >= 1 && photo->orientation <= 8 ? photo->orientation : 1;
    ptrdiff_t along = bytes_per_pixel(photo->pixel), down = (ptrdiff_t)photo->row_bytes;
    ew_upright turned = {photo->data, along, down, photo->width, photo->height, photo->pixel};
    if (TURNS[turn].from_right) {
        turned.origin += along * (photo->width - 1);
        turned.right = -along;
    }
    if (TURNS[turn].from_bottom) {
        turned.origin += down * (photo->height - 1);
        turned.down = -down;
    }
    if (TURNS[turn].swapped)
        turned = (ew_upright){turned.origin, turned.down, turned.right, photo->height, photo->width, photo->pixel};
    return turned;
}

/* a * b / 255, rounded; there are no halves. */
static uint8_t share(int a, int b) { return (uint8_t)((a * b + 127) / 255); }

static void to_rgb(edge_pixel pixel, const uint8_t *from, uint8_t *to) {
    switch (pixel) {
    case EDGE_GRAY: to[0] = to[1] = to[2] = from[0]; break;
    case EDGE_GRAY_ALPHA: to[0] = to[1] = to[2] = share(from[0], from[1]); break;
    case EDGE_RGB: memcpy(to, from, 3); break;
    case EDGE_RGBA:
        for (int c = 0; c < 3; c++) to[c] = share(from[c], from[3]);
        break;
    case EDGE_CMYK:
        for (int c = 0; c < 3; c++) to[c] = (uint8_t)(255 - from[3] - share(from[c], 255 - from[3]));
        break;
    }
}

const uint8_t *ew_upright_row(const ew_upright *photo, int32_t x, int32_t y, int32_t count, uint8_t *room) {
    const uint8_t *from = photo->origin + photo->down * y + photo->right * x;
    if (photo->pixel == EDGE_RGB && photo->right == 3) return from;
    for (int32_t i = 0; i < count; i++) to_rgb(photo->pixel, from + photo->right * i, room + 3 * (ptrdiff_t)i);
    return room;
}
