/* Prints, as JSON, the clock frequency in GHz and how many multiplications a cycle one core sustains:
   64 x 64 -> 128 bits (mulx) and eight lanes of 52-bit multiply-accumulate (vpmadd52).
   Frequency: a chain of dependent additions takes one cycle each on every processor we know of. */

#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define TEN(x) x x x x x x x x x x

enum { kRounds = 200000, kRuns = 7 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double addition_ns(void) {
    uint64_t x = 1;
    const uint64_t step = 3;
    const double start = seconds();
    for (int i = 0; i < kRounds; ++i) {
#if defined(__x86_64__)
        __asm__ volatile(TEN(TEN("add %1, %0\n\t")) : "+r"(x) : "r"(step));
#elif defined(__aarch64__)
        __asm__ volatile(TEN(TEN("add %0, %0, %1\n\t")) : "+r"(x) : "r"(step));
#else
#error "no dependent addition known for this processor"
#endif
    }
    return 1e9 * (seconds() - start) / (100.0 * kRounds);
}

#if defined(__x86_64__)
static double multiply64_ns(void) {
    uint64_t low, high;
    const double start = seconds();
    for (int i = 0; i < kRounds; ++i) {
        __asm__ volatile("mov $12345, %%rdx\n\t" TEN(TEN("mulx %%rdx, %0, %1\n\t")) : "=&r"(low), "=&r"(high) : : "rdx");
    }
    return 1e9 * (seconds() - start) / (100.0 * kRounds);
}

/* Ten accumulators of their own: the latency of 4 cycles must not be what is measured. */
__attribute__((target("avx512f,avx512ifma"))) static double madd52_ns(void) {
    const double start = seconds();
    for (int i = 0; i < kRounds; ++i) {
        __asm__ volatile(TEN("vpmadd52luq %%zmm0, %%zmm1, %%zmm2\n\tvpmadd52huq %%zmm0, %%zmm1, %%zmm3\n\t"
                             "vpmadd52luq %%zmm0, %%zmm1, %%zmm4\n\tvpmadd52huq %%zmm0, %%zmm1, %%zmm5\n\t"
                             "vpmadd52luq %%zmm0, %%zmm1, %%zmm6\n\tvpmadd52huq %%zmm0, %%zmm1, %%zmm7\n\t"
                             "vpmadd52luq %%zmm0, %%zmm1, %%zmm8\n\tvpmadd52huq %%zmm0, %%zmm1, %%zmm9\n\t"
                             "vpmadd52luq %%zmm0, %%zmm1, %%zmm10\n\tvpmadd52huq %%zmm0, %%zmm1, %%zmm11\n\t")
                         :
                         :
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                           "xmm11");
    }
    return 1e9 * (seconds() - start) / (100.0 * kRounds);
}
#endif

static double best_of(double (*measure)(void)) {
    double best = measure();
    for (int i = 1; i < kRuns; ++i) {
        const double again = measure();
        if (again < best) best = again;
    }
    return best;
}

int main(void) {
    const double cycle = best_of(addition_ns);
    printf("{\"ghz\": %.4f", 1.0 / cycle);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("bmi2")) {
        printf(", \"multiply64_per_cycle\": %.3f", cycle / best_of(multiply64_ns));
    }
    if (__builtin_cpu_supports("avx512ifma")) {
        printf(", \"madd52_per_cycle\": %.3f", cycle / best_of(madd52_ns));
    }
#endif
    puts("}");
    return 0;
}
