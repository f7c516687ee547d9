#include "cpu.h"

namespace xvec {

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))

bool cpu_has_ifma() noexcept {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512ifma") && __builtin_cpu_supports("avx512vbmi2") &&
         __builtin_cpu_supports("avx512vpopcntdq");
}

bool cpu_has_avx2() noexcept {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}

#else

bool cpu_has_ifma() noexcept { return false; }
bool cpu_has_avx2() noexcept { return false; }

#endif

}  // namespace xvec
