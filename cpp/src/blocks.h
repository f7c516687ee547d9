// Rows that do not fill a block of eight.
#pragma once

#include <cstdint>
#include <cstring>

namespace xvec {

inline constexpr std::size_t kBlockRows = 8;

// out_i = f(in_i) by run(in, out, stride, count), which takes whole blocks only: the rest goes through a padded one.
template <std::size_t Width, class Run>
void run_in_blocks(const std::uint8_t* in, std::uint8_t* out, std::size_t stride, std::size_t count, Run run) {
  const std::size_t whole = count / kBlockRows * kBlockRows, rest = count - whole;
  if (whole > 0) run(in, out, stride, whole);
  if (rest == 0) return;
  alignas(64) std::uint8_t block[kBlockRows * Width] = {};
  for (std::size_t i = 0; i < rest; ++i) std::memcpy(block + i * Width, in + (whole + i) * stride, Width);
  run(block, block, Width, kBlockRows);
  for (std::size_t i = 0; i < rest; ++i) std::memcpy(out + (whole + i) * stride, block + i * Width, Width);
}

}  // namespace xvec
