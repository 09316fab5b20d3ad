/* Functions of each value: loops without branches, which the compiler turns into vectors of this instruction set. */
#include "edge_math.h"
#include "vector.h"

/* y may be from, for which a compiler would keep a loop without vectors. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#define MAP(name, expression)                                                                                          \
    void EDGE_NAME(edge_##name##_f32)(const float *from, float *y, int64_t count) {                                    \
        INDEPENDENT for (int64_t i = 0; i < count; i++) {                                                              \
            float x = from[i];                                                                                         \
            y[i] = expression;                                                                                         \
        }                                                                                                              \
    }

MAP(exp, ew_exp(x))
MAP(erf, ew_erf(x))
MAP(gelu, 0.5f * x * (1.0f + ew_erf(x * 0.70710678118654752440f)))
MAP(tanh, ew_tanh(x))
MAP(sigmoid, ew_sigmoid(x))
MAP(silu, x * ew_sigmoid(x))

#define COMBINE(name, expression)                                                                                      \
    void EDGE_NAME(edge_##name##_f32)(const float *a, const float *b, float *y, int64_t count) {                       \
        int64_t i = 0;                                                                                                 \
        for (; i + EDGE_LANES <= count; i += EDGE_LANES) {                                                             \
            vf p = v_load(a + i), q = v_load(b + i);                                                                   \
            v_store(y + i, expression);                                                                                \
        }                                                                                                              \
        if (i < count) {                                                                                               \
            vf p = v_load_some(a + i, count - i), q = v_load_some(b + i, count - i);                                   \
            v_store_some(y + i, expression, count - i);                                                                \
        }                                                                                                              \
    }

COMBINE(max, v_pick(p != p, p, v_max(p, q)))
COMBINE(add, p + q)
