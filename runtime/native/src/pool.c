#include "pool.h"

#include <stdatomic.h>

#define MOST_THREADS 64
/* Looks at the next task this often before the thread sleeps: an operator follows the last one within microseconds. */
#define SPINS 4000

#if defined(__wasm__) && !defined(__wasm_atomics__)
#define HAVE_THREADS 0
#else
#define HAVE_THREADS 1
#include <pthread.h>
#endif

typedef void (*ew_task)(void *context, size_t index);

struct ew_pool {
    size_t width;
    edge_parallel_for outside; /* run == NULL: own threads */
#if HAVE_THREADS
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
    pthread_t threads[MOST_THREADS];
#endif
};

size_t ew_pool_width(const ew_pool *pool) { return pool->width; }

#if HAVE_THREADS
static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#define NOBODYS_INDEX 0xffffffffu

/* A thread that wakes late reads what belongs to its ticket or fails to take it: the exchange sees another round. */
static void take_tasks(ew_pool *pool) {
    for (;;) {
        unsigned long long ticket = atomic_load(&pool->ticket);
        ew_task task = atomic_load(&pool->task);
        void *context = atomic_load(&pool->context);
        uint32_t index = (uint32_t)ticket;
        if (index >= atomic_load(&pool->count)) return;
        if (!atomic_compare_exchange_strong(&pool->ticket, &ticket, ticket + 1)) continue;
        task(context, index);
        atomic_fetch_add(&pool->done, 1);
    }
}

static uint32_t round_of(ew_pool *pool) { return (uint32_t)(atomic_load(&pool->ticket) >> 32); }

/* Returns with the new round, or when the pool ends. */
static uint32_t wait_for_round(ew_pool *pool, uint32_t seen) {
    for (int i = 0; i < SPINS; i++) {
        if (round_of(pool) != seen || atomic_load(&pool->ending)) return round_of(pool);
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    while (round_of(pool) == seen && !atomic_load(&pool->ending)) pthread_cond_wait(&pool->wake, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    return round_of(pool);
}

static void *work(void *argument) {
    ew_pool *pool = argument;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_for_round(pool, seen);
        if (atomic_load(&pool->ending)) return NULL;
        take_tasks(pool);
    }
}

static void run_inside(ew_pool *pool, size_t count, ew_task task, void *context) {
    unsigned long long round = round_of(pool);
    atomic_store(&pool->ticket, round << 32 | NOBODYS_INDEX);
    atomic_store(&pool->task, task);
    atomic_store(&pool->context, context);
    atomic_store(&pool->count, (unsigned)count);
    atomic_store(&pool->done, 0);
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->ticket, (round + 1) << 32);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    take_tasks(pool);
    while (atomic_load(&pool->done) < count) relax();
}

static edge_status start_threads(ew_pool *pool) {
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    while (pool->started + 1 < pool->width) {
        if (pthread_create(&pool->threads[pool->started], NULL, work, pool) != 0)
            return ew_fail(EDGE_NO_MEMORY, "the system gave %zu of %zu threads", pool->started + 1, pool->width);
        pool->started++;
    }
    return EDGE_OK;
}

void ew_pool_free(ew_pool *pool) {
    if (!pool || pool->outside.run) return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->ending, true);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->started; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
}
#else
static void run_inside(ew_pool *pool, size_t count, ew_task task, void *context) {
    (void)pool;
    for (size_t i = 0; i < count; i++) task(context, i);
}

static edge_status start_threads(ew_pool *pool) {
    pool->width = 1;
    return EDGE_OK;
}

void ew_pool_free(ew_pool *pool) { (void)pool; }
#endif

edge_status ew_pool_make(uint32_t threads, const edge_parallel_for *parallel_for, ew_arena *arena, ew_pool **result) {
    if (threads > MOST_THREADS)
        return ew_fail(EDGE_INVALID_ARGUMENT, "%u threads were asked for, at most %d are possible", threads,
                       MOST_THREADS);
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
    return start_threads(pool);
}

void ew_pool_run(ew_pool *pool, size_t count, ew_task task, void *context) {
    if (pool->width == 1 || count == 1) {
        for (size_t i = 0; i < count; i++) task(context, i);
    } else if (pool->outside.run) {
        pool->outside.run(pool->outside.user, count, task, context);
    } else {
        run_inside(pool, count, task, context);
    }
}
