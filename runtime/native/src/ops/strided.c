/* Copies between layouts: every movement that a stride per dimension describes. */
#include "movement.h"

enum {
    TILE = 16,
    WORTH_A_TILE = 8,
    BLOCK_COLUMNS = 256,
    SHORT_ELEMENT = 16,
    LONG_ELEMENT = 256,
    WORTH_A_THREAD = 1 << 16,
    FILL_CHUNK = 1 << 14
};

typedef struct walk {
    const ew_strided *layout;
    int64_t index[EW_MOVE_DIMS], from, to;
} walk;

static int64_t count_of(const ew_strided *layout) {
    int64_t count = 1;
    for (int i = 0; i < layout->rank; i++) count *= layout->dims[i];
    return count;
}

static void walk_to(walk *w, const ew_strided *layout, int64_t position) {
    w->layout = layout;
    w->from = w->to = 0;
    for (int i = layout->rank - 1; i >= 0; i--) {
        w->index[i] = position % layout->dims[i];
        position /= layout->dims[i];
        w->from += w->index[i] * layout->from[i];
        w->to += w->index[i] * layout->to[i];
    }
}

static void walk_on(walk *w) {
    const ew_strided *layout = w->layout;
    for (int i = layout->rank - 1; i >= 0; i--) {
        w->from += layout->from[i];
        w->to += layout->to[i];
        if (++w->index[i] < layout->dims[i]) return;
        w->from -= layout->dims[i] * layout->from[i];
        w->to -= layout->dims[i] * layout->to[i];
        w->index[i] = 0;
    }
}

typedef struct job {
    ew_strided outer;
    size_t element;
    const char *from;
    char *to;
    int64_t columns, column_from, column_to; /* the innermost dimension */
    int64_t rows, row_to;                    /* tiles only: a row is an element further in from */
} job;

#define COPY_LINE(bytes) \
    for (int64_t i = 0; i < count; i++) memcpy(to + i * to_step, from + i * from_step, bytes)

static void copy_line(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t count, size_t element) {
    if (from_step == 0 && to_step == (int64_t)element) {
        ew_move_fill(to, count, element, from);
        return;
    }
    switch (element) {
    case 1: COPY_LINE(1); break;
    case 2: COPY_LINE(2); break;
    case 4: COPY_LINE(4); break;
    case 8: COPY_LINE(8); break;
    case 16: COPY_LINE(16); break;
    default: COPY_LINE(element);
    }
}

static void copy_lines(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    walk w;
    walk_to(&w, &j->outer, begin);
    for (int64_t i = begin; i < end; i++, walk_on(&w))
        copy_line(j->to + w.to, j->column_to, j->from + w.from, j->column_from, j->columns, j->element);
}

#define COPY_TILE(bytes)                      \
    for (int64_t i = 0; i < rows; i++)        \
        for (int64_t k = 0; k < columns; k++) \
            memcpy(to + i * row_to + k * bytes, from + k * column_from + i * bytes, bytes)

static void copy_tile(char *to, int64_t row_to, const char *from, int64_t column_from, int64_t rows, int64_t columns,
                      size_t element) {
    switch (element) {
    case 1: COPY_TILE(1); break;
    case 2: COPY_TILE(2); break;
    case 4: COPY_TILE(4); break;
    case 8: COPY_TILE(8); break;
    default: COPY_TILE(16);
    }
}

static int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void copy_blocks(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    const int64_t across = parts(j->columns, BLOCK_COLUMNS), down = parts(j->rows, TILE);
    for (int64_t i = begin; i < end; i++) {
        walk w;
        walk_to(&w, &j->outer, i / (across * down));
        int64_t row = i / across % down * TILE, first = i % across * BLOCK_COLUMNS;
        int64_t rows = smaller(TILE, j->rows - row), last = smaller(first + BLOCK_COLUMNS, j->columns);
        for (int64_t column = first; column < last; column += TILE) {
            char *to = j->to + w.to + row * j->row_to + column * (int64_t)j->element;
            const char *from = j->from + w.from + row * (int64_t)j->element + column * j->column_from;
            copy_tile(to, j->row_to, from, j->column_from, rows, smaller(TILE, last - column), j->element);
        }
    }
}

static void copy_bytes(void *context, int64_t begin, int64_t end) {
    const job *j = context;
    memcpy(j->to + begin, j->from + begin, (size_t)(end - begin));
}

