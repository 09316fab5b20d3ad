#include "linear.h"

#define ALIGNMENT 64
/* More inputs and outputs than any operator of this family has. */
#define TENSORS_MAX 8

static size_t aligned(size_t bytes) {
    return bytes > SIZE_MAX - ALIGNMENT ? SIZE_MAX : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int at_most(int count) { return count < TENSORS_MAX ? count : TENSORS_MAX; }

static bool is_half(const ew_tensor *t) { return t && t->dtype == EDGE_F16; }

static size_t copy_bytes(ew_tensor *const *tensors, int count, size_t sum) {
    for (int i = 0; i < at_most(count); i++) {
        size_t bytes;
        if (!is_half(tensors[i])) continue;
        if (!ew_mul(ew_bytes(tensors[i]), 2, &bytes) || !ew_add(sum, aligned(bytes), &sum)) return SIZE_MAX;
    }
    return sum;
}

size_t ew_half_workspace(const ew_call *call, size_t own) {
    if (!is_half(ew_in(call, 0)) || own == SIZE_MAX) return own;
    size_t sum = copy_bytes(call->in, call->in_count, aligned(own));
    return sum == SIZE_MAX ? sum : copy_bytes(call->out, call->out_count, sum);
}

/* Makes pointers[i] a float32 tensor in the memory at *free where tensors[i] is float16. */
static void stand_in(ew_tensor *const *tensors, int count, ew_tensor *copies, ew_tensor **pointers, uint8_t **free) {
    for (int i = 0; i < count; i++) {
        pointers[i] = tensors[i];
        if (!is_half(tensors[i])) continue;
        copies[i] = *tensors[i];
        copies[i].dtype = EDGE_F32;
        copies[i].data = *free;
        copies[i].capacity = ew_bytes(&copies[i]);
        *free += aligned(copies[i].capacity);
        pointers[i] = &copies[i];
    }
}

static void widen(const ew_tensor *from, ew_tensor *to) {
    const uint16_t *x = from->data;
    float *y = to->data;
    int64_t count = ew_count(from);
    for (int64_t i = 0; i < count; i++) y[i] = ew_f16_to_f32(x[i]);
}

static void narrow(const ew_tensor *from, ew_tensor *to) {
    const float *x = from->data;
    uint16_t *y = to->data;
    int64_t count = ew_count(to);
    for (int64_t i = 0; i < count; i++) y[i] = ew_f32_to_f16(x[i]);
}

edge_status ew_half_run(ew_call *call, size_t own, edge_status (*run)(ew_call *)) {
    ew_tensor in[TENSORS_MAX], out[TENSORS_MAX], *in_pointers[TENSORS_MAX], *out_pointers[TENSORS_MAX];
    uint8_t *free = (uint8_t *)call->workspace + aligned(own);
    ew_call wide = *call;
    wide.in = in_pointers;
    wide.out = out_pointers;
    wide.in_count = at_most(call->in_count);
    wide.out_count = at_most(call->out_count);
    stand_in(call->in, wide.in_count, in, in_pointers, &free);
    stand_in(call->out, wide.out_count, out, out_pointers, &free);
    for (int i = 0; i < wide.in_count; i++)
        if (is_half(call->in[i])) widen(call->in[i], &in[i]);
    EW_TRY(run(&wide));
    for (int i = 0; i < wide.out_count; i++)
        if (is_half(call->out[i])) narrow(&out[i], call->out[i]);
    return EDGE_OK;
}
