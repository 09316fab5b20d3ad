/* An einsum after its equation was read: loops over labels, with the step of every operand for each of them. */
#ifndef EW_EINSUM_H
#define EW_EINSUM_H

#include "linear.h"

#define EW_EINSUM_OPERANDS 8
/* Letters, and the axes of an ellipsis. */
#define EW_EINSUM_LABELS (52 + EDGE_MAX_RANK)

typedef struct ew_einsum {
    int operands, labels, out_rank; /* the first out_rank labels are the axes of the output, the others are summed */
    int64_t length[EW_EINSUM_LABELS];
    int64_t step[EW_EINSUM_OPERANDS][EW_EINSUM_LABELS]; /* in elements; 0: the operand does not have the label */
} ew_einsum;

edge_status ew_einsum_read(const ew_call *call, ew_einsum *e);
/* Runs two floating operands as matrix products; false when the equation is of another kind. */
bool ew_einsum_multiply(const ew_call *call, const ew_einsum *e);

#endif
