/* Runs the cases of a file (case_file.py) on the engine and names those that fail: for machines without Python.
 *
 *     run_cases FILE            every value is within the tolerances of its case
 *     run_cases FILE DECIBELS   every output has at least this ratio of signal to noise, which is printed; one run only,
 *                               on three threads
 *
 * The file: "EWCASES1", then per case its name, its model, two tolerances (f64: relative, absolute), its inputs and its
 * expected outputs.  Text and bytes: u64 length, then the bytes.  A list: u64 count.  A tensor: name, u64 dtype,
 * u64 rank, s64 dims, bytes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgewright.h"

enum { MOST = 64 };

typedef struct reader {
    const uint8_t *at;
} reader;

typedef struct named {
    const char *name;
    edge_tensor tensor;
} named;

static uint64_t number(reader *r) {
    uint64_t value;
    memcpy(&value, r->at, sizeof value);
    r->at += sizeof value;
    return value;
}

static char *copies[8 * MOST]; /* of one case */
static size_t copy_count;

/* A copy with a zero at its end, until the next case. */
static char *bytes(reader *r, size_t *length) {
    *length = (size_t)number(r);
    char *copy = copies[copy_count++] = aligned_alloc(64, (*length + 64) / 64 * 64);
    memcpy(copy, r->at, *length);
    copy[*length] = 0;
    r->at += *length;
    return copy;
}

static size_t tensors(reader *r, named *list) {
    size_t count = (size_t)number(r), length;
    for (size_t i = 0; i < count; i++) {
        edge_tensor *t = &list[i].tensor;
        *t = (edge_tensor){0};
        list[i].name = bytes(r, &length);
        t->dtype = (edge_dtype)number(r);
        t->rank = (int32_t)number(r);
        for (int axis = 0; axis < t->rank; axis++) t->shape[axis] = (int64_t)number(r);
        t->data = bytes(r, &t->bytes);
    }
    return count;
}

static double half(uint16_t h) {
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    double value = exponent == 31  ? (mantissa ? NAN : INFINITY)
                   : exponent == 0 ? ldexp(mantissa, -24)
                                   : ldexp(mantissa + 1024, exponent - 25);
    return h & 0x8000 ? -value : value;
}

static double value_at(const edge_tensor *t, size_t i) {
    switch (t->dtype) {
    case EDGE_F32: return (double)((const float *)t->data)[i];
    case EDGE_F64: return ((const double *)t->data)[i];
    case EDGE_F16: return half(((const uint16_t *)t->data)[i]);
    case EDGE_U8:
    case EDGE_BOOL: return ((const uint8_t *)t->data)[i];
    case EDGE_S8: return ((const int8_t *)t->data)[i];
    case EDGE_U16: return ((const uint16_t *)t->data)[i];
    case EDGE_S16: return ((const int16_t *)t->data)[i];
    case EDGE_S32: return ((const int32_t *)t->data)[i];
    case EDGE_U32: return ((const uint32_t *)t->data)[i];
    case EDGE_S64: return (double)((const int64_t *)t->data)[i];
    default: return (double)((const uint64_t *)t->data)[i];
    }
}

static const char *differs(const edge_tensor *found, const edge_tensor *wanted, double relative, double absolute) {
    if (found->dtype != wanted->dtype || found->rank != wanted->rank) return "dtype or rank";
    size_t count = 1;
    for (int axis = 0; axis < found->rank; axis++) {
        if (found->shape[axis] != wanted->shape[axis]) return "shape";
        count *= (size_t)found->shape[axis];
    }
    for (size_t i = 0; i < count; i++) {
        double a = value_at(found, i), b = value_at(wanted, i);
        if (a == b || (isnan(a) && isnan(b))) continue;
        if (!(fabs(a - b) <= absolute + relative * fabs(b))) return "value";
    }
    return NULL;
}

static double decibels(const edge_tensor *found, const edge_tensor *wanted) {
    double signal = 0, noise = 0;
    size_t count = 1;
    for (int axis = 0; axis < wanted->rank; axis++) count *= (size_t)wanted->shape[axis];
    for (size_t i = 0; i < count; i++) {
        double b = value_at(wanted, i), difference = value_at(found, i) - b;
        signal += b * b;
        noise += difference * difference;
    }
    return noise == 0 ? INFINITY : 10 * log10(signal / noise);
}

/* Values as told by the command line. */
static const char *compare(const edge_tensor *found, const named *wanted, const double tolerance[2], double least) {
    if (!(least > 0)) return differs(found, &wanted->tensor, tolerance[0], tolerance[1]);
    const char *problem = differs(found, &wanted->tensor, 0, INFINITY);
    if (problem) return problem;
    double ratio = decibels(found, &wanted->tensor);
    printf("%s: %.1f dB\n", wanted->name, ratio);
    return ratio >= least ? NULL : "too few dB";
}

