/* Threads that wait between the operators of a session. */
#ifndef EW_POOL_H
#define EW_POOL_H

#include "base.h"

typedef struct ew_pool ew_pool;

/* parallel_for == NULL: threads - 1 threads are started. */
edge_status ew_pool_make(uint32_t threads, const edge_parallel_for *parallel_for, ew_arena *arena, ew_pool **pool);
/* Ends and joins the threads; the memory is the arena's. */
void ew_pool_free(ew_pool *pool);
/* Runs task for every index below count, on this thread too; returns when all are done. */
void ew_pool_run(ew_pool *pool, size_t count, void (*task)(void *context, size_t index), void *context);
/* How many tasks run at once. */
size_t ew_pool_width(const ew_pool *pool);

#endif
