// SHAKE256 (FIPS 202), as the pseudorandom function of the authenticated encoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace xvec {

// Keccak's permutation of several states at a time, as a kernel offers it.
struct Keccak {
  static constexpr std::size_t kMaxStates = 8;
  std::size_t states;  // at most kMaxStates
  // Word k of state i is at[k * states + i], k < 25.
  void (*permute)(std::uint64_t* at) noexcept;
};

// Messages of one length, one after the other.
struct Messages {
  const std::uint8_t* data;
  std::size_t size, count;
};

// out + i * stride = the first `size` bytes of SHAKE256(message i). Its time depends on lengths and counts only; what
// it kept of the messages is wiped.
void shake256(const Keccak& keccak, std::uint8_t* out, std::size_t size, std::size_t stride,
              const Messages& messages) noexcept;

// One message, by the portable permutation.
void shake256(std::span<std::uint8_t> out, std::span<const std::uint8_t> in) noexcept;

extern const Keccak kPortableKeccak;

}  // namespace xvec
