/* Which kernels there are, and which instruction set is used. */
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "edge_kernels.h"

#if defined(__x86_64__)
#include "edge_x86.h"
#endif

#define EDGE_KERNEL(op, dtype, format, isa, mr, nr, symbol) extern void symbol(void);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include "kernels.inc"
#pragma GCC diagnostic pop
#undef EDGE_KERNEL

static const edge_kernel KERNELS[] = {
#define EDGE_KERNEL(op, dtype, format, isa, mr, nr, symbol)                                                            \
    {EDGE_##op, EDGE_KERNEL_##dtype, EDGE_##format, EDGE_ISA_##isa, mr, nr, #symbol, symbol},
#include "kernels.inc"
#undef EDGE_KERNEL
};
#define KERNEL_COUNT (sizeof KERNELS / sizeof *KERNELS)

static const char *const NAMES[EDGE_ISA_COUNT] = {"scalar",   "avx2", "avx512vnni",  "neon",
                                                   "neon_dot", "wasm", "wasm_relaxed"};

const edge_kernel *edge_kernel_row(size_t row) { return row < KERNEL_COUNT ? &KERNELS[row] : NULL; }

const edge_kernel *edge_kernel_find(edge_kernel_op op, edge_kernel_dtype dtype, edge_kernel_format format,
                                    edge_isa isa) {
    const edge_kernel *best = NULL;
    for (size_t i = 0; i < KERNEL_COUNT; i++) {
        const edge_kernel *k = &KERNELS[i];
        if (k->op != op || k->dtype != dtype || k->format != format || k->isa > isa || !edge_isa_usable(k->isa))
            continue;
        if (!best || k->isa > best->isa) best = k;
    }
    return best;
}

#if defined(__aarch64__) && defined(__linux__)
enum { HAS_DOT = 1 << 20 /* HWCAP_ASIMDDP */ };
static int has_dot(void) { return (getauxval(AT_HWCAP) & HAS_DOT) != 0; }
#elif defined(__APPLE__) && defined(__aarch64__)
static int has_dot(void) { return 1; } /* every one of them */
#elif defined(__aarch64__)
static int has_dot(void) { return 0; }
#endif

static int ask(edge_isa isa) {
    switch (isa) {
    case EDGE_ISA_SCALAR: return 1;
#if defined(__x86_64__)
    case EDGE_ISA_AVX2: return edge_x86_has(EDGE_X86_FMA | EDGE_X86_F16C, EDGE_X86_AVX2, 0, EDGE_X86_YMM);
    case EDGE_ISA_AVX512VNNI:
        return edge_x86_has(EDGE_X86_FMA | EDGE_X86_F16C, EDGE_X86_AVX2 | EDGE_X86_AVX512_F_DQ_BW_VL,
                            EDGE_X86_AVX512_VNNI, EDGE_X86_ZMM);
#elif defined(__aarch64__)
    case EDGE_ISA_NEON: return 1; /* every aarch64 has it */
    case EDGE_ISA_NEON_DOT: return has_dot();
#elif defined(EDGE_WASM_RELAXED)
    case EDGE_ISA_WASM_RELAXED: return 1; /* else the module would not have been loaded */
#elif defined(__wasm_simd128__)
    case EDGE_ISA_WASM: return 1;
#endif
    default: return 0;
    }
}

int edge_isa_usable(edge_isa isa) {
    static _Atomic signed char known[EDGE_ISA_COUNT]; /* 1: yes, -1: no; asking the processor may take microseconds */
    if ((unsigned)isa >= EDGE_ISA_COUNT) return 0;
    if (!known[isa]) known[isa] = ask(isa) ? 1 : -1;
    return known[isa] > 0;
}

const char *edge_isa_name(edge_isa isa) { return NAMES[isa]; }

int edge_isa_chosen(void) {
    const char *forced = getenv("EDGEWRIGHT_FORCE_ISA");
    int best = -1;
    for (int isa = 0; isa < EDGE_ISA_COUNT; isa++) {
        if (forced && *forced && strcmp(forced, NAMES[isa]) != 0) continue;
        if (edge_isa_usable((edge_isa)isa)) best = isa;
    }
    return best;
}
