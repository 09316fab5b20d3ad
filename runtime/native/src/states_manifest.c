/* `states` of the manifest: what runs hand from one to the next, and where it lies in an edge_state. */
#include "bundle.h"

#define ALIGNMENT 64

static edge_status read_dtype(const ew_json *about, ew_state_spec *spec) {
    const char *name;
    EW_TRY(ew_json_string_at(about, "dtype", &name));
    for (int dtype = 1; dtype < 32; dtype++)
        if (ew_dtype_bytes((edge_dtype)dtype) && strcmp(ew_dtype_name((edge_dtype)dtype), name) == 0) {
            spec->dtype = (edge_dtype)dtype;
            return EDGE_OK;
        }
    return ew_fail(EDGE_UNSUPPORTED, "state '%s' has dtype %s, which the engine does not have", spec->input, name);
}

static edge_status read_shape(const ew_json *about, ew_state_spec *spec) {
    const ew_json *shape = ew_json_get(about, "shape");
    int64_t axis;
    EW_TRY(ew_json_int_at(about, "axis", &axis));
    EW_TRY(ew_json_int_at(about, "max_length", &spec->max_length));
    size_t rank = ew_json_count(shape);
    if (rank > EDGE_MAX_RANK || axis < -1 || axis >= (int64_t)rank || (axis < 0) != (spec->max_length == 0) || spec->max_length < 0)
        return ew_fail(EDGE_INVALID_MODEL, "state '%s' has %zu axes, axis %lld and max_length %lld", spec->input, rank,
                       (long long)axis, (long long)spec->max_length);
    spec->rank = (int32_t)rank;
    spec->axis = (int32_t)axis;
    for (int i = 0; i < spec->rank; i++) {
        if (i == axis) spec->dims[i] = spec->max_length;
        else if (!ew_json_int(ew_json_at(shape, (size_t)i), &spec->dims[i]) || spec->dims[i] < 0)
            return ew_fail(EDGE_UNSUPPORTED, "axis %d of state '%s' has no fixed length", i, spec->input);
    }
    return EDGE_OK;
}

static edge_status measure(ew_state_spec *spec, size_t *total) {
    spec->outer = 1;
    spec->position_bytes = ew_dtype_bytes(spec->dtype);
    bool good = true;
    for (int i = 0; i < spec->rank; i++)
        if (i != spec->axis) {
            size_t *side = i < spec->axis ? &spec->outer : &spec->position_bytes;
            good &= ew_mul(*side, (uint64_t)spec->dims[i], side);
        }
    size_t positions = spec->axis < 0 ? 1 : (size_t)spec->max_length, end;
    good &= ew_mul(spec->outer, positions, &spec->bytes) && ew_mul(spec->bytes, spec->position_bytes, &spec->bytes);
    spec->offset = *total;
    good &= ew_add(*total, spec->bytes, &end) && ew_add(end, ALIGNMENT - 1, total);
    *total &= ~(size_t)(ALIGNMENT - 1);
    return good ? EDGE_OK : ew_fail(EDGE_INVALID_MODEL, "state '%s' is too large", spec->input);
}

/* Somebody must write it and somebody read it. */
static edge_status check_use(const ew_bundle *bundle, ew_state_spec *spec) {
    bool read = false, written = false;
    for (int i = 0; i < bundle->entry_count; i++) {
        bool in = ew_entry_binding(&bundle->entries[i], "inputs", spec->input);
        bool out = ew_entry_binding(&bundle->entries[i], "outputs", spec->output);
        read |= in;
        written |= out;
        spec->carried |= in && out && spec->axis < 0;
        if (spec->axis >= 0 && in != out)
            return ew_fail(EDGE_INVALID_MODEL, "entry '%s' has one of '%s' and '%s', a state that grows needs both",
                           bundle->entries[i].name, spec->input, spec->output);
    }
    if (read && written) return EDGE_OK;
    return ew_fail(EDGE_INVALID_MODEL, "no entry %s state '%s'", read ? "writes" : "reads", read ? spec->output : spec->input);
}

/* An entry has all growing states or none: they have one length. */
static edge_status check_growing(const ew_bundle *bundle) {
    for (int e = 0; e < bundle->entry_count; e++) {
        const char *there = NULL, *missing = NULL;
        for (int i = 0; i < bundle->state_count; i++) {
            const ew_state_spec *spec = &bundle->states[i];
            if (spec->axis >= 0) *(ew_entry_binding(&bundle->entries[e], "inputs", spec->input) ? &there : &missing) = spec->input;
        }
        if (there && missing)
            return ew_fail(EDGE_INVALID_MODEL, "entry '%s' has state '%s' but not '%s', which grows too",
                           bundle->entries[e].name, there, missing);
    }
    return EDGE_OK;
}

edge_status ew_states_read(const ew_json *manifest, ew_arena *arena, ew_bundle *bundle) {
    const ew_json *states = ew_json_get(manifest, "states");
    size_t count = ew_json_count(states);
    bundle->states = ew_arena_get(arena, count * sizeof *bundle->states);
    if (!bundle->states) return EDGE_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const ew_json *about = ew_json_at(states, i);
        ew_state_spec *spec = &bundle->states[bundle->state_count++];
        EW_TRY(ew_json_string_at(about, "input", &spec->input));
        EW_TRY(ew_json_string_at(about, "output", &spec->output));
        EW_TRY(read_dtype(about, spec));
        EW_TRY(read_shape(about, spec));
        EW_TRY(measure(spec, &bundle->state_bytes));
        EW_TRY(check_use(bundle, spec));
    }
    return check_growing(bundle);
}
