/* Counts calls of malloc and its siblings, by whomever they are made, while models run; there may be none.
 *
 *     check_allocations MODEL...     ONNX files and archives without open dimensions */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgewright.h"

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *pointer, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static atomic_int calls;

/* The program's own come before those of the C library, also for the engine. */
void *malloc(size_t bytes) { return atomic_fetch_add(&calls, 1), __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) { return atomic_fetch_add(&calls, 1), __libc_calloc(count, bytes); }
void *realloc(void *pointer, size_t bytes) { return atomic_fetch_add(&calls, 1), __libc_realloc(pointer, bytes); }
void *memalign(size_t alignment, size_t bytes) {
    return atomic_fetch_add(&calls, 1), __libc_memalign(alignment, bytes);
}
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void **pointer, size_t alignment, size_t bytes) {
    *pointer = memalign(alignment, bytes);
    return *pointer ? 0 : 12;
}

enum { MOST = 4, RUNS = 3 };

static int run(edge_session *session) {
    edge_tensor inputs[MOST] = {0}, outputs[MOST];
    size_t count = edge_session_input_count(session), results = edge_session_output_count(session);
    edge_status status = EDGE_OK;
    for (size_t i = 0; i < count; i++) {
        edge_tensor_info info;
        edge_session_input(session, i, &info);
        inputs[i] = (edge_tensor){.dtype = info.dtype, .rank = info.rank, .bytes = sizeof(float)};
        memcpy(inputs[i].shape, info.max_shape, sizeof info.max_shape);
        for (int axis = 0; axis < info.rank; axis++) inputs[i].bytes *= (size_t)info.max_shape[axis];
        inputs[i].data = calloc(1, inputs[i].bytes);
    }
    int before = atomic_load(&calls);
    for (int i = 0; i < RUNS && status == EDGE_OK; i++)
        status = edge_session_run(session, inputs, count, outputs, results);
    int found = atomic_load(&calls) - before;
    printf("%d calls in %d runs\n", found, RUNS);
    return status != EDGE_OK || found;
}

int main(int count, char **paths) {
    int failed = 0;
    for (int i = 1; i < count; i++)
        for (uint32_t threads = 1; threads <= 2; threads++) {
            edge_session_options options = {.struct_size = sizeof options, .threads = threads, .profile = 1};
            edge_model *model;
            edge_session *session;
            int before = atomic_load(&calls);
            if (edge_model_open_path(paths[i], NULL, &model) != EDGE_OK ||
                edge_session_create(model, &options, &session) != EDGE_OK)
                return puts(edge_last_error()), 1;
            printf("%s: %d calls to open, ", paths[i], atomic_load(&calls) - before);
            failed += atomic_load(&calls) == before || run(session);
            edge_session_free(session);
            edge_model_free(model);
        }
    return failed != 0;
}
