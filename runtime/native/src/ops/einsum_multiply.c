#include "einsum.h"

enum { OUT = 2, TENSORS = 3 };

/* A loop; steps of both operands and of the output, 0 where one does not have it. */
typedef struct loop {
    int64_t length, step[TENSORS];
} loop;

typedef struct loops {
    int count;
    loop at[EW_EINSUM_LABELS];
} loops;

/* Whether the second loop goes on where the first one ends, in every tensor. */
static bool joins(const loop *outer, const loop *inner) {
    for (int i = 0; i < TENSORS; i++)
        if (outer->step[i] != inner->step[i] * inner->length || !outer->step[i] != !inner->step[i]) return false;
    return true;
}

static void add_loop(loops *all, const loop *l) {
    loop *last = all->count ? &all->at[all->count - 1] : NULL;
    if (l->length == 1) return;
    if (last && joins(last, l)) {
        last->length *= l->length;
        memcpy(last->step, l->step, sizeof last->step);
    } else {
        all->at[all->count++] = *l;
    }
}

static void collect(const ew_einsum *e, loops *all) {
    int64_t out_step[EW_EINSUM_LABELS] = {0}, step = 1;
    for (int i = e->out_rank - 1; i >= 0; i--) {
        out_step[i] = step;
        step *= e->length[i];
    }
    all->count = 0;
    for (int i = 0; i < e->labels; i++)
        add_loop(all, &(loop){e->length[i], {e->step[0][i], e->step[1][i], out_step[i]}});
}

/* Takes the longest loop that has exactly the tensors of these bits. */
static loop take(loops *all, unsigned tensors) {
    int best = -1;
    for (int i = 0; i < all->count; i++) {
        const int64_t *step = all->at[i].step;
        unsigned own = (step[0] != 0) | (unsigned)(step[1] != 0) << 1 | (unsigned)(step[OUT] != 0) << 2;
        if (own == tensors && (best < 0 || all->at[i].length > all->at[best].length)) best = i;
    }
    if (best < 0) return (loop){1, {0, 0, 0}};
    loop taken = all->at[best];
    memmove(&all->at[best], &all->at[best + 1], (size_t)(--all->count - best) * sizeof taken);
    return taken;
}

/* The innermost loop of the output, along which it is contiguous. */
static bool take_columns(loops *all, int *b, loop *columns) {
    for (int i = 0; i < all->count; i++) {
        const int64_t *step = all->at[i].step;
        if (step[OUT] != 1) continue;
        if (step[0] && step[1]) return false;
        *b = step[0] ? 0 : 1;
        *columns = all->at[i];
        memmove(&all->at[i], &all->at[i + 1], (size_t)(--all->count - i) * sizeof *columns);
        return true;
    }
    return false;
}

/* Loops that are left go around the products; sums come last, so that the first term of each sum is known. */
static bool is_ordered(const loops *all) {
    bool in_sums = false;
    for (int i = 0; i < all->count; i++) {
        const int64_t *step = all->at[i].step;
        if (!step[OUT] && !(step[0] && step[1])) return false;
        if (step[OUT] && in_sums) return false;
        in_sums |= !step[OUT];
    }
    return true;
}

static void multiply_all(const ew_call *call, const loops *around, const ew_gemm *first, const int operand[2]) {
    int64_t total = 1, size = (int64_t)ew_dtype_bytes(ew_out(call, 0)->dtype);
    for (int i = 0; i < around->count; i++) total *= around->at[i].length;
    for (int64_t number = 0; number < total; number++) {
        int64_t rest = number, offset[TENSORS] = {0};
        ew_gemm g = *first;
        for (int i = around->count - 1; i >= 0; i--) {
            const loop *l = &around->at[i];
            int64_t index = rest % l->length;
            rest /= l->length;
            for (int k = 0; k < TENSORS; k++) offset[k] += index * l->step[k];
            g.accumulate |= index && !l->step[OUT];
        }
        g.a = (const uint8_t *)g.a + offset[operand[0]] * size;
        g.b = (const uint8_t *)g.b + offset[operand[1]] * size;
        g.c = (uint8_t *)g.c + offset[OUT] * size;
        ew_gemm_any(call, ew_out(call, 0)->dtype, &g);
    }
}

bool ew_einsum_multiply(const ew_call *call, const ew_einsum *e) {
    edge_dtype dtype = ew_out(call, 0)->dtype;
    loops all;
    loop columns, rows, sum;
    int b;
    if (e->operands != 2 || (dtype != EDGE_F32 && dtype != EDGE_F64)) return false;
    collect(e, &all);
    if (!take_columns(&all, &b, &columns)) return false;
    const int operand[2] = {!b, b};
    rows = take(&all, 1u << operand[0] | 1u << OUT);
    sum = take(&all, 3);
    if (!is_ordered(&all)) return false;
    ew_gemm g = {.m = rows.length,
                 .n = columns.length,
                 .k = sum.length,
                 .a = ew_in(call, operand[0])->data,
                 .a_row = rows.step[operand[0]],
                 .a_col = sum.step[operand[0]],
                 .b = ew_in(call, operand[1])->data,
                 .b_row = sum.step[operand[1]],
                 .b_col = columns.step[operand[1]],
                 .c = ew_out(call, 0)->data,
                 .c_row = rows.step[OUT]};
    multiply_all(call, &all, &g, operand);
    return true;
}
