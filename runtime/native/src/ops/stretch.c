#include "reduction.h"

static int64_t tile_of(int64_t left) { return left < EW_TILE ? left : EW_TILE; }

double ew_stretch_sum(const ew_tensor *x, int64_t first, int64_t n) {
    if (x->dtype == EDGE_F32) return ew_row_sum((const float *)x->data + first, n);
    double tile[EW_TILE], sum = 0;
    for (int64_t i = 0; i < n; i += EW_TILE) {
        ew_load_doubles(tile, x->data, x->dtype, first + i, tile_of(n - i));
        for (int64_t j = 0; j < tile_of(n - i); j++) sum += tile[j];
    }
    return sum;
}

double ew_stretch_deviation(const ew_tensor *x, int64_t first, int64_t n, double mean) {
    if (x->dtype == EDGE_F32) return ew_row_sum_deviation((const float *)x->data + first, n, (float)mean);
    double tile[EW_TILE], sum = 0;
    for (int64_t i = 0; i < n; i += EW_TILE) {
        ew_load_doubles(tile, x->data, x->dtype, first + i, tile_of(n - i));
        for (int64_t j = 0; j < tile_of(n - i); j++) sum += (tile[j] - mean) * (tile[j] - mean);
    }
    return sum;
}

static void affine_f32(float *y, const float *x, int64_t n, float mean, float scale, float shift) {
    float lane[EW_LANES];
    for (int64_t i = 0; i < n; i += EW_LANES) {
        ew_take_lanes(lane, x + i, n - i);
        for (int j = 0; j < EW_LANES; j++) lane[j] = (lane[j] - mean) * scale + shift;
        ew_give_lanes(y + i, lane, n - i);
    }
}

void ew_stretch_affine(ew_tensor *y, const ew_tensor *x, int64_t first, int64_t n, double mean, double scale,
                       double shift) {
    if (x->dtype == EDGE_F32) {
        const float *from = (const float *)x->data + first;
        affine_f32((float *)y->data + first, from, n, (float)mean, (float)scale, (float)shift);
        return;
    }
    double tile[EW_TILE];
    for (int64_t i = 0; i < n; i += EW_TILE) {
        ew_load_doubles(tile, x->data, x->dtype, first + i, tile_of(n - i));
        for (int64_t j = 0; j < tile_of(n - i); j++) tile[j] = (tile[j] - mean) * scale + shift;
        ew_store_doubles(y->data, y->dtype, first + i, tile, tile_of(n - i));
    }
}
