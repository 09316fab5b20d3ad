/* Constants of which most blocks are zeros: a bit for each block, and the weights of those that are there (runtime/BUNDLE.md). */
#include "onnx_stored.h"

enum { MOST_WEIGHTS = 16 /* of a block: a bit of a file stands for no more memory than that */ };

typedef struct blocks {
    int64_t shape[2], block[2], count[2]; /* along the first two axes */
    int64_t rest;                         /* places of all others */
    const uint8_t *bits;
    const uint8_t *values; /* at any place */
    size_t each;           /* bytes of a value */
} blocks;

static bool read_blocks(const ew_node *node, const edge_tensor *tensor, blocks *b) {
    int axes = 0;
    const int64_t *block = ew_attr_ints(node, "block", &axes);
    if (axes != 2 || block[0] < 1 || block[1] < 1 || block[0] > MOST_WEIGHTS || block[1] > MOST_WEIGHTS / block[0]) return false;
    b->rest = 1;
    for (int i = 0; i < 2; i++) {
        b->shape[i] = tensor->shape[i];
        b->block[i] = block[i];
        b->count[i] = (tensor->shape[i] + block[i] - 1) / block[i];
    }
    for (int i = 2; i < tensor->rank; i++) b->rest *= tensor->shape[i];
    return true;
}

static int64_t blocks_there(const uint8_t *bits, int64_t count) {
    int64_t there = 0;
    for (int64_t i = 0; i < count; i++) there += bits[i / 8] >> i % 8 & 1;
    return there;
}

/* The weights of one block; what lies beyond the end of an axis is not read. */
static void fill_block(const blocks *b, int64_t row, int64_t column, int64_t place, uint8_t *to) {
    for (int64_t i = 0; i < b->block[0] && row + i < b->shape[0]; i++)
        for (int64_t j = 0; j < b->block[1] && column + j < b->shape[1]; j++)
            memcpy(to + (size_t)(((row + i) * b->shape[1] + column + j) * b->rest + place) * b->each,
                   b->values + (size_t)(i * b->block[1] + j) * b->each, b->each);
}

static void fill(blocks b, uint8_t *to) {
    int64_t bit = 0;
    size_t bytes = (size_t)(b.block[0] * b.block[1]) * b.each;
    for (int64_t i = 0; i < b.count[0]; i++)
        for (int64_t j = 0; j < b.count[1]; j++)
            for (int64_t place = 0; place < b.rest; place++, bit++) {
                if (!(b.bits[bit / 8] >> bit % 8 & 1)) continue;
                fill_block(&b, i * b.block[0], j * b.block[1], place, to);
                b.values += bytes;
            }
}

edge_status ew_read_sparse(ew_graph *graph, const ew_node *node, ew_arena *arena) {
    if (node->input_count != 2 || node->output_count != 1 || node->outputs[0] < 0)
        return ew_stored_bad(node, "it has two inputs and one output");
    const edge_tensor *bits = ew_stored_input(graph, node, 0, EDGE_U8), *values = ew_stored_input(graph, node, 1, EDGE_F32);
    if (!values && node->opset > 1) values = ew_stored_input(graph, node, 1, EDGE_S8);
    if (!bits || !values)
        return ew_stored_bad(node, "its inputs are no constants of uint8 and float32 (from version 2 on also int8) with one axis");
    edge_tensor tensor = {.dtype = values->dtype};
    blocks b = {.bits = bits->data, .values = values->data, .each = ew_dtype_bits(values->dtype) / 8};
    EW_TRY(ew_stored_shape(node, 8 * b.each, 2, &tensor));
    if (!read_blocks(node, &tensor, &b)) return ew_stored_bad(node, "its block is none of 1 to 16 weights along two axes");
    int64_t count = tensor.bytes ? b.count[0] * b.count[1] * b.rest : 0;
    if ((int64_t)bits->bytes != count / 8 + (count % 8 != 0))
        return ew_stored_bad(node, "it has another number of bits than its shape has blocks");
    if ((int64_t)values->bytes != blocks_there(b.bits, count) * b.block[0] * b.block[1] * (int64_t)b.each)
        return ew_stored_bad(node, "it has another number of values than its bits say");
    uint8_t *dense = ew_arena_get(arena, tensor.bytes);
    if (!dense) return EDGE_NO_MEMORY;
    fill(b, dense);
    tensor.data = dense;
    return ew_stored_put(graph, node, &tensor);
}
