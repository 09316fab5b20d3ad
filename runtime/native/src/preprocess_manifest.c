/* What a manifest says of photos and of scores: edge_model_image, edge_model_ranking. */
#include "graph.h"

static const char *const RESIZES[] = {
    [EDGE_NEAREST] = "nearest", [EDGE_BILINEAR] = "bilinear", [EDGE_BICUBIC] = "bicubic", [EDGE_LANCZOS] = "lanczos"};
static const char *const LAYOUTS[] = {[EDGE_NCHW] = "NCHW", [EDGE_NHWC] = "NHWC"};

static edge_status wrong(const char *field) {
    return ew_fail(EDGE_INVALID_MODEL, "the manifest has no valid '%s' where it says how to pre- or postprocess",
                   field);
}

/* These leave what is there where the object lacks the field. */
static edge_status read_int(const ew_json *object, const char *field, int64_t most, int64_t *number) {
    const ew_json *value = ew_json_get(object, field);
    return !value || (ew_json_int(value, number) && *number >= 1 && *number <= most) ? EDGE_OK : wrong(field);
}

static edge_status read_number(const ew_json *object, const char *field, double *number) {
    const ew_json *value = ew_json_get(object, field);
    return !value || ew_json_number(value, number) ? EDGE_OK : wrong(field);
}

static edge_status read_three(const ew_json *object, const char *field, double *numbers) {
    const ew_json *values = ew_json_get(object, field);
    if (!values) return EDGE_OK;
    if (ew_json_count(values) != 3) return wrong(field);
    for (size_t i = 0; i < 3; i++)
        if (!ew_json_number(ew_json_at(values, i), &numbers[i])) return wrong(field);
    return EDGE_OK;
}

static edge_status read_name(const ew_json *object, const char *field, const char *const *names, int count,
                             int *found) {
    const ew_json *value = ew_json_get(object, field);
    const char *name;
    if (!value) return EDGE_OK;
    if (!ew_json_string(value, &name)) return wrong(field);
    for (int i = 1; i < count; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *found = i;
        return EDGE_OK;
    }
    return wrong(field);
}

static edge_status read_image(const ew_json *from, edge_image *image) {
    int64_t size = 0;
    int resize = EDGE_BILINEAR, layout = EDGE_NCHW;
    *image = (edge_image){sizeof *image, .crop = 1, .scale = 1.0 / 255, .std = {1, 1, 1}};
    EW_TRY(read_int(from, "size", INT32_MAX, &size));
    EW_TRY(read_name(from, "resize", RESIZES, sizeof RESIZES / sizeof *RESIZES, &resize));
    EW_TRY(read_name(from, "layout", LAYOUTS, sizeof LAYOUTS / sizeof *LAYOUTS, &layout));
    EW_TRY(read_number(from, "crop", &image->crop));
    EW_TRY(read_number(from, "scale", &image->scale));
    EW_TRY(read_three(from, "mean", image->mean));
    EW_TRY(read_three(from, "std", image->std));
    if (!size) return wrong("size");
    image->size = (int32_t)size;
    image->resize = (edge_resize)resize;
    image->layout = (edge_layout)layout;
    return EDGE_OK;
}

/* The tensor of the main entry whose field holds this text; with NULL, the first one. */
static const ew_json *tensor_with(const edge_model *model, const char *list, const char *field, const char *text) {
    const ew_json *entry = ew_json_get(ew_json_get(model->bundle.manifest, "entries"), "main");
    const ew_json *tensors = ew_json_get(entry, list);
    for (size_t i = 0; i < ew_json_count(tensors); i++) {
        const ew_json *tensor = ew_json_at(tensors, i);
        const char *found;
        if (!text || (ew_json_string(ew_json_get(tensor, field), &found) && strcmp(found, text) == 0)) return tensor;
    }
    return NULL;
}

static const ew_json *image_for(const edge_model *model, const char *input) {
    const ew_json *all = ew_json_get(model->bundle.manifest, "preprocess");
    const char *name;
    if (!input) return ew_json_count(all) == 1 ? ew_json_at(all, 0) : NULL;
    const ew_json *tensor = tensor_with(model, "inputs", "binding", input);
    return ew_json_string(ew_json_get(tensor, "name"), &name) ? ew_json_get(all, name) : NULL;
}

/* Into a struct of the caller as far as its struct_size goes, which stays. */
static edge_status write_struct(const char *name, void *given, const void *found, size_t bytes) {
    uint32_t struct_size;
    memcpy(&struct_size, given, sizeof struct_size);
    if (struct_size < sizeof struct_size)
        return ew_fail(EDGE_INVALID_ARGUMENT, "struct_size of the %s is %u", name, struct_size);
    size_t copied = struct_size < bytes ? struct_size : bytes;
    memcpy((uint8_t *)given + sizeof struct_size, (const uint8_t *)found + sizeof struct_size,
           copied - sizeof struct_size);
    return EDGE_OK;
}

edge_status edge_model_image(const edge_model *model, const char *input, edge_image *image) {
    if (!model || !image) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_model_image needs a model and an image");
    const ew_json *said = image_for(model, input);
    if (!said)
        return ew_fail(EDGE_INVALID_ARGUMENT,
                       "the model does not say how a photo becomes %s%s; export it with preprocess=sdk.Image(...)",
                       input ? "input " : "its input", input ? input : "");
    edge_image found;
    EW_TRY(read_image(said, &found));
    return write_struct("image", image, &found, sizeof found);
}

static edge_status find_output(const edge_model *model, const ew_json *said, const char **output) {
    const char *name = NULL;
    const ew_json *value = ew_json_get(said, "output");
    if (value && ew_json_type_of(value) != EW_JSON_NULL && !ew_json_string(value, &name)) return wrong("output");
    const ew_json *tensor = tensor_with(model, "outputs", "name", name);
    return ew_json_string(ew_json_get(tensor, "binding"), output) ? EDGE_OK : wrong("output");
}

edge_status edge_model_ranking(const edge_model *model, edge_ranking *ranking) {
    if (!model || !ranking) return ew_fail(EDGE_INVALID_ARGUMENT, "edge_model_ranking needs a model and a ranking");
    const ew_json *said = ew_json_get(model->bundle.manifest, "postprocess");
    if (ew_json_type_of(said) != EW_JSON_OBJECT)
        return ew_fail(EDGE_INVALID_ARGUMENT,
                       "the model does not say how its scores are ranked; export it with preprocess=sdk.Image(...)");
    edge_ranking found = {sizeof found, .softmax = 1};
    const ew_json *softmax = ew_json_get(said, "softmax");
    int64_t top_k = 5;
    if (softmax && ew_json_type_of(softmax) != EW_JSON_FALSE && ew_json_type_of(softmax) != EW_JSON_TRUE)
        return wrong("softmax");
    found.softmax = ew_json_type_of(softmax) != EW_JSON_FALSE;
    EW_TRY(read_int(said, "top_k", UINT32_MAX, &top_k));
    EW_TRY(find_output(model, said, &found.output));
    found.top_k = (uint32_t)top_k;
    return write_struct("ranking", ranking, &found, sizeof found);
}
