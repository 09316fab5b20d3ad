/* The emulated processor has AVX-512, and what there is. */
#include_next "edge_x86.h"

#define edge_x86_has(leaf1_ecx, leaf7_ebx, leaf7_ecx, saved)                                                           \
    ((saved) == EDGE_X86_ZMM || edge_x86_has(leaf1_ecx, leaf7_ebx, leaf7_ecx, saved))
