/* A plugin of QEMU 4.2 and later: counts how often each ARM instruction of one function runs, and what they miss in models
 * of data caches, and prints it at the end as JSON.
 *
 *     qemu-aarch64 -plugin ./count_plugin.so,code=BEGIN:END[,cache=BYTES:WAYS:BYTES:WAYS ...] PROGRAM
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
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
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

enum { MOST_CODE = 1 << 16, BYTES = 4 }; /* instructions of the function; of each of them */
static uint64_t executed[MOST_CODE], code_begin, code_end;

enum { MOST = 8 };
static cache *first[MOST], *second[MOST];
static int cores;

/* A load or store of 16 bytes comes here as two of 8. */
static void accessed(unsigned cpu, qemu_plugin_meminfo_t info, uint64_t address, void *user) {
    (void)cpu, (void)user;
    for (int i = 0; i < cores; i++) cache_touch(first[i], address, 1u << qemu_plugin_mem_size_shift(info));
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); i++) {
        struct qemu_plugin_insn *one = qemu_plugin_tb_get_insn(block, i);
        uint64_t address = qemu_plugin_insn_vaddr(one);
        if (address < code_begin || address >= code_end) continue;
        uint64_t *times = executed + (address - code_begin) / BYTES;
        qemu_plugin_register_vcpu_insn_exec_inline(one, ADD_U64, times, 1);
        qemu_plugin_register_vcpu_mem_cb(one, accessed, NO_REGISTERS, READS_AND_WRITES, NULL);
    }
}

static void print(qemu_plugin_id_t id, void *user) {
    (void)id, (void)user;
    printf("{\"executed\": [");
    for (uint64_t i = 0; i < (code_end - code_begin) / BYTES; i++) printf("%s%" PRIu64, i ? ", " : "", executed[i]);
    printf("], \"misses\": [");
    for (int i = 0; i < cores; i++)
        printf("%s[%" PRIu64 ", %" PRIu64 "]", i ? ", " : "", cache_misses(first[i]), cache_misses(second[i]));
    puts("]}");
    fflush(stdout); /* the emulator ends without it */
}

static int set_code(const char *places) {
    return sscanf(places, "%" SCNu64 ":%" SCNu64, &code_begin, &code_end) == 2 && code_begin < code_end &&
           (code_end - code_begin) / BYTES <= MOST_CODE;
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
        if (strncmp(arguments[i], "code=", 5) == 0 && !set_code(arguments[i] + 5))
            return fprintf(stderr, "no code, or more than %d instructions: %s\n", MOST_CODE, arguments[i]), 1;
        if (strncmp(arguments[i], "cache=", 6) == 0 && !add_core(arguments[i] + 6))
            return fprintf(stderr, "no cache, or the %dth: %s\n", MOST + 1, arguments[i]), 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, print, NULL);
    return 0;
}
