/* A plugin of QEMU 4.2 and later: counts the ARM instructions that run in one function, by kind, and what they miss in
 * models of data caches, and prints it at the end as JSON.
 *
 *     qemu-aarch64 -plugin ./count_plugin.so,symbol=NAME[,cache=BYTES:WAYS:BYTES:WAYS ...] PROGRAM
 *
 * Each `cache` is one core: its first and its second level.  Addresses are those of the program, since an emulator of
 * one program knows no others.
 *
 * The few declarations of QEMU's plugin interface, version 1, that it needs are written down here. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cache_model.h"

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint32_t qemu_plugin_meminfo_t;
enum { ADD_U64 = 0, NO_REGISTERS = 0, READS_AND_WRITES = 3 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *instruction);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *instruction);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*call)(qemu_plugin_id_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *instruction, int operation, void *counter,
                                                uint64_t added);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *instruction,
                                      void (*call)(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address,
                                                   void *user),
                                      int flags, int accesses, void *user);
unsigned qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*call)(qemu_plugin_id_t id, void *user), void *user);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t instructions, multiply_adds, vector_loads;
static char symbol[128];

enum { MOST = 8 };
static cache *first[MOST], *second[MOST];
static int cores;

/* fmla of four floats, by a lane and by a vector. */
static int is_multiply_add(uint32_t word) {
    return (word & 0xffc0f400u) == 0x4f801000u || (word & 0xffe0fc00u) == 0x4e20cc00u;
}

/* Vectors of 16 bytes that it loads: ldp, ldr with an offset, ldr and ldur with anything else, ld1r. */
static unsigned vectors_loaded(uint32_t word) {
    if ((word & 0xfc400000u) == 0xac400000u) return 2;
    return (word & 0xffc00000u) == 0x3dc00000u || (word & 0xffc00000u) == 0x3cc00000u ||
           (word & 0xff60fc00u) == 0x4d40c800u;
}

/* A load or store of 16 bytes comes here as two of 8. */
static void accessed(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *user) {
    (void)cpu, (void)user;
    for (int i = 0; i < cores; i++) cache_touch(first[i], address, 1u << qemu_plugin_mem_size_shift(info));
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct qemu_plugin_insn *one = qemu_plugin_tb_get_insn(block, i);
        const char *name = qemu_plugin_insn_symbol(one);
        if (!name || strcmp(name, symbol) != 0) continue;
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(one), sizeof word);
        qemu_plugin_register_vcpu_insn_exec_inline(one, ADD_U64, &instructions, 1);
        if (is_multiply_add(word)) qemu_plugin_register_vcpu_insn_exec_inline(one, ADD_U64, &multiply_adds, 1);
        unsigned loaded = vectors_loaded(word);
        if (loaded) qemu_plugin_register_vcpu_insn_exec_inline(one, ADD_U64, &vector_loads, loaded);
        qemu_plugin_register_vcpu_mem_cb(one, accessed, NO_REGISTERS, READS_AND_WRITES, NULL);
    }
}

static void print(qemu_plugin_id_t id, void *user) {
    (void)id, (void)user;
    printf("{\"instructions\": %" PRIu64 ", \"multiply_adds\": %" PRIu64 ", \"vector_loads\": %" PRIu64,
           instructions, multiply_adds, vector_loads);
    printf(", \"misses\": [");
    for (int i = 0; i < cores; i++)
        printf("%s[%" PRIu64 ", %" PRIu64 "]", i ? ", " : "", cache_misses(first[i]), cache_misses(second[i]));
    puts("]}");
    fflush(stdout); /* the emulator ends without it */
}

static int add_core(const char *sizes) {
    uint64_t bytes[2], ways[2];
    const char *format = "%" SCNu64 ":%" SCNu64 ":%" SCNu64 ":%" SCNu64;
    if (cores == MOST || sscanf(sizes, format, &bytes[0], &ways[0], &bytes[1], &ways[1]) != 4) return 0;
    second[cores] = cache_new(bytes[1], ways[1], NULL);
    first[cores] = cache_new(bytes[0], ways[0], second[cores]);
    return first[cores] && second[cores++];
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int count,
                                                               char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++) {
        if (strncmp(arguments[i], "symbol=", 7) == 0) snprintf(symbol, sizeof symbol, "%s", arguments[i] + 7);
        if (strncmp(arguments[i], "cache=", 6) == 0 && !add_core(arguments[i] + 6))
            return fprintf(stderr, "no cache, or the %dth: %s\n", MOST + 1, arguments[i]), 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, print, NULL);
    return 0;
}
