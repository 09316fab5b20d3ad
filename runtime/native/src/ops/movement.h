/* What the operators that move, select and generate data share. */
#ifndef EW_MOVEMENT_H
#define EW_MOVEMENT_H

#include "op.h"

#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace) \
    edge_status infer(ew_call *);                                              \
    edge_status run(ew_call *);                                                \
    size_t workspace(const ew_call *);
#include "movement.inc"
#undef EW_OP

/* ---- need.c: what infer checks ---- */
/* Fails unless the first inputs are there, and the first outputs wanted. */
edge_status ew_move_need(const ew_call *call, int inputs, int outputs);
/* Fails unless input i is s32 or s64. */
edge_status ew_move_need_index(const ew_call *call, int i);
/* Fails unless input i has this dtype. */
edge_status ew_move_need_dtype(const ew_call *call, int i, edge_dtype dtype);
/* Fails unless input i has exactly one element. */
edge_status ew_move_need_one(const ew_call *call, int i);
/* A dtype that comes from an attribute. */
edge_status ew_move_dtype_attribute(const ew_node *node, const char *name, edge_dtype otherwise, edge_dtype *dtype);

/* ---- strided.c: copies between layouts ---- */
#define EW_MOVE_DIMS (2 * EDGE_MAX_RANK)

/* Strides are bytes; from may be zero or negative. */
typedef struct ew_strided {
    int rank;
    int64_t dims[EW_MOVE_DIMS], from[EW_MOVE_DIMS], to[EW_MOVE_DIMS];
} ew_strided;

/* Copies elements of so many bytes; from and to are the addresses of element 0. */
void ew_move_strided(const ew_call *call, const ew_strided *layout, size_t element, const void *from, void *to);
/* Copies rows of so many bytes whose beginnings are steps apart. */
void ew_move_rows(const ew_call *call, int64_t rows, int64_t bytes, const void *from, int64_t from_step, void *to,
                  int64_t to_step);
void ew_move_all(const ew_call *call, const ew_tensor *from, ew_tensor *to);
/* Strides in bytes of a dense tensor. */
void ew_move_dense(const ew_tensor *t, int64_t *strides);
void ew_move_fill(void *to, int64_t count, size_t element, const void *value);

static inline void ew_move_element(void *to, const void *from, size_t bytes) {
    switch (bytes) {
    case 1: memcpy(to, from, 1); break;
    case 2: memcpy(to, from, 2); break;
    case 4: memcpy(to, from, 4); break;
    case 8: memcpy(to, from, 8); break;
    default: memcpy(to, from, bytes);
    }
}

/* ---- number.c: values of any dtype ---- */
/* Unsigned integers that are ordered as the values are; NaN is above all, -0 is 0. */
uint64_t ew_move_key(const ew_tensor *t, int64_t index);
uint64_t ew_move_key_f32(float value);
bool ew_move_is_float(edge_dtype dtype);
/* Rounds to the dtype of t; integers wrap, numbers beyond an integer are its limit. */
void ew_move_put(ew_tensor *t, int64_t index, double value);
void ew_move_put_int(ew_tensor *t, int64_t index, int64_t value);

/* count * bytes; more than there can be when that overflows. */
size_t ew_move_workspace(int64_t count, size_t bytes);

/* ---- elements.c: indices ---- */
/* Element of an index tensor (s32 or s64). */
static inline int64_t ew_move_index(const ew_tensor *t, int64_t i) {
    return t->dtype == EDGE_S32 ? ((const int32_t *)t->data)[i] : ((const int64_t *)t->data)[i];
}

/* [-size, size) to [0, size). */
static inline bool ew_move_wrap(int64_t *index, int64_t size) {
    if (*index < 0) *index += size;
    return *index >= 0 && *index < size;
}

/* The error for the index at position i of a tensor; [-size, size) is allowed. */
edge_status ew_move_bad_index(const ew_tensor *t, int64_t i, int64_t size);

/* Fails unless input 1 is index for index within input 0, but for the axis. */
edge_status ew_move_need_elements(const ew_call *call, int axis);

/* Goes through rows of an index tensor; entry i of a row selects element base + i * step + index * stride of data. */
typedef struct ew_elements {
    int outer; /* axes before the rows */
    int64_t length, base, step, stride;
    int64_t dims[EDGE_MAX_RANK], strides[EDGE_MAX_RANK], position[EDGE_MAX_RANK];
} ew_elements;

void ew_elements_begin(ew_elements *e, const ew_tensor *data, const ew_tensor *indices, int axis);
void ew_elements_next(ew_elements *e);

/* Index tuple i selects a slice of data by its dims from first on; *at begins as the position of the batch. */
edge_status ew_move_tuple(const ew_tensor *indices, int64_t i, const ew_tensor *data, int first, int64_t *at);

/* ---- heap.c ---- */
typedef struct ew_ranked {
    uint64_t key;
    int64_t index;
} ew_ranked;

/* Puts the last of count entries, by key and then index, first, with all others below it as a heap. */
void ew_heap_make(ew_ranked *heap, int64_t count);
/* Restores the heap after its first entry was replaced. */
void ew_heap_sift(ew_ranked *heap, int64_t count);
/* Ascending order of what is a heap. */
void ew_heap_sort(ew_ranked *heap, int64_t count);

#endif
