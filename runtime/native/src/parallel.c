/* Ranges of an operator's work, on the session's threads. */
#include "session.h"

typedef struct ranges {
    void (*fn)(void *context, int64_t begin, int64_t end);
    void *context;
    int64_t count, parts;
} ranges;

static void run_part(void *context, size_t index) {
    const ranges *r = context;
    int64_t i = (int64_t)index, share = r->count / r->parts, rest = r->count % r->parts;
    int64_t begin = i * share + (i < rest ? i : rest);
    r->fn(r->context, begin, begin + share + (i < rest));
}

void ew_parallel(const ew_call *call, int64_t count, int64_t grain, void (*fn)(void *, int64_t, int64_t),
                 void *context) {
    if (count <= 0) return;
    int64_t width = (int64_t)ew_pool_width(call->session->pool), most = grain > 0 ? count / grain : count;
    ranges r = {fn, context, count, most < 1 ? 1 : most < width ? most : width};
    ew_pool_run(call->session->pool, (size_t)r.parts, run_part, &r);
}
