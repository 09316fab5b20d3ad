/* Sessions of one model at once: 8 threads, each with a session of its own on 1 or 2 threads, run again and again, and
 * are cancelled from outside now and then; every run that is not cancelled gives the bits of a run alone.  Some run
 * must have been cancelled.
 *
 *     check_threads MODEL...     ONNX files and archives without open dimensions; all their inputs are float32 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgewright.h"

enum { SESSIONS = 8, RUNS = 25, VALUES = 1 << 16 };

static edge_model *model;
static atomic_int working;
static float image[VALUES], wanted[VALUES];
static size_t wanted_bytes;
static int cancelled;

typedef struct worker {
    pthread_t thread;
    uint32_t threads;
    _Atomic(edge_session *) session; /* NULL: not yet there */
    int done, cancelled;
    const char *problem;
} worker;

static edge_session *make(uint32_t threads) {
    edge_session_options options = {.struct_size = sizeof options, .threads = threads};
    edge_session *session = NULL;
    return edge_session_create(model, &options, &session) == EDGE_OK ? session : NULL;
}

static edge_status run(edge_session *session, edge_tensor *output) {
    edge_tensor_info info;
    edge_status status = edge_session_input(session, 0, &info);
    edge_tensor input = {info.dtype, info.rank, {0}, image, sizeof(float)};
    for (int axis = 0; axis < info.rank; axis++) input.bytes *= (size_t)(input.shape[axis] = info.max_shape[axis]);
    return status ? status : edge_session_run(session, &input, 1, output, 1);
}

static void *work(void *argument) {
    worker *w = argument;
    edge_session *session = make(w->threads);
    edge_tensor output;
    if (!session) w->problem = "no session";
    atomic_store(&w->session, session);
    while (w->done < RUNS && !w->problem) {
        edge_status status = run(session, &output);
        w->done += status == EDGE_OK;
        w->cancelled += status == EDGE_CANCELLED;
        if (status != EDGE_OK && status != EDGE_CANCELLED) w->problem = "a run failed";
        if (status == EDGE_OK && memcmp(output.data, wanted, wanted_bytes) != 0) w->problem = "other bits";
    }
    atomic_fetch_sub(&working, 1);
    return session;
}

static int check(void) {
    worker workers[SESSIONS] = {0};
    int failed = 0, before = cancelled;
    edge_session *alone = make(1);
    edge_tensor output;
    if (!alone || run(alone, &output) != EDGE_OK || output.bytes > sizeof wanted) return puts(edge_last_error()), 1;
    wanted_bytes = output.bytes;
    memcpy(wanted, output.data, wanted_bytes);
    edge_session_free(alone);
    atomic_store(&working, SESSIONS);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        workers[i].threads = 1 + i % 2;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) return puts("no thread"), 1;
    }
    for (size_t i = 0; atomic_load(&working); i++) {
        edge_session_cancel(atomic_load(&workers[i % SESSIONS].session));
        sched_yield();
    }
    for (int i = 0; i < SESSIONS; i++) {
        void *own;
        pthread_join(workers[i].thread, &own);
        edge_session_free(own);
        if (workers[i].problem) printf("session %d: %s\n", i, workers[i].problem), failed++;
        cancelled += workers[i].cancelled;
    }
    printf("%d runs, %d cancelled\n", SESSIONS * RUNS, cancelled - before);
    return failed;
}

int main(int count, char **paths) {
    int failed = 0;
    for (int i = 0; i < VALUES; i++) image[i] = (float)(i * 7919 % 2001 - 1000) * 0.002f;
    for (int i = 1; i < count; i++) {
        printf("%s: ", paths[i]);
        if (edge_model_open_path(paths[i], NULL, &model) != EDGE_OK) return puts(edge_last_error()), 1;
        failed += check();
        edge_model_free(model);
    }
    return failed != 0 || cancelled == 0;
}
