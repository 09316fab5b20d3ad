/* Threads of the system; CMake takes the one file beside this that has them, or the one that has none. */
#ifndef EW_THREADS_H
#define EW_THREADS_H

#include "base.h"

#define EW_MOST_THREADS 64

typedef void (*ew_task)(void *context, size_t index);
typedef struct ew_threads ew_threads;

/* width - 1 threads wait for tasks.  *threads is set on failure too, when there is something to end. */
edge_status ew_threads_start(size_t width, ew_arena *arena, ew_threads **threads);
void ew_threads_end(ew_threads *threads);
/* Runs task for every index below count, on this thread too; returns when all are done. */
void ew_threads_run(ew_threads *threads, size_t count, ew_task task, void *context);

/* A lock for a few threads at a time. */
typedef struct ew_lock ew_lock;
edge_status ew_lock_make(ew_arena *arena, ew_lock **lock);
void ew_lock_free(ew_lock *lock); /* NULL is allowed; the memory is the arena's */
void ew_lock_take(ew_lock *lock);
void ew_lock_give(ew_lock *lock);

#endif
