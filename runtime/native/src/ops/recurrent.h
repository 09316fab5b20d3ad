/* What GRU, LSTM and RNN share: shapes, directions, sequence lengths, activations and the loop over steps. */
#ifndef EW_RECURRENT_H
#define EW_RECURRENT_H

#include "sequence.h"

typedef enum ew_activation_kind {
    EW_ACT_AFFINE,
    EW_ACT_ELU,
    EW_ACT_HARD_SIGMOID,
    EW_ACT_LEAKY_RELU,
    EW_ACT_RELU,
    EW_ACT_SCALED_TANH,
    EW_ACT_SIGMOID,
    EW_ACT_SOFTPLUS,
    EW_ACT_SOFTSIGN,
    EW_ACT_TANH,
    EW_ACT_THRESHOLDED_RELU
} ew_activation_kind;

typedef struct ew_activation {
    ew_activation_kind kind;
    float alpha, beta, clip; /* clip bounds the argument */
} ew_activation;

edge_status ew_read_activations(const ew_call *call, const char *const *defaults, int count, int directions,
                                ew_activation activations[][3]);
void ew_activate(const ew_activation *activation, float *values, int64_t count);

typedef struct ew_recurrent ew_recurrent;

/* One direction.  All rows are float32; gates has a row of gate_count * hidden for each sequence of the batch. */
typedef struct ew_direction {
    const ew_recurrent *r;
    const ew_call *call;
    const ew_activation *activations;
    const float *recurrence; /* [gate_count * hidden, hidden] */
    const float *bias;       /* [hidden], of the recurrence of the last gate where r->apart; gates has all others */
    const float *peephole;   /* [3 * hidden] or NULL */
    float *h, *c, *spare;    /* [batch, hidden]; c and spare only where the kind has them */
} ew_direction;

/* How a kind of cell differs from the others. */
typedef struct ew_cell {
    int gates, activations;
    const char *defaults[3];
    bool has_c, has_spare, has_peephole;
    /* Gates hold the products with the input and the biases of one step; updates h and c of active sequences. */
    void (*step)(const ew_direction *d, float *gates, const bool *active);
} ew_cell;

struct ew_recurrent {
    const ew_cell *cell;
    int64_t steps, batch, inputs, hidden;
    int directions;
    bool reverse, batch_first;
    bool apart;   /* GRU, linear_before_reset: the cell adds the recurrence bias of the last gate */
    bool coupled; /* LSTM, input_forget */
    ew_activation activations[2][3];
    const ew_tensor *x, *w, *recurrence, *bias, *lengths, *initial_h, *initial_c, *peephole;
};

edge_status ew_recurrent_infer(ew_call *call, const ew_cell *cell);
edge_status ew_recurrent_run(ew_call *call, const ew_cell *cell);
size_t ew_recurrent_workspace(const ew_call *call, const ew_cell *cell);

/* to[b] += rows of matrix times from[b] for every sequence; matrix is [count, size]. */
void ew_recurrent_product(const ew_call *call, const float *from, int64_t from_rows, const float *matrix, int64_t count,
                          int64_t size, float *to, int64_t to_row);

#endif