/* Drops dimensions of one, merges neighbours that are one run in both layouts, and makes a dense run the element. */
static void simplify(const ew_strided *layout, job *j) {
    ew_strided *s = &j->outer;
    s->rank = 0;
    for (int i = 0; i < layout->rank; i++) {
        int64_t size = layout->dims[i], from = layout->from[i], to = layout->to[i];
        if (size == 1) continue;
        int last = s->rank - 1;
        if (last >= 0 && s->from[last] == from * size && s->to[last] == to * size) {
            s->dims[last] *= size;
        } else {
            s->dims[++last] = size;
            s->rank++;
        }
        s->from[last] = from;
        s->to[last] = to;
    }
    int last = s->rank - 1;
    if (last >= 0 && s->from[last] == (int64_t)j->element && s->to[last] == (int64_t)j->element) {
        j->element *= (size_t)s->dims[last];
        s->rank--;
    }
}

/* Takes a dimension out of the outer ones. */
static void remove_dimension(ew_strided *s, int at) {
    s->rank--;
    for (int i = at; i < s->rank; i++) {
        s->dims[i] = s->dims[i + 1];
        s->from[i] = s->from[i + 1];
        s->to[i] = s->to[i + 1];
    }
}

/* The dimension that is dense in from where the innermost one is dense in to; -1: this is no transposition. */
static int dense_dimension(const job *j) {
    const int64_t element = (int64_t)j->element;
    if (element > SHORT_ELEMENT || (element & (element - 1)) || j->outer.to[j->outer.rank - 1] != element) return -1;
    for (int i = 0; i < j->outer.rank - 1; i++)
        if (j->outer.from[i] == element) return i;
    return -1;
}

/* Takes a dimension out of the outer ones, to be the columns. */
static void take_columns(job *j, int at) {
    j->columns = j->outer.dims[at];
    j->column_from = j->outer.from[at];
    j->column_to = j->outer.to[at];
    remove_dimension(&j->outer, at);
}

static int64_t grain(int64_t bytes) { return bytes < WORTH_A_THREAD ? WORTH_A_THREAD / (bytes ? bytes : 1) : 1; }

static void copy_transposed(const ew_call *call, job *j, int dense) {
    j->rows = j->outer.dims[dense];
    j->row_to = j->outer.to[dense];
    remove_dimension(&j->outer, dense);
    const int64_t blocks = parts(j->columns, BLOCK_COLUMNS) * parts(j->rows, TILE);
    ew_parallel(call, count_of(&j->outer) * blocks, grain(j->columns * j->rows / blocks * (int64_t)j->element),
                copy_blocks, j);
}

void ew_move_strided(const ew_call *call, const ew_strided *layout, size_t element, const void *from, void *to) {
    for (int i = 0; i < layout->rank; i++)
        if (layout->dims[i] == 0) return;
    job j = {.element = element, .from = from, .to = to};
    simplify(layout, &j);
    if (j.outer.rank == 0) {
        ew_parallel(call, (int64_t)j.element, WORTH_A_THREAD, copy_bytes, &j);
        return;
    }
    const int dense = dense_dimension(&j), last = j.outer.rank - 1;
    const bool few_columns = j.outer.dims[last] < WORTH_A_TILE;
    if (dense >= 0 && !few_columns && j.outer.dims[dense] >= WORTH_A_TILE) {
        take_columns(&j, last);
        copy_transposed(call, &j, dense);
        return;
    }
    j.columns = 1;
    if (j.element < LONG_ELEMENT) take_columns(&j, dense >= 0 && few_columns ? dense : last);
    ew_parallel(call, count_of(&j.outer), grain(j.columns * (int64_t)j.element), copy_lines, &j);
}

void ew_move_rows(const ew_call *call, int64_t rows, int64_t bytes, const void *from, int64_t from_step, void *to,
                  int64_t to_step) {
    ew_strided layout = {.rank = 2, .dims = {rows, bytes}, .from = {from_step, 1}, .to = {to_step, 1}};
    ew_move_strided(call, &layout, 1, from, to);
}

void ew_move_all(const ew_call *call, const ew_tensor *from, ew_tensor *to) {
    ew_move_rows(call, 1, (int64_t)ew_bytes(from), from->data, 0, to->data, 0);
}

void ew_move_dense(const ew_tensor *t, int64_t *strides) {
    uint64_t stride = ew_dtype_bytes(t->dtype);
    for (int i = t->rank - 1; i >= 0; i--) {
        strides[i] = (int64_t)stride;
        stride *= (uint64_t)t->dims[i];
    }
}

void ew_move_fill(void *to, int64_t count, size_t element, const void *value) {
    if (count <= 0) return;
    if (element == 1) {
        memset(to, *(const uint8_t *)value, (size_t)count);
        return;
    }
    size_t total = (size_t)count * element, done = element, chunk = element;
    memmove(to, value, element);
    for (; done < total; done += chunk) {
        if (chunk < FILL_CHUNK) chunk = done;
        if (chunk > total - done) chunk = total - done;
        memcpy((char *)to + done, to, chunk);
    }
}