/* Which inputs are fixed: none, those that are no floats, all but the first, all. */
static int is_fixed(int choice, size_t index, const edge_tensor *t) {
    int is_float = t->dtype == EDGE_F32 || t->dtype == EDGE_F64 || t->dtype == EDGE_F16;
    return choice == 0 ? 0 : choice == 1 ? !is_float : choice == 2 ? index > 0 : 1;
}

static edge_session *session_for(edge_model *model, named *inputs, size_t count, int first_choice, int threads,
                                 int *choice) {
    edge_fixed_input fixed[MOST];
    edge_bound bounds[MOST * EDGE_MAX_RANK];
    char names[MOST * EDGE_MAX_RANK][128];
    size_t bound_count = 0;
    for (size_t i = 0; i < count; i++)
        for (int axis = 0; axis < inputs[i].tensor.rank; axis++, bound_count++) {
            int64_t length = inputs[i].tensor.shape[axis];
            snprintf(names[bound_count], sizeof *names, "%s:%d", inputs[i].name, axis);
            bounds[bound_count] = (edge_bound){names[bound_count], length, length};
        }
    for (*choice = first_choice; *choice < 4; ++*choice) {
        edge_session_options options = {
            .struct_size = sizeof options, .fixed_inputs = fixed, .bounds = bounds, .bound_count = bound_count,
            .threads = threads};
        for (size_t i = 0; i < count; i++)
            if (is_fixed(*choice, i, &inputs[i].tensor))
                fixed[options.fixed_input_count++] = (edge_fixed_input){inputs[i].name, inputs[i].tensor};
        edge_session *session;
        if (edge_session_create(model, &options, &session) == EDGE_OK) return session;
    }
    return NULL;
}

/* NULL when the case passes. */
static const char *run_case(edge_model *model, named *inputs, size_t input_count, const named *wanted, size_t count,
                            const double tolerance[2], double least, int first_choice) {
    edge_tensor given[MOST], found[MOST];
    int choice;
    size_t open = 0;
    const char *problem = NULL;
    int threads = first_choice || least > 0 ? 3 : 1;
    edge_session *session = session_for(model, inputs, input_count, first_choice, threads, &choice);
    if (!session) return edge_last_error();
    for (size_t i = 0; i < input_count; i++)
        if (!is_fixed(choice, i, &inputs[i].tensor)) given[open++] = inputs[i].tensor;
    if (edge_session_run(session, given, open, found, count) != EDGE_OK) problem = edge_last_error();
    for (size_t i = 0; i < count && !problem; i++)
        problem = compare(&found[i], &wanted[i], tolerance, least);
    edge_session_free(session);
    return problem;
}

static uint8_t *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *data = malloc((size_t)size);
    if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) return NULL;
    fclose(file);
    return data;
}

int main(int argc, char **argv) {
    static named inputs[MOST], wanted[MOST];
    uint8_t *data = argc > 1 ? read_file(argv[1]) : NULL;
    double least = argc > 2 ? atof(argv[2]) : 0;
    if (!data || memcmp(data, "EWCASES1", 8) != 0) return fprintf(stderr, "usage: run_cases FILE [DECIBELS]\n"), 2;
    reader r = {data + 8};
    uint64_t count = number(&r), failed = 0;
    for (uint64_t i = 0; i < count; i++) {
        size_t length;
        double tolerance[2];
        while (copy_count) free(copies[--copy_count]);
        const char *name = bytes(&r, &length), *content = bytes(&r, &length), *problem;
        memcpy(tolerance, r.at, sizeof tolerance);
        r.at += sizeof tolerance;
        size_t input_count = tensors(&r, inputs), wanted_count = tensors(&r, wanted);
        edge_model *model;
        if (edge_model_open_memory(content, length, NULL, &model) != EDGE_OK) {
            printf("%s: %s\n", name, edge_last_error());
            failed++;
            continue;
        }
        int passes = least > 0 ? 1 : 2;
        for (int choice = 0; choice < 2 * passes; choice += 2) /* as it comes; with constants, on three threads */
            if ((problem = run_case(model, inputs, input_count, wanted, wanted_count, tolerance, least, choice))) {
                printf("%s (from choice %d): %s\n", name, choice, problem);
                failed++;
                break;
            }
        edge_model_free(model);
    }
    while (copy_count) free(copies[--copy_count]);
    free(data);
    printf("%llu cases, %llu failed\n", (unsigned long long)count, (unsigned long long)failed);
    return failed != 0;
}
