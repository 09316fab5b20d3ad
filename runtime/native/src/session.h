/* A session: tensors of one graph at its largest shapes, steps in order, memory taken once. */
#ifndef EW_SESSION_H
#define EW_SESSION_H

#include <stdatomic.h>

#include "edge_kernels.h"
#include "op.h"
#include "pool.h"
#include "weights.h"

typedef struct ew_step {
    ew_call call;
    bool folded;  /* ran when the session was made */
    bool late;    /* small weights made f32 or bytes: folded when somebody needs them so (prepare/late.c) */
    bool dynamic; /* shapes are inferred again before every run */
    size_t workspace_bytes;
    uint64_t runs, nanoseconds; /* with profile */
} ew_step;

typedef struct ew_slot ew_slot;

struct edge_session {
    edge_model *model;
    const ew_entry *entry;
    const ew_graph *model_graph; /* of the entry */
    ew_arena arena;
    edge_isa isa;      /* of the kernels in use */
    ew_graph graph;    /* the model's, then what prepare/ makes of it; the first values of both are the same */
    ew_tensor *values; /* as many as the graph has */
    ew_step *steps;
    edge_tensor_info *inputs, *outputs; /* what the caller sees */
    int *input_values;                  /* of those inputs, indices of values */
    int *output_values;
    int input_count, output_count;
    ew_slot *slots; /* its states; state.h */
    int slot_count;
    edge_state *state; /* the sequence that it works on, NULL: none */
    ew_pool *pool;
    ew_weights *weights; /* of the model, or of the file that is being packed */
    int packed_for;      /* the instruction set of that file; -1: weights are for the kernels in use */
    bool profile;
    atomic_bool cancelled;
};

/* The least and most of an open dimension; the caller's bounds come before the manifest's. */
edge_status ew_bound_of(const edge_session *session, const edge_session_options *options, const ew_value *value, int axis,
                        int64_t *min, int64_t *max);
/* edge_session_create with these weights. */
edge_status ew_session_make(edge_model *model, const edge_session_options *options, ew_weights *weights,
                            int packed_for, edge_session **session);
/* Sees to it that a value can be read as its dtype, one of whole bytes; prepare/align.c. */
edge_status ew_align(edge_session *session, int value);
/* The same for the inputs of a step but weights that are packed; all: those too. */
edge_status ew_align_inputs(edge_session *session, const ew_step *step, bool all);
/* Infers shapes of every step and runs those whose result is known; infer.c. */
edge_status ew_infer_all(edge_session *session);
/* The same for one step. */
edge_status ew_infer_one(edge_session *session, ew_step *step);
/* Finds the late steps; before inference. */
void ew_mark_late(edge_session *session);
/* A faster graph for the same results, from what inference found; prepare/. */
edge_status ew_prepare(edge_session *session, ew_graph *prepared);
/* Gives memory to every value that has none; memory.c. */
edge_status ew_place_all(edge_session *session);
/* Shape inference of one step, with the node's name in the error. */
edge_status ew_infer_step(edge_session *session, ew_step *step);
edge_status ew_run_step(edge_session *session, ew_step *step);
/* "node 'x' (Conv)" in front of the last error. */
edge_status ew_blame(const ew_node *node, edge_status status);

#endif
