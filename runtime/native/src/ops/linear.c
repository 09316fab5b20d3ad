#include "linear.h"

edge_status ew_require(const ew_call *call, int required) {
    for (int i = 0; i < required; i++)
        if (!ew_in(call, i)) return ew_fail(EDGE_INVALID_MODEL, "input %d is missing", i);
    if (!ew_out(call, 0)) return ew_fail(EDGE_INVALID_MODEL, "output 0 is missing");
    return EDGE_OK;
}

edge_status ew_like_first(const ew_call *call, int i) {
    const ew_tensor *first = ew_in(call, 0), *t = ew_in(call, i);
    if (!t || t->dtype == first->dtype) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "input %d is %s, it must be %s as input 0", i, ew_dtype_name(t->dtype),
                   ew_dtype_name(first->dtype));
}

#define TILE_BYTES ((int64_t)512 << 10)
#define TILE_MIN 64

int64_t ew_tile(int64_t row_bytes, int64_t positions) {
    int64_t tile = TILE_BYTES / (row_bytes > 0 ? row_bytes : 1);
    if (tile < TILE_MIN) tile = TILE_MIN;
    return tile < positions ? tile : positions;
}

static size_t product_or_max(int64_t a, int64_t b) {
    size_t product;
    return (uint64_t)a <= SIZE_MAX && (uint64_t)b <= SIZE_MAX && ew_mul((size_t)a, (size_t)b, &product) ? product
                                                                                                        : SIZE_MAX;
}

size_t ew_tile_bytes(int64_t row_bytes, int64_t positions) {
    size_t all = product_or_max(row_bytes, positions), tile = product_or_max(row_bytes, TILE_MIN);
    if (tile < TILE_BYTES) tile = TILE_BYTES;
    return all < tile ? all : tile;
}

static void fill_4(uint32_t *to, int64_t count, uint32_t value) {
    for (int64_t i = 0; i < count; i++) to[i] = value;
}

static void fill_8(uint64_t *to, int64_t count, uint64_t value) {
    for (int64_t i = 0; i < count; i++) to[i] = value;
}

void ew_fill_rows(void *to, int64_t row, int64_t rows, int64_t count, const void *value, size_t element_bytes) {
    for (int64_t i = 0; i < rows; i++) {
        if (element_bytes == 4)
            fill_4((uint32_t *)to + i * row, count, value ? ((const uint32_t *)value)[i] : 0);
        else
            fill_8((uint64_t *)to + i * row, count, value ? ((const uint64_t *)value)[i] : 0);
    }
}
