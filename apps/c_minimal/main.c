/* Classifies a JPEG photo with a bundle: what it shows, and how long that took.
 *
 *   c_minimal model.edge photo.jpg
 */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <edgewright.h>

#include "jpeg.h"

#define RUNS 10

static double milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Prints the reason of a status that is not OK. */
static int failed(edge_status status) {
    if (status != EDGE_OK) fprintf(stderr, "c_minimal: %s\n", edge_last_error());
    return status != EDGE_OK;
}

/* A photo as the input of the model; input->data is the caller's to free. */
static int prepare(const edge_model *model, const edge_photo *photo, edge_tensor *input) {
    edge_image image = {.struct_size = sizeof image};
    size_t workspace_bytes;
    if (failed(edge_model_image(model, NULL, &image))) return 1;
    if (failed(edge_image_workspace(&image, photo, &workspace_bytes))) return 1;
    input->bytes = 3 * sizeof(float) * (size_t)image.size * (size_t)image.size;
    input->data = malloc(input->bytes);
    void *workspace = malloc(workspace_bytes);
    int wrong = failed(edge_image_load(&image, photo, workspace, workspace_bytes, input));
    free(workspace);
    return wrong;
}

/* The output that holds the scores, NULL when the session has no such output. */
static const edge_tensor *find_scores(const edge_session *session, const char *name, const edge_tensor *outputs) {
    edge_tensor_info info;
    for (size_t i = 0; i < edge_session_output_count(session); i++)
        if (edge_session_output(session, i, &info) == EDGE_OK && strcmp(info.name, name) == 0) return &outputs[i];
    return NULL;
}

static int print_classes(const edge_model *model, const edge_session *session, const edge_tensor *outputs) {
    edge_ranking ranking = {.struct_size = sizeof ranking};
    if (failed(edge_model_ranking(model, &ranking))) return 1;
    edge_class *best = calloc(ranking.top_k, sizeof *best);
    size_t count = 0;
    int wrong = failed(edge_rank(&ranking, find_scores(session, ranking.output, outputs), model, best, &count));
    for (size_t i = 0; i < count; i++) {
        printf("%2zu  %.4f  ", i + 1, best[i].score);
        if (best[i].label) printf("%s\n", best[i].label);
        else printf("class %zu\n", best[i].index);
    }
    free(best);
    return wrong;
}

static int run(const edge_model *model, edge_session *session, const edge_photo *photo) {
    edge_tensor input = {0}, *outputs = calloc(edge_session_output_count(session), sizeof *outputs);
    double start = milliseconds(), least = 0;
    int wrong = prepare(model, photo, &input);
    double prepared = milliseconds() - start;
    for (int i = 0; i < RUNS && !wrong; i++) {
        start = milliseconds();
        wrong = failed(edge_session_run(session, &input, 1, outputs, edge_session_output_count(session)));
        double taken = milliseconds() - start;
        if (i == 0 || taken < least) least = taken;
    }
    if (!wrong) wrong = print_classes(model, session, outputs);
    if (!wrong)
        printf("photo %.2f ms, model %.2f ms (least of %d runs, one thread), measured\n", prepared, least, RUNS);
    free(input.data);
    free(outputs);
    return wrong;
}

static int classify(const char *bundle, const edge_photo *photo) {
    edge_model *model = NULL;
    edge_session *session = NULL;
    int wrong = failed(edge_model_open_path(bundle, NULL, &model)) ||
                failed(edge_session_create(model, NULL, &session)) || run(model, session, photo);
    edge_session_free(session);
    edge_model_free(model);
    return wrong;
}

int main(int count, char **arguments) {
    edge_photo photo = {0};
    if (count != 3) {
        fprintf(stderr, "usage: c_minimal model.edge photo.jpg\n");
        return 2;
    }
    const char *problem = jpeg_read(arguments[2], &photo);
    if (problem) {
        fprintf(stderr, "c_minimal: '%s': %s\n", arguments[2], problem);
        return 1;
    }
    int wrong = classify(arguments[1], &photo);
    free((void *)photo.data);
    return wrong;
}
