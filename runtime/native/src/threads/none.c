#include "threads.h"

edge_status ew_threads_start(size_t width, ew_arena *arena, ew_threads **threads) {
    (void)arena;
    (void)threads;
    return ew_fail(EDGE_UNSUPPORTED, "%zu threads were asked for; this build has none of its own: ask for one", width);
}

void ew_threads_end(ew_threads *threads) { (void)threads; }

void ew_threads_run(ew_threads *threads, size_t count, ew_task task, void *context) {
    (void)threads;
    for (size_t i = 0; i < count; i++) task(context, i);
}

edge_status ew_lock_make(ew_arena *arena, ew_lock **lock) {
    (void)arena;
    *lock = NULL;
    return EDGE_OK;
}

void ew_lock_free(ew_lock *lock) { (void)lock; }

void ew_lock_take(ew_lock *lock) { (void)lock; }

void ew_lock_give(ew_lock *lock) { (void)lock; }
