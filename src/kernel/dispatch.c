/*
 * dispatch.c - chooses the table of kernels for this machine. The choice is a pure function of the
 * processor and of ANNEX_CPU, so that it need not be kept.
 *
 * __builtin_cpu_supports reads CPUID and XGETBV: an instruction set counts only when the operating
 * system saves its registers too. Clang 14 does not know f16c by name: that bit is read from CPUID,
 * and counts only where AVX2 does. CPUID is asked once: under a hypervisor it takes some 15 us, and
 * each distance of two vectors asks for the table.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#    include <cpuid.h>
#endif

#include "kernel/kernel.h"

static bool runs_always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_f16c(void)
{
    enum { UNKNOWN, NO, YES };
    static atomic_int known;
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == UNKNOWN) {
        unsigned int eax, ebx, ecx, edx;
        answer = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C) != 0 ? YES : NO;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == YES;
}

static bool runs_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("popcnt") && has_f16c();
}

static bool runs_avx512(void)
{
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static bool runs_avx512vnni(void)
{
    return runs_avx512() && __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

/* Slowest first. */
static const struct candidate {
    const struct kernels *kernels;
    bool (*runs)(void);
} candidates[] = {
    {&kernels_ref, runs_always},
#if defined(__x86_64__)
    {&kernels_avx2, runs_avx2},
    {&kernels_avx512, runs_avx512},
    {&kernels_avx512vnni, runs_avx512vnni},
#elif defined(__aarch64__)
    {&kernels_neon, runs_always},
#endif
};

enum { CANDIDATES = sizeof candidates / sizeof candidates[0] };

const struct kernels *kernel_available(size_t i)
{
    for (size_t c = 0; c < CANDIDATES; c++) {
        if (candidates[c].runs() && i-- == 0) {
            return candidates[c].kernels;
        }
    }
    return NULL;
}

const struct kernels *kernel_table(void)
{
    const char *wanted = getenv("ANNEX_CPU");
    const struct kernels *best = &kernels_ref;
    for (size_t c = 0; c < CANDIDATES; c++) {
        if (!candidates[c].runs()) {
            continue;
        }
        best = candidates[c].kernels;
        if (wanted && strcmp(wanted, best->name) == 0) {
            return best;
        }
    }
    return best; /* an unknown or impossible ANNEX_CPU is no reason to fail */
}
