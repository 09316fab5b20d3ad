/* Prototypes of the sequence operators, and what some of them share. */
#ifndef EW_SEQUENCE_H
#define EW_SEQUENCE_H

#include "op.h"

#define EW_OP(domain, name, first, last, dtypes, flags, infer, run, workspace) \
    edge_status infer(ew_call *);                                              \
    edge_status run(ew_call *);                                                \
    size_t workspace(const ew_call *);
#include "sequence.inc"
#undef EW_OP

/* Fails unless inputs [0, required) are there. */
edge_status ew_seq_need(const ew_call *call, int required);
/* Fails unless t, an input called name, has this dtype and these dims.  NULL passes. */
edge_status ew_seq_expect(const ew_tensor *t, const char *name, edge_dtype dtype, int rank, const int64_t *dims);
/* Which of names, which end with NULL, a string attribute has. */
edge_status ew_seq_choice(const ew_call *call, const char *attribute, const char *otherwise, const char *const *names,
                          int *choice);
/* An integer attribute in [low, high]. */
edge_status ew_seq_integer(const ew_call *call, const char *attribute, int64_t otherwise, int64_t low, int64_t high,
                           int64_t *value);

#endif
