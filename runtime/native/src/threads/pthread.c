#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>

/* Looks at the next task this often before the thread sleeps: an operator follows the last one within microseconds. */
#define SPINS 4000
#define NOBODYS_INDEX 0xffffffffu

struct ew_threads {
    /* Of the round that `ticket` names; they change while its index is NOBODYS_INDEX. */
    _Atomic(ew_task) task;
    _Atomic(void *) context;
    atomic_uint count;
    atomic_ullong ticket; /* round in the upper half, the next index that nobody took in the lower */
    atomic_uint done;     /* tasks of this round that are finished */
    atomic_bool ending;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    size_t started;
    pthread_t threads[EW_MOST_THREADS];
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A thread that wakes late reads what belongs to its ticket or fails to take it: the exchange sees another round. */
static void take_tasks(ew_threads *threads) {
    for (;;) {
        unsigned long long ticket = atomic_load(&threads->ticket);
        ew_task task = atomic_load(&threads->task);
        void *context = atomic_load(&threads->context);
        uint32_t index = (uint32_t)ticket;
        if (index >= atomic_load(&threads->count)) return;
        if (!atomic_compare_exchange_strong(&threads->ticket, &ticket, ticket + 1)) continue;
        task(context, index);
        atomic_fetch_add(&threads->done, 1);
    }
}

static uint32_t round_of(ew_threads *threads) { return (uint32_t)(atomic_load(&threads->ticket) >> 32); }

/* Returns with the new round, or when the pool ends. */
static uint32_t wait_for_round(ew_threads *threads, uint32_t seen) {
    for (int i = 0; i < SPINS; i++) {
        if (round_of(threads) != seen || atomic_load(&threads->ending)) return round_of(threads);
        relax();
    }
    pthread_mutex_lock(&threads->lock);
    while (round_of(threads) == seen && !atomic_load(&threads->ending)) pthread_cond_wait(&threads->wake, &threads->lock);
    pthread_mutex_unlock(&threads->lock);
    return round_of(threads);
}

static void *work(void *argument) {
    ew_threads *threads = argument;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_for_round(threads, seen);
        if (atomic_load(&threads->ending)) return NULL;
        take_tasks(threads);
    }
}

void ew_threads_run(ew_threads *threads, size_t count, ew_task task, void *context) {
    unsigned long long round = round_of(threads);
    atomic_store(&threads->ticket, round << 32 | NOBODYS_INDEX);
    atomic_store(&threads->task, task);
    atomic_store(&threads->context, context);
    atomic_store(&threads->count, (unsigned)count);
    atomic_store(&threads->done, 0);
    pthread_mutex_lock(&threads->lock);
    atomic_store(&threads->ticket, (round + 1) << 32);
    pthread_cond_broadcast(&threads->wake);
    pthread_mutex_unlock(&threads->lock);
    take_tasks(threads);
    while (atomic_load(&threads->done) < count) relax();
}

edge_status ew_threads_start(size_t width, ew_arena *arena, ew_threads **result) {
    ew_threads *threads = ew_arena_get(arena, sizeof *threads);
    if (!threads) return EDGE_NO_MEMORY;
    *result = threads;
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->wake, NULL);
    while (threads->started + 1 < width) {
        if (pthread_create(&threads->threads[threads->started], NULL, work, threads) != 0)
            return ew_fail(EDGE_NO_MEMORY, "the system gave %zu of %zu threads", threads->started + 1, width);
        threads->started++;
    }
    return EDGE_OK;
}

void ew_threads_end(ew_threads *threads) {
    pthread_mutex_lock(&threads->lock);
    atomic_store(&threads->ending, true);
    pthread_cond_broadcast(&threads->wake);
    pthread_mutex_unlock(&threads->lock);
    for (size_t i = 0; i < threads->started; i++) pthread_join(threads->threads[i], NULL);
    pthread_cond_destroy(&threads->wake);
    pthread_mutex_destroy(&threads->lock);
}

struct ew_lock {
    pthread_mutex_t mutex;
};

edge_status ew_lock_make(ew_arena *arena, ew_lock **result) {
    ew_lock *lock = ew_arena_get(arena, sizeof *lock);
    if (!lock) return EDGE_NO_MEMORY;
    pthread_mutex_init(&lock->mutex, NULL);
    *result = lock;
    return EDGE_OK;
}

void ew_lock_free(ew_lock *lock) {
    if (lock) pthread_mutex_destroy(&lock->mutex);
}

void ew_lock_take(ew_lock *lock) { pthread_mutex_lock(&lock->mutex); }

void ew_lock_give(ew_lock *lock) { pthread_mutex_unlock(&lock->mutex); }
