/* Softmax and layer norm of one row. */
#include "edge_math.h"
#include "vector.h"

edge_layer_norm_f32 edge_layer_norm_f32_scalar;

/* Lanes beyond count are fill. */
EDGE_INLINE vf load_or(const float *p, int64_t count, float fill) {
    if (count >= EDGE_LANES) return v_load(p);
    float lane[EDGE_LANES];
    for (int i = 0; i < EDGE_LANES; i++) lane[i] = i < count ? p[i] : fill;
    return v_load(lane);
}

EDGE_INLINE void store_some(float *p, vf v, int64_t count) {
    if (count >= EDGE_LANES) v_store(p, v);
    else v_store_some(p, v, count);
}

EDGE_INLINE vf v_exp(vf v) {
    float lane[EDGE_LANES];
    v_store(lane, v);
    for (int i = 0; i < EDGE_LANES; i++) lane[i] = ew_exp(lane[i]);
    return v_load(lane);
}

/* A NaN is larger than everything. */
static float largest(const float *x, int64_t count) {
    vf most = v_set(-INFINITY);
    for (int64_t i = 0; i < count; i += EDGE_LANES) {
        vf v = load_or(x + i, count - i, -INFINITY);
        most = v_pick((v > most) | (v != v), v, most);
    }
    return v_largest(most);
}

void EDGE_NAME(edge_softmax_f32)(const float *x, float *y, int64_t count) {
    vf most = v_set(largest(x, count)), total = {0};
    for (int64_t i = 0; i < count; i += EDGE_LANES) {
        vf e = v_exp(load_or(x + i, count - i, -INFINITY) - most);
        store_some(y + i, e, count - i);
        total += e;
    }
    vf scale = v_set(1.0f / v_sum(total));
    for (int64_t i = 0; i < count; i += EDGE_LANES) store_some(y + i, load_or(y + i, count - i, 0) * scale, count - i);
}

void EDGE_NAME(edge_layer_norm_f32)(const float *x, const float *scale, const float *bias, float epsilon, float *y,
                                    int64_t count) {
    vf sum = {0}, rest = {0}, squares = {0};
    for (int64_t i = 0; i < count; i += EDGE_LANES) sum += load_or(x + i, count - i, 0);
    float mean = v_sum(sum) / (float)count;
    for (int64_t i = 0; i < count; i += EDGE_LANES) {
        vf d = load_or(x + i, count - i, mean) - v_set(mean);
        rest += d;
        squares += d * d;
    }
    /* What rounding left of the mean, and the variance about the better one. */
    float shift = v_sum(rest) / (float)count, variance = v_sum(squares) / (float)count - shift * shift;
    if (!(variance < INFINITY)) { /* too large for squares in f32 */
        edge_layer_norm_f32_scalar(x, scale, bias, epsilon, y, count);
        return;
    }
    mean += shift;
    vf factor = v_set(1.0f / sqrtf((variance > 0 ? variance : 0) + epsilon)), middle = v_set(mean);
    for (int64_t i = 0; i < count; i += EDGE_LANES) {
        int64_t left = count - i;
        vf v = (load_or(x + i, left, 0) - middle) * factor * load_or(scale + i, left, 0);
        store_some(y + i, bias ? v + load_or(bias + i, left, 0) : v, left);
    }
}
