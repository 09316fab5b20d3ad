#include "real.h"

#include <math.h>

double ew_real_get(const void *data, edge_dtype dtype, int64_t index) {
    switch (dtype) {
    case EDGE_F32: return ((const float *)data)[index];
    case EDGE_F64: return ((const double *)data)[index];
    case EDGE_F16: return ew_f16_to_f32(((const uint16_t *)data)[index]);
    case EDGE_S8: return ((const int8_t *)data)[index];
    case EDGE_U8: return ((const uint8_t *)data)[index];
    case EDGE_S16: return ((const int16_t *)data)[index];
    case EDGE_U16: return ((const uint16_t *)data)[index];
    case EDGE_S32: return ((const int32_t *)data)[index];
    case EDGE_U32: return ((const uint32_t *)data)[index];
    case EDGE_S64: return (double)((const int64_t *)data)[index];
    case EDGE_U64: return (double)((const uint64_t *)data)[index];
    case EDGE_BOOL: return ((const uint8_t *)data)[index] != 0;
    }
    return 0;
}

static int64_t saturated(double value, int64_t low, int64_t high) {
    if (value <= (double)low) return low;
    if (value >= (double)high) return high;
    return value == value ? (int64_t)value : 0;
}

static uint64_t saturated_u64(double value) {
    if (!(value > 0)) return 0;
    return value >= 18446744073709551616.0 ? UINT64_MAX : (uint64_t)value;
}

void ew_real_put(void *data, edge_dtype dtype, int64_t index, double value) {
    switch (dtype) {
    case EDGE_F32: ((float *)data)[index] = (float)value; return;
    case EDGE_F64: ((double *)data)[index] = value; return;
    case EDGE_F16: ((uint16_t *)data)[index] = ew_f32_to_f16((float)value); return;
    case EDGE_S8: ((int8_t *)data)[index] = (int8_t)saturated(value, INT8_MIN, INT8_MAX); return;
    case EDGE_U8: ((uint8_t *)data)[index] = (uint8_t)saturated(value, 0, UINT8_MAX); return;
    case EDGE_S16: ((int16_t *)data)[index] = (int16_t)saturated(value, INT16_MIN, INT16_MAX); return;
    case EDGE_U16: ((uint16_t *)data)[index] = (uint16_t)saturated(value, 0, UINT16_MAX); return;
    case EDGE_S32: ((int32_t *)data)[index] = (int32_t)saturated(value, INT32_MIN, INT32_MAX); return;
    case EDGE_U32: ((uint32_t *)data)[index] = (uint32_t)saturated(value, 0, UINT32_MAX); return;
    case EDGE_S64: ((int64_t *)data)[index] = saturated(value, INT64_MIN, INT64_MAX); return;
    case EDGE_U64: ((uint64_t *)data)[index] = saturated_u64(value); return;
    case EDGE_BOOL: ((uint8_t *)data)[index] = value != 0; return;
    }
}

const float *ew_real_read(const void *data, edge_dtype dtype, int64_t first, int64_t count, float *scratch) {
    if (dtype == EDGE_F32) return (const float *)data + first;
    const uint16_t *halves = (const uint16_t *)data + first;
    for (int64_t i = 0; i < count; i++) scratch[i] = ew_f16_to_f32(halves[i]);
    return scratch;
}

void ew_real_write(void *data, edge_dtype dtype, int64_t first, int64_t count, const float *values) {
    if (dtype == EDGE_F32) {
        float *target = (float *)data + first;
        if (target != values && count > 0) memcpy(target, values, (size_t)count * sizeof(float));
        return;
    }
    uint16_t *halves = (uint16_t *)data + first;
    for (int64_t i = 0; i < count; i++) halves[i] = ew_f32_to_f16(values[i]);
}
