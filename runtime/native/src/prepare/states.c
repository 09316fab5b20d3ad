/* concat(past, new) of a state that grows: where everybody can read the state in place, only new positions are written. */
#include "../state.h"
#include "prepare.h"

/* How many times a value is read by attention, as keys or as values, or for its shape alone. */
static int harmless_uses(const ew_preparer *p, int value) {
    int count = 0;
    for (int n = 0; n < p->from->node_count; n++) {
        const ew_node *node = &p->from->nodes[n];
        if (p->attention[n]) count += (p->attention[n]->k == value) + (p->attention[n]->v == value);
        if (!p->session->steps[n].folded && node->op->flags & EW_SHAPE_ONLY)
            for (int i = 0; i < node->input_count; i++) count += node->inputs[i] == value;
    }
    return count;
}

static bool is_concat_of(const ew_preparer *p, int n, const ew_slot *slot) {
    if (n < 0 || !ew_is(&p->from->nodes[n], "Concat")) return false;
    const ew_node *node = &p->from->nodes[n];
    int64_t axis = ew_attr_int(node, "axis", 0), rank = slot->spec->rank;
    return node->input_count == 2 && node->inputs[0] == slot->input && (axis < 0 ? axis + rank : axis) == slot->spec->axis;
}

void ew_find_states(ew_preparer *p) {
    for (int i = 0; i < p->session->slot_count; i++) {
        ew_slot *slot = &p->session->slots[i];
        if (slot->spec->axis < 0 || slot->output < 0) continue;
        int n = p->maker[slot->output];
        bool in_one_piece = slot->spec->outer == 1;
        bool alone = harmless_uses(p, slot->input) == p->uses[slot->input] - 1 &&
                     harmless_uses(p, slot->output) == p->uses[slot->output] - 1;
        if (!is_concat_of(p, n, slot) || (!in_one_piece && !alone)) continue;
        slot->appended = true;
        p->append[n] = slot;
        for (int m = 0; m < p->from->node_count && !in_one_piece; m++) {
            if (!p->attention[m]) continue;
            if (p->attention[m]->k == slot->output) p->attention[m]->detail.k_state = slot->spec;
            if (p->attention[m]->v == slot->output) p->attention[m]->detail.v_state = slot->spec;
        }
    }
}

edge_status ew_emit_append(ew_preparer *p, const ew_node *node, const ew_slot *slot) {
    ew_append_detail *detail = ew_arena_get(&p->session->arena, sizeof *detail);
    if (!detail) return EDGE_NO_MEMORY;
    *detail = (ew_append_detail){.spec = slot->spec};
    EW_TRY(ew_plain(p, node->inputs[1]));
    p->plain[slot->output] = true;
    p->to.values[slot->output].outside = true;
    ew_node like = *node, *emitted;
    like.op_type = "Append";
    EW_TRY(ew_emit(p, ew_find_op(EW_FUSED_DOMAIN, "FusedAppend", 1), &like, node->inputs, 2, &slot->output, 1, &emitted));
    emitted->detail = detail;
    return EDGE_OK;
}
