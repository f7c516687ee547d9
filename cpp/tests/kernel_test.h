// What the tests of kernels share: one suite runs over every kernel that runs here, against Integer's arithmetic.
//
// XTRACE_TEST_CASES multiplies the number of random cases, for long runs.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "integer.h"
#include "kernel.h"

namespace xvec {

inline void PrintTo(const Kernel* kernel, std::ostream* out) { *out << kernel->name; }

namespace test {

inline std::vector<const Kernel*> kernels_here() {
  std::vector<const Kernel*> here;
  for (const Kernel* kernel : all_kernels()) {
    if (kernel->runs_here()) here.push_back(kernel);
  }
  return here;
}

inline std::size_t cases(std::size_t normal) {
  const char* factor = std::getenv("XTRACE_TEST_CASES");
  return factor == nullptr ? normal : normal * std::strtoull(factor, nullptr, 10);
}

// Reproducible numbers: uniform ones, and ones made of long runs of equal bits, which break carries.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : engine_(seed) {}

  std::uint64_t word() { return engine_(); }

  Integer uniform(std::size_t bits) {
    std::vector<std::uint64_t> words((bits + 63) / 64);
    for (auto& word : words) word = engine_();
    return Integer::from_limbs(words.data(), words.size()) % Integer::power_of_two(bits);
  }

  Integer runs(std::size_t bits) {
    Integer x;
    for (std::size_t at = 0; at < bits;) {
      const std::size_t length = std::min<std::size_t>(1 + engine_() % 160, bits - at);
      if (engine_() % 2 == 0) x = x + (Integer::power_of_two(length) - Integer(1)) * Integer::power_of_two(at);
      at += length;
    }
    return x;
  }

 private:
  std::mt19937_64 engine_;
};

struct Prime {
  const char* name;
  Integer p;
};

// Primes of `bits` = 1024, 1536 or 2048 bits at the ends of their range, and the least that own keys may have.
inline std::vector<Prime> primes(std::size_t bits) {
  const Integer top = Integer::power_of_two(bits), own = top * Integer(8165) / Integer(10000);
  const std::uint64_t below_top = bits == 1024 ? 105 : bits == 1536 ? 3453 : 1557;
  const std::uint64_t above_half = bits == 1024 ? 1155 : bits == 1536 ? 699 : 1919;
  const std::uint64_t above_own = bits == 1024 ? 3614 : bits == 1536 ? 324 : 1232;
  return {{"greatest", top - Integer(below_top)},
          {"least", Integer::power_of_two(bits - 1) + Integer(above_half)},
          {"least of own keys", own + Integer(own.is_odd() ? 0 : 1) + Integer(above_own)}};
}

inline std::vector<std::uint8_t> bytes_of(const Integer& x, std::size_t width) {
  std::vector<std::uint8_t> bytes(width);
  x.to_bytes(bytes);
  return bytes;
}

inline std::string name_of(const testing::TestParamInfo<const Kernel*>& info) { return info.param->name; }

}  // namespace test
}  // namespace xvec
