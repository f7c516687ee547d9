// What lanes that raise to one secret power do, step by step. Part of the border to the kernels' files (ifma/ifma.h,
// avx2/avx2.h), so it holds nothing that could be emitted.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xvec {

// Constant: the exponent's digits of four bits, most significant first. Else: 0 squares, an odd digit d < 16
// multiplies by x^d; the first step is the digit to start with.
struct ExponentSchedule {
  const std::uint8_t* steps;
  std::size_t count;  // > 0
  bool constant;
};

}  // namespace xvec
