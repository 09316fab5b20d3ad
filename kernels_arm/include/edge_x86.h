/* What an x86 processor has, by itself: __builtin_cpu_supports needs a symbol that not every compiler's library has. */
#ifndef EDGE_X86_H
#define EDGE_X86_H

#include <cpuid.h>

/* Bits of leaf 1, ecx; of leaf 7, ebx; of leaf 7, ecx; of XCR0. */
enum { EDGE_X86_FMA = 1 << 12, EDGE_X86_F16C = 1 << 29, EDGE_X86_AVX2 = 1 << 5, EDGE_X86_YMM = 0x6, EDGE_X86_ZMM = 0xe6 };
#define EDGE_X86_AVX512_F_DQ_BW_VL (1u << 16 | 1u << 17 | 1u << 30 | 1u << 31)
#define EDGE_X86_AVX512_VNNI (1u << 11)

/* `saved`: the registers that the system keeps for a program. */
static inline int edge_x86_has(unsigned leaf1_ecx, unsigned leaf7_ebx, unsigned leaf7_ecx, unsigned saved) {
    unsigned a, b, c, d, low, high;
    const unsigned reads_xcr0 = 1u << 27;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (leaf1_ecx | reads_xcr0)) != (leaf1_ecx | reads_xcr0)) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & saved) != saved) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & leaf7_ebx) == leaf7_ebx && (c & leaf7_ecx) == leaf7_ecx;
}

#endif
