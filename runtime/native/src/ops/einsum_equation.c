#include "einsum.h"

/* Numbers of labels: letters in the order of ASCII, then the axes of the ellipsis, whose last one is the last label. */
enum { LETTERS = 52, LABELS = EW_EINSUM_LABELS, NOT_A_LETTER = -1 };

typedef struct term {
    const char *text, *end;
    int letters;
    bool has_ellipsis;
} term;

typedef struct equation {
    term in[EW_EINSUM_OPERANDS], out;
    int terms;
    bool has_out;
} equation;

static int letter(char c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? 26 + (c - 'a') : NOT_A_LETTER;
}

static edge_status malformed(const char *text) {
    return ew_fail(EDGE_INVALID_MODEL, "the equation \"%.200s\" is not valid", text);
}

/* The next symbol of a term: a letter, LETTERS for an ellipsis; NOT_A_LETTER at its end. */
static int next_symbol(const char **at, const char *end) {
    while (*at < end && **at == ' ') ++*at;
    if (*at >= end) return NOT_A_LETTER;
    int step = **at == '.' ? 3 : 1, symbol = step == 3 ? LETTERS : letter(**at);
    *at += step;
    return symbol;
}

/* Counts the symbols of the term from *at up to a comma, an arrow or the end of the text. */
static bool read_term(const char **at, term *t) {
    *t = (term){.text = *at};
    for (; **at && **at != ',' && **at != '-'; ++*at) {
        if (**at == ' ') continue;
        if (letter(**at) != NOT_A_LETTER) {
            t->letters++;
        } else {
            if (t->has_ellipsis || strncmp(*at, "...", 3)) return false;
            t->has_ellipsis = true;
            *at += 2;
        }
    }
    t->end = *at;
    return t->letters <= EDGE_MAX_RANK;
}

static edge_status read_equation(const char *text, equation *q) {
    const char *at = text;
    *q = (equation){.terms = 0};
    for (;;) {
        if (q->terms == EW_EINSUM_OPERANDS)
            return ew_fail(EDGE_UNSUPPORTED, "the equation \"%.200s\" has more than %d operands", text,
                           EW_EINSUM_OPERANDS);
        if (!read_term(&at, &q->in[q->terms++])) return malformed(text);
        if (*at != ',') break;
        at++;
    }
    if (!*at) return EDGE_OK;
    q->has_out = true;
    if (strncmp(at, "->", 2)) return malformed(text);
    at += 2;
    return read_term(&at, &q->out) && !*at ? EDGE_OK : malformed(text);
}

typedef struct axes {
    int64_t length[LABELS]; /* -1: not in the equation */
    int64_t step[EW_EINSUM_OPERANDS][LABELS];
    int used[LABELS]; /* how often a label is there */
    int ellipsis;     /* axes of the longest one */
} axes;

static edge_status add_axis(axes *a, int operand, int label, int64_t length, int64_t step) {
    int64_t known = a->length[label];
    a->used[label]++;
    if (known > 1 && length != 1 && known != length)
        return ew_fail(EDGE_SHAPE_MISMATCH, "input %d has length %lld for a label that has length %lld elsewhere",
                       operand, (long long)length, (long long)known);
    if (known < 0 || known == 1) a->length[label] = length;
    if (known == 0 && length > 1)
        return ew_fail(EDGE_SHAPE_MISMATCH, "input %d has length %lld for a label that has length 0 elsewhere", operand,
                       (long long)length);
    if (length != 1) a->step[operand][label] += step;
    return EDGE_OK;
}

static edge_status add_operand(const term *t, int operand, const ew_tensor *x, axes *a) {
    int extra = x->rank - t->letters, symbol, axis = 0;
    const char *at = t->text;
    if (extra < 0 || (extra && !t->has_ellipsis))
        return ew_fail(EDGE_SHAPE_MISMATCH, "input %d has rank %d, the equation has %d labels for it", operand, x->rank,
                       t->letters);
    if (t->has_ellipsis && extra > a->ellipsis) a->ellipsis = extra;
    while ((symbol = next_symbol(&at, t->end)) != NOT_A_LETTER) {
        int count = symbol == LETTERS ? extra : 1, first = symbol == LETTERS ? LABELS - extra : symbol;
        for (int i = 0; i < count; i++, axis++)
            EW_TRY(add_axis(a, operand, first + i, x->dims[axis], ew_span(x, axis + 1, x->rank)));
    }
    return EDGE_OK;
}

static int add_ellipsis(const axes *a, int *order, int count) {
    for (int i = LABELS - a->ellipsis; i < LABELS && count < EDGE_MAX_RANK; i++) order[count++] = i;
    return count;
}

/* Labels of the output in order; their number, or -1 when the output is not valid. */
static int order_out(const equation *q, const axes *a, int order[EDGE_MAX_RANK + 1]) {
    int count = 0, symbol;
    const char *at = q->out.text;
    if (!q->has_out) {
        count = add_ellipsis(a, order, 0);
        for (int i = 0; i < LETTERS && count <= EDGE_MAX_RANK; i++)
            if (a->used[i] == 1) order[count++] = i;
        return count <= EDGE_MAX_RANK ? count : -1;
    }
    bool seen[LETTERS] = {false};
    if (q->out.letters + (q->out.has_ellipsis ? a->ellipsis : 0) > EDGE_MAX_RANK) return -1;
    while ((symbol = next_symbol(&at, q->out.end)) != NOT_A_LETTER) {
        if (symbol == LETTERS) {
            count = add_ellipsis(a, order, count);
            continue;
        }
        if (!a->used[symbol] || seen[symbol]) return -1;
        seen[symbol] = true;
        order[count++] = symbol;
    }
    return count;
}

static void add_label(const axes *a, int label, ew_einsum *e) {
    e->length[e->labels] = a->length[label];
    for (int i = 0; i < e->operands; i++) e->step[i][e->labels] = a->step[i][label];
    e->labels++;
}

edge_status ew_einsum_read(const ew_call *call, ew_einsum *e) {
    const char *text = ew_attr_string(call->node, "equation", NULL);
    equation q;
    axes a = {.ellipsis = 0};
    int order[EDGE_MAX_RANK + 1];
    bool is_out[LABELS] = {false};
    if (!text) return ew_fail(EDGE_INVALID_MODEL, "attribute equation is missing");
    EW_TRY(read_equation(text, &q));
    if (q.terms != call->in_count)
        return ew_fail(EDGE_INVALID_MODEL, "the equation \"%.200s\" has %d operands, the node has %d", text, q.terms,
                       call->in_count);
    *e = (ew_einsum){.operands = q.terms};
    for (int i = 0; i < LABELS; i++) a.length[i] = -1;
    for (int i = 0; i < q.terms; i++) EW_TRY(add_operand(&q.in[i], i, ew_in(call, i), &a));
    e->out_rank = order_out(&q, &a, order);
    if (e->out_rank < 0) return malformed(text);
    for (int i = 0; i < e->out_rank; i++) {
        is_out[order[i]] = true;
        add_label(&a, order[i], e);
    }
    for (int i = 0; i < LABELS; i++)
        if (a.length[i] >= 0 && !is_out[i]) add_label(&a, i, e);
    return EDGE_OK;
}
