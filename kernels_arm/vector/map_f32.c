/* Functions of each value: loops without branches, which the compiler turns into vectors of this instruction set. */
#include "edge_math.h"
#include "vector.h"

/* y may be from, for which a compiler would keep a loop without vectors. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* What fills no vector is padded to one: its own loop would be the whole expression again, of single values. */
#define MAP(name, expression)                                                                                          \
    void EDGE_NAME(edge_##name##_f32)(const float *from, float *y, int64_t count) {                                    \
        float last[EDGE_LANES] = {0};                                                                                  \
        while (count > 0) {                                                                                            \
            int64_t whole = count / EDGE_LANES * EDGE_LANES;                                                           \
            float *to = y;                                                                                             \
            if (!whole) from = memcpy(last, from, (size_t)count * sizeof *last), to = last, whole = EDGE_LANES;        \
            for (int64_t i = 0; i < whole; i += EDGE_LANES) {                                                          \
                INDEPENDENT for (int64_t j = i; j < i + EDGE_LANES; j++) {                                             \
                    float x = from[j];                                                                                 \
                    to[j] = expression;                                                                                \
                }                                                                                                      \
            }                                                                                                          \
            if (to == last) {                                                                                          \
                memcpy(y, last, (size_t)count * sizeof *last);                                                         \
                return;                                                                                                \
            }                                                                                                          \
            from += whole, y += whole, count -= whole;                                                                 \
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
