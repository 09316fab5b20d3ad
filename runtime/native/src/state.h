/* States of a sequence, and how a session's runs read and change them. */
#ifndef EW_STATE_H
#define EW_STATE_H

#include "session.h"

struct edge_state {
    ew_arena arena;
    edge_model *model;
    uint8_t *data;  /* of all states, at the offsets of their specs */
    int64_t length; /* positions of all growing ones */
};

/* A state in the graph of one session. */
struct ew_slot {
    const ew_state_spec *spec;
    int input, output; /* values, -1: this entry has none */
    int64_t least, most; /* positions that a run can go on from */
    bool appended;     /* new positions are written into the state itself (prepare/states.c) */
    void *dense;       /* the positions so far in one piece; NULL: they are in place */
};

/* Finds the states of the session's entry and the largest shapes of their inputs. */
edge_status ew_states_open(edge_session *session, const edge_session_options *options);
/* Memory for the past of those states that are not read in place; after ew_prepare. */
edge_status ew_states_place(edge_session *session);
/* Before a run: what the graph reads. */
edge_status ew_states_begin(edge_session *session);
/* After a run that succeeded: the state changes. */
edge_status ew_states_commit(edge_session *session);
/* Whether a state can hold so many positions. */
edge_status ew_check_growth(const ew_state_spec *spec, int64_t length, int64_t grown);
/* Whether a value is a state's, which the caller does not see. */
bool ew_is_state(const edge_session *session, int value);
/* Where the positions of a slot lie. */
static inline uint8_t *ew_slot_data(const edge_session *session, const ew_slot *slot) {
    return session->state->data + slot->spec->offset;
}

#endif
