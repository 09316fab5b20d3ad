/* Elementwise operators: blocks of elements go from operands through a kernel to the output.
 *
 * Kernels exist for four work dtypes: f32 (also for f16), f64, s64 (for every integer but u64, and bool) and u64.
 * The walk reads each operand through a view, which maps the flat index of the output to an element of the operand;
 * it converts to the work dtype where the operand is stored otherwise, and rounds once when it stores.
 */
#ifndef EW_ELEMENTWISE_H
#define EW_ELEMENTWISE_H

#include "edge_kernels.h"
#include "op.h"

#define EW_BLOCK 256 /* elements that a kernel gets at once */
#define EW_LANES 16  /* kernels get a multiple of it: an inner loop of constant length is vectorized at -O2 already */

#if defined(__clang__)
#define EW_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define EW_PLAIN _Pragma("clang loop vectorize(disable) unroll(disable)")
#elif defined(__GNUC__)
#define EW_INDEPENDENT _Pragma("GCC ivdep")
#define EW_PLAIN
#else
#define EW_INDEPENDENT
#define EW_PLAIN
#endif
/* In place, an output is its input, so that restrict would lie; iterations are independent all the same. */
#define EW_EACH_LANE EW_INDEPENDENT for (int j = 0; j < EW_LANES; j++)

/* A function of one value and the parameters alpha and beta, element by element. */
typedef struct ew_formula {
    float (*f32)(float x, float alpha, float beta); /* NULL: f64 is used, or a kernel */
    double (*f64)(double x, double alpha, double beta);
} ew_formula;

typedef struct ew_params {
    double alpha, beta;
    int64_t positive, negative;
    const ew_formula *formula;
    edge_map_f32 *map; /* of the kernels */
} ew_params;

/* in[k] and out have n elements of the work dtype, n is a multiple of EW_LANES; out may be any of in. */
typedef void (*ew_kernel)(const void *const *in, void *out, int n, const ew_params *params);

typedef struct ew_kernels {
    ew_kernel f32, f64, s64, u64; /* u64 NULL: s64 does the same to the bits */
} ew_kernels;

#define EW_KERNEL1(name, T, R, expression)                                                 \
    static void name(const void *const *in, void *out, int n, const ew_params *params) {   \
        const T *a = in[0];                                                                \
        R *y = out;                                                                        \
        (void)params;                                                                      \
        for (int i = 0; i < n; i += EW_LANES, a += EW_LANES, y += EW_LANES) EW_EACH_LANE { \
                T x = a[j];                                                                \
                y[j] = (R)(expression);                                                    \
            }                                                                              \
    }

/* Of dtypes and functions that are rare: a plain loop, the smallest. */
#define EW_RARE1(name, T, R, expression)                                                 \
    static void name(const void *const *in, void *out, int n, const ew_params *params) { \
        const T *a = in[0];                                                              \
        R *y = out;                                                                      \
        (void)params;                                                                    \
        EW_PLAIN for (int i = 0; i < n; i++) {                                           \
            T x = a[i];                                                                  \
            y[i] = (R)(expression);                                                      \
        }                                                                                \
    }

#define EW_RARE2(name, T, R, expression)                                                 \
    static void name(const void *const *in, void *out, int n, const ew_params *params) { \
        const T *a = in[0], *b = in[1];                                                  \
        R *y = out;                                                                      \
        (void)params;                                                                    \
        EW_PLAIN for (int i = 0; i < n; i++) {                                           \
            T u = a[i], v = b[i];                                                        \
            y[i] = (R)(expression);                                                      \
        }                                                                                \
    }

/* With the parameters alpha and beta. */
#define EW_KERNEL1P(name, T, R, expression)                                                \
    static void name(const void *const *in, void *out, int n, const ew_params *params) {   \
        const T *a = in[0], alpha = (T)params->alpha, beta = (T)params->beta;              \
        R *y = out;                                                                        \
        (void)alpha, (void)beta;                                                           \
        for (int i = 0; i < n; i += EW_LANES, a += EW_LANES, y += EW_LANES) EW_EACH_LANE { \
                T x = a[j];                                                                \
                y[j] = (R)(expression);                                                    \
            }                                                                              \
    }

