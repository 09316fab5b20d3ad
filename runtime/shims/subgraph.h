/* A part of another runtime's graph that the engine runs: what every shim beside this file is made of.
 *
 * The part is an ONNX file in the host's memory.  Hosts give shapes with every run, so sessions are made when a shape is
 * first seen; what they have in common, weights packed for the kernels, is the model's and made once.
 *
 * Functions with EDGE_API are there for a shim that is compiled elsewhere, from the same sources as the library. */
#ifndef EW_SUBGRAPH_H
#define EW_SUBGRAPH_H

#include "edgewright.h"

/* May be used from several threads at a time. */
typedef struct ew_subgraph ew_subgraph;
/* A session with the shapes that it takes; belongs to one thread at a time. */
typedef struct ew_seat ew_seat;

/* The host's threads.  run: as edge_parallel_for has it, with the `host` of ew_seat_run as user; NULL: sessions start
 * threads of their own. */
typedef struct ew_host {
    uint32_t threads;
    void (*run)(void *host, size_t count, void (*task)(void *context, size_t index), void *context);
} ew_host;

/* The bytes must stay as they are until ew_subgraph_free. */
EDGE_API edge_status ew_subgraph_open(const void *model, size_t bytes, const ew_host *host, ew_subgraph **subgraph);
EDGE_API void ew_subgraph_free(ew_subgraph *subgraph); /* NULL is allowed; every seat must have been given back */

size_t ew_subgraph_input_count(const ew_subgraph *subgraph);
EDGE_API size_t ew_subgraph_output_count(const ew_subgraph *subgraph);

/* A seat for inputs of these dtypes and shapes; their data is not read.  Sizes of open dimensions that were seen before
 * stay within its bounds, so that one seat serves them all.
 *
 * exactly: it takes these shapes alone, so that shapes of outputs are known before the first run. */
EDGE_API edge_status ew_subgraph_take(ew_subgraph *subgraph, const edge_tensor *inputs, size_t count, int exactly,
                                      ew_seat **seat);
/* Gives it back; results of its last run are valid until then. */
EDGE_API void ew_subgraph_give(ew_subgraph *subgraph, ew_seat *seat);

/* What an output may be, as edge_session_output. */
edge_status ew_seat_output(const ew_seat *seat, size_t index, edge_tensor_info *info);
/* As edge_session_run. */
EDGE_API edge_status ew_seat_run(ew_seat *seat, void *host, const edge_tensor *inputs, size_t input_count,
                                 edge_tensor *outputs, size_t output_count);

#endif
