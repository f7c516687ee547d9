// The operating system's random generator, behind one function.
#pragma once

#include <cstdint>
#include <span>

#include "integer.h"

namespace xvec {

// A source of random bytes. The system's is the only one in the library; tests bring a deterministic one.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual void fill(std::span<std::uint8_t> out) = 0;  // throws std::runtime_error, never returns less
};

RandomSource& system_random();

Integer random_bits(RandomSource& source, std::size_t bits);       // uniform in [0, 2^bits)
Integer random_below(RandomSource& source, const Integer& bound);  // uniform in [0, bound), by rejection

}  // namespace xvec