#define EW_KERNEL2(name, T, R, expression)                                                                \
    static void name(const void *const *in, void *out, int n, const ew_params *params) {                  \
        const T *a = in[0], *b = in[1];                                                                   \
        R *y = out;                                                                                       \
        (void)params;                                                                                     \
        for (int i = 0; i < n; i += EW_LANES, a += EW_LANES, b += EW_LANES, y += EW_LANES) EW_EACH_LANE { \
                T u = a[j], v = b[j];                                                                     \
                y[j] = (R)(expression);                                                                   \
            }                                                                                             \
    }

/* How the flat index of an output finds an element of an operand: dims have the product of the output's, each with the
 * step of the operand there; along blocked_dim (-1: none) block neighbours share one element. */
typedef struct ew_view {
    const char *data;
    edge_dtype dtype;
    int bytes, rank, blocked_dim;
    int64_t dims[EDGE_MAX_RANK], steps[EDGE_MAX_RANK], block;
} ew_view;

/* A view of a tensor that is broadcast to the shape of like; one value is broadcast whatever its rank is. */
void ew_view_of(ew_view *view, const ew_tensor *t, const ew_tensor *like);
/* A view of one value; data stays the caller's. */
void ew_view_constant(ew_view *view, edge_dtype dtype, const void *data);

#define EW_MAX_OPERANDS 3

typedef struct ew_walk {
    const ew_call *call;
    const ew_view *views;
    int count;         /* of views; at most EW_MAX_OPERANDS unless fold */
    bool fold;         /* kernel takes two operands: the result so far and the next view */
    edge_dtype work;   /* what the kernel reads; 0: operands as they are stored */
    edge_dtype result; /* what the kernel writes; 0: as the output is stored */
    ew_kernel kernel;  /* NULL: the first operand is the result */
    ew_kernel last;    /* of a fold, in place at its end; NULL: none */
    const ew_params *params;
    ew_tensor *out;
} ew_walk;

void ew_walk_run(const ew_walk *walk);

/* The kernel of an input's dtype over the first count inputs, into output 0 of the same dtype. */
edge_status ew_run_kernels(ew_call *call, int count, const ew_kernels *kernels, const ew_params *params);
/* A formula over input 0 into output 0; f32 by the kernel, if any. params may be NULL. */
edge_status ew_run_formula(ew_call *call, const ew_formula *formula, ew_kernel f32, const ew_params *params);
/* The same, f32 by the map of this op for the session's instruction set. */
edge_status ew_run_map(ew_call *call, const ew_formula *formula, edge_kernel_op op);
/* ew_run_kernels into an output of bool; swapped: the kernel gets the last operand first. */
edge_status ew_run_truth(ew_call *call, int count, const ew_kernels *kernels, bool swapped, const ew_params *params);
/* A kernel of operands and a result as they are stored. */
edge_status ew_run_stored(ew_call *call, int count, ew_kernel kernel);
/* What kernels work in for elements stored so: f64 for floats where they have no f32. */
edge_dtype ew_work_of(const ew_kernels *kernels, edge_dtype stored);
ew_kernel ew_pick_kernel(const ew_kernels *kernels, edge_dtype work);

/* Conversion of n elements, n a multiple of EW_LANES. */
typedef void (*ew_convert)(const void *from, void *to, int n);
edge_dtype ew_work_dtype(edge_dtype stored);
/* NULL: the same. */
ew_convert ew_to_work(edge_dtype stored, edge_dtype work);
ew_convert ew_from_work(edge_dtype work, edge_dtype stored);
/* The nearest value of s64, NaN gives 0. */
int64_t ew_to_s64(double x);

/* Fails unless the node has least to most inputs, the first least present, and no more outputs than that. */
edge_status ew_expect(const ew_call *call, int least, int most, int outputs);
/* Fails unless inputs [first, count) that are present have the dtype of input first. */
edge_status ew_expect_one_dtype(const ew_call *call, int first, int count);
/* Output 0 gets the dtype, and the shape that the first count inputs broadcast to. */
edge_status ew_infer_broadcast(ew_call *call, edge_dtype dtype, int count);
/* A dtype of the engine from an attribute. */
edge_status ew_dtype_of(const ew_call *call, int64_t number, edge_dtype *dtype);

extern const ew_kernels ew_max_kernels, ew_min_kernels;

#endif
