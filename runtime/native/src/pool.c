#include "pool.h"

#include "threads/threads.h"

struct ew_pool {
    size_t width;
    edge_parallel_for outside; /* run == NULL: own threads */
    ew_threads *threads;       /* NULL: none */
};

size_t ew_pool_width(const ew_pool *pool) { return pool->width; }

edge_status ew_pool_make(uint32_t threads, const edge_parallel_for *parallel_for, ew_arena *arena, ew_pool **result) {
    if (threads > EW_MOST_THREADS)
        return ew_fail(EDGE_INVALID_ARGUMENT, "%u threads were asked for, at most %d are possible", threads,
                       EW_MOST_THREADS);
    if (parallel_for && (parallel_for->struct_size < sizeof *parallel_for || !parallel_for->run))
        return ew_fail(EDGE_INVALID_ARGUMENT, "parallel_for lacks its function or its struct_size");
    ew_pool *pool = ew_arena_get(arena, sizeof *pool);
    if (!pool) return EDGE_NO_MEMORY;
    pool->width = threads ? threads : 1;
    *result = pool;
    if (parallel_for) {
        pool->outside = *parallel_for;
        return EDGE_OK;
    }
    return pool->width > 1 ? ew_threads_start(pool->width, arena, &pool->threads) : EDGE_OK;
}

void ew_pool_free(ew_pool *pool) {
    if (pool && pool->threads) ew_threads_end(pool->threads);
}

void ew_pool_run(ew_pool *pool, size_t count, ew_task task, void *context) {
    if (pool->width == 1 || count == 1) {
        for (size_t i = 0; i < count; i++) task(context, i);
    } else if (pool->outside.run) {
        pool->outside.run(pool->outside.user, count, task, context);
    } else {
        ew_threads_run(pool->threads, count, task, context);
    }
}
