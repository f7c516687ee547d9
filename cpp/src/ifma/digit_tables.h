// Plain tables of arithmetic in radix 2^52 (digits.h, windows.h); see ifma.h. R = 2^(52 Limbs).
#pragma once

#include <cstddef>
#include <cstdint>

namespace xvec::ifma {

template <int Limbs>
struct DigitModulus {
  std::uint64_t n[Limbs];         // odd, of 52 Limbs - 16 bits at most
  std::uint64_t negated_inverse;  // -n^-1 mod 2^52
  std::uint64_t c[Limbs];         // the multiple n 2^k of n in (R, 2R]; its top limb may have 53 bits
};

// Elements T modulo n² in eight lanes, each as a digit U and a factor: T = U R^-1 (1 + n e) mod n². e is kept as e R
// modulo n; inverse is U^-1 R² mod n.
template <int Limbs>
struct FactoredElements {
  std::uint64_t u[Limbs][8], e[Limbs][8], inverse[Limbs][8];
};

// Products of powers of one base: entry k of window i is the product, over the bits j of k, of
// base^(2^(step (bits i + j))). An entry is the digits U and e of an element, in a number of words that is a multiple
// of 8.
struct WindowTable {
  std::uint64_t* entries;  // [window][2^bits][words of an entry], 64-byte aligned, for whole multiples of 8 windows
  std::size_t windows;
  unsigned bits;      // at most 8
  unsigned step;      // 1: the index is `bits` bits of a number; 2: the low bits of as many 2-bit fields
  std::size_t words;  // of that number
};

}  // namespace xvec::ifma
