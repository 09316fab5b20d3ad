/* Values of any dtype. */
#include "movement.h"

bool ew_move_is_float(edge_dtype dtype) { return dtype == EDGE_F32 || dtype == EDGE_F64 || dtype == EDGE_F16; }

uint64_t ew_move_key_f32(float value) {
    if (value != value) return UINT64_MAX;
    value += 0.0f;
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits >> 31 ? (uint32_t)~bits : bits | 0x80000000u;
}

static uint64_t key_f64(double value) {
    if (value != value) return UINT64_MAX;
    value += 0.0;
    uint64_t bits;
    memcpy(&bits, &value, 8);
    return bits >> 63 ? ~bits : bits | (uint64_t)1 << 63;
}

uint64_t ew_move_key(const ew_tensor *t, int64_t index) {
    const uint64_t signed_to_unsigned = (uint64_t)1 << 63;
    switch (t->dtype) {
    case EDGE_F32: return ew_move_key_f32(((const float *)t->data)[index]);
    case EDGE_F16: return ew_move_key_f32(ew_f16_to_f32(((const uint16_t *)t->data)[index]));
    case EDGE_F64: return key_f64(((const double *)t->data)[index]);
    case EDGE_S8: return (uint64_t)((const int8_t *)t->data)[index] ^ signed_to_unsigned;
    case EDGE_S16: return (uint64_t)((const int16_t *)t->data)[index] ^ signed_to_unsigned;
    case EDGE_S32: return (uint64_t)((const int32_t *)t->data)[index] ^ signed_to_unsigned;
    case EDGE_S64: return (uint64_t)((const int64_t *)t->data)[index] ^ signed_to_unsigned;
    case EDGE_U16: return ((const uint16_t *)t->data)[index];
    case EDGE_U32: return ((const uint32_t *)t->data)[index];
    case EDGE_U64: return ((const uint64_t *)t->data)[index];
    default: return ((const uint8_t *)t->data)[index];
    }
}

void ew_move_put_int(ew_tensor *t, int64_t index, int64_t value) {
    uint64_t bits = (uint64_t)value;
    switch (t->dtype) {
    case EDGE_F32: ((float *)t->data)[index] = (float)value; break;
    case EDGE_F16: ((uint16_t *)t->data)[index] = ew_f32_to_f16((float)value); break;
    case EDGE_F64: ((double *)t->data)[index] = (double)value; break;
    case EDGE_S16:
    case EDGE_U16: ((uint16_t *)t->data)[index] = (uint16_t)bits; break;
    case EDGE_S32:
    case EDGE_U32: ((uint32_t *)t->data)[index] = (uint32_t)bits; break;
    case EDGE_S64:
    case EDGE_U64: ((uint64_t *)t->data)[index] = bits; break;
    case EDGE_BOOL: ((uint8_t *)t->data)[index] = value != 0; break;
    default: ((uint8_t *)t->data)[index] = (uint8_t)bits;
    }
}

void ew_move_put(ew_tensor *t, int64_t index, double value) {
    switch (t->dtype) {
    case EDGE_F32: ((float *)t->data)[index] = (float)value; break;
    case EDGE_F16: ((uint16_t *)t->data)[index] = ew_f32_to_f16((float)value); break;
    case EDGE_F64: ((double *)t->data)[index] = value; break;
    default:
        if (value != value) value = 0;
        if (value >= 9223372036854775808.0) value = 9223372036854774784.0;
        if (value < -9223372036854775808.0) value = -9223372036854775808.0;
        ew_move_put_int(t, index, (int64_t)value);
    }
}
