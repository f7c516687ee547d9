// The largest key that the library accepts. It bounds the stack that operations use instead of allocating.
#pragma once

#include <cstddef>

namespace xvec {

inline constexpr std::size_t kMaxKeyLen = 8192;  // bits of a prime
inline constexpr std::size_t kMaxPrimeLimbs = kMaxKeyLen / 64;
inline constexpr std::size_t kMaxCipherLimbs = 4 * kMaxPrimeLimbs;

}  // namespace xvec
