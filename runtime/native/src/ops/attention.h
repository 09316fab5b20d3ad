/* Attention as attention_shape.c reads it from a node and attention.c computes it. */
#ifndef EW_ATTENTION_H
#define EW_ATTENTION_H

#include "sequence.h"

/* Rows of one head, wherever the layout puts them; steps are in elements. */
typedef struct ew_heads {
    const void *data;
    edge_dtype dtype;
    int64_t batch, head, row, size;
} ew_heads;

typedef struct ew_attention {
    int64_t batch, q_heads, kv_heads, group; /* group: query heads for each head of keys */
    int64_t queries, keys, past;             /* keys: with those of the past */
    ew_heads q, k, v, past_k, past_v;
    const ew_tensor *mask, *lengths;
    int64_t mask_steps[3], mask_keys;
    float scale, softcap;
    int qk_mode;
    bool causal;
    int64_t left, right; /* of the window, -1: open */
} ew_attention;

/* heads matters for rank 3 only, where it divides the last dimension. */
ew_heads ew_heads_of(const ew_tensor *t, int64_t heads);
edge_status ew_read_attention(const ew_call *call, ew_attention *a);

#endif
