#include "recurrent.h"

#include <math.h>

#include "edge_math.h"

typedef struct description {
    const char *name;
    bool has_alpha, has_beta;
    float alpha, beta;
} description;

/* In the order of ew_activation_kind. */
static const description DESCRIPTIONS[] = {
    {"Affine", true, true, 1, 0},
    {"Elu", true, false, 1, 0},
    {"HardSigmoid", true, true, 0.2f, 0.5f},
    {"LeakyRelu", true, false, 0.01f, 0},
    {"Relu", false, false, 0, 0},
    {"ScaledTanh", true, true, 1, 1},
    {"Sigmoid", false, false, 0, 0},
    {"Softplus", false, false, 0, 0},
    {"Softsign", false, false, 0, 0},
    {"Tanh", false, false, 0, 0},
    {"ThresholdedRelu", true, false, 1, 0},
};

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

static bool same_name(const char *a, const char *b) {
    while (*a && lower(*a) == lower(*b)) a++, b++;
    return *a == *b;
}

static edge_status find(const char *name, ew_activation *activation) {
    int count = (int)(sizeof DESCRIPTIONS / sizeof *DESCRIPTIONS);
    for (int i = 0; i < count; i++) {
        const description *d = &DESCRIPTIONS[i];
        if (!same_name(name, d->name)) continue;
        *activation = (ew_activation){(ew_activation_kind)i, d->alpha, d->beta, INFINITY};
        return EDGE_OK;
    }
    return ew_fail(EDGE_INVALID_MODEL, "activations has \"%.40s\", expected one of Affine, Elu, HardSigmoid, "
                   "LeakyRelu, Relu, ScaledTanh, Sigmoid, Softplus, Softsign, Tanh, ThresholdedRelu", name);
}

/* The next value of a list that only functions with such a parameter consume. */
static void consume(const ew_attribute *list, size_t *next, bool has, float *value) {
    if (has && list && list->type == EW_ATTR_FLOATS && *next < list->count) *value = list->floats[(*next)++];
}

edge_status ew_read_activations(const ew_call *call, const char *const *defaults, int count, int directions,
                                ew_activation activations[][3]) {
    const ew_attribute *names = ew_attr(call->node, "activations");
    const ew_attribute *alphas = ew_attr(call->node, "activation_alpha");
    const ew_attribute *betas = ew_attr(call->node, "activation_beta");
    float clip = ew_attr_float(call->node, "clip", 0);
    size_t alpha = 0, beta = 0;
    bool given = names && names->type == EW_ATTR_STRINGS && names->count > 0;
    if (given && names->count != (size_t)(count * directions)) {
        return ew_fail(EDGE_INVALID_MODEL, "activations has %zu names, expected %d", names->count, count * directions);
    }
    for (int d = 0; d < directions; d++) {
        for (int i = 0; i < count; i++) {
            ew_activation *a = &activations[d][i];
            EW_TRY(find(given ? names->strings[d * count + i] : defaults[i], a));
            consume(alphas, &alpha, DESCRIPTIONS[a->kind].has_alpha, &a->alpha);
            consume(betas, &beta, DESCRIPTIONS[a->kind].has_beta, &a->beta);
            if (clip > 0) a->clip = clip;
        }
    }
    return EDGE_OK;
}

static float activated(const ew_activation *a, float x) {
    switch (a->kind) {
    case EW_ACT_AFFINE: return a->alpha * x + a->beta;
    case EW_ACT_ELU: return x >= 0 ? x : a->alpha * ew_expm1(x);
    case EW_ACT_HARD_SIGMOID: return ew_clamp(a->alpha * x + a->beta, 0, 1);
    case EW_ACT_LEAKY_RELU: return x >= 0 ? x : a->alpha * x;
    case EW_ACT_RELU: return x > 0 ? x : 0;
    case EW_ACT_SCALED_TANH: return a->alpha * ew_tanh(a->beta * x);
    case EW_ACT_SIGMOID: return ew_sigmoid(x);
    case EW_ACT_SOFTPLUS: return (x > 0 ? x : 0) + ew_log1p_of_fraction(ew_exp(-ew_abs(x)));
    case EW_ACT_SOFTSIGN: return x / (1 + ew_abs(x));
    case EW_ACT_TANH: return ew_tanh(x);
    case EW_ACT_THRESHOLDED_RELU: return x >= a->alpha ? x : 0;
    }
    return x;
}

/* Loops of constant length are vectorized at -O2 already. */
enum { LANES = 16 };

static void sigmoid_lanes(float *values) {
    for (int i = 0; i < LANES; i++) values[i] = ew_sigmoid(values[i]);
}

static void tanh_lanes(float *values) {
    for (int i = 0; i < LANES; i++) values[i] = ew_tanh(values[i]);
}

void ew_activate(const ew_activation *a, float *values, int64_t count) {
    void (*lanes)(float *) = a->kind == EW_ACT_SIGMOID ? sigmoid_lanes : a->kind == EW_ACT_TANH ? tanh_lanes : NULL;
    int64_t done = 0;
    if (a->clip < INFINITY) {
        for (int64_t i = 0; i < count; i++) values[i] = ew_clamp(values[i], -a->clip, a->clip);
    }
    for (; lanes && done + LANES <= count; done += LANES) lanes(values + done);
    for (; done < count; done++) values[done] = activated(a, values[done]);
}
