// Fills the constants of a modulus for the arithmetic of the IFMA kernel.
#pragma once

#include <cstdint>

#include "ifma/decrypt_tables.h"
#include "ifma_matrix.h"
#include "integer.h"
#include "mpn.h"

namespace xvec::ifma {

constexpr unsigned kDigitBits = 52;

// n: odd.
template <int Limbs>
void fill_modulus(DigitModulus<Limbs>& modulus, const Integer& n) {
  n.to_digits(modulus.n, Limbs, kDigitBits);
  modulus.negated_inverse = negative_inverse(n.low64()) & ((std::uint64_t{1} << kDigitBits) - 1);
  (n << (kDigitBits * Limbs - n.bits() + 1)).to_digits(modulus.c, Limbs, kDigitBits);
}

// p: odd, of 1024 bits.
void fill_modulus(WovenModulus& modulus, const Integer& p);

// Sums of the low and of the high 52 bits of products.
struct SplitSum {
  std::int64_t low = 0, high = 0;
  void subtract(std::uint64_t a, std::uint64_t b) {
    const Uint128 product = static_cast<Uint128>(a) * b;
    low -= static_cast<std::int64_t>(static_cast<std::uint64_t>(product) & ((std::uint64_t{1} << 52) - 1));
    high -= static_cast<std::int64_t>(static_cast<std::uint64_t>(product >> 52));
  }
};

// What makes a column k non-negative, and is taken from the next: 2^(50 + steps) and 2^steps.
inline std::int64_t bias(int k, int columns, int steps) {
  return (k < columns ? std::int64_t{1} << (50 + steps) : 0) - (k > 0 ? std::int64_t{1} << steps : 0);
}

// A fixed matrix for Winograd's pairing: rows 2i and 2i + 1 make pair i. start: minus the products within pairs, by
// column, plus the bias.
template <int Pairs>
void fill_pairs(std::uint64_t (*table)[Pairs][2][WovenModulus::strip_width], std::uint64_t* start,
                const std::uint64_t (*rows)[WovenModulus::limbs], int bias_steps) {
  constexpr int kWidth = WovenModulus::strip_width, kLimbs = WovenModulus::limbs;
  std::int64_t high_before = 0;
  for (int k = 0; k <= kLimbs; ++k) {
    SplitSum sum;
    for (int i = 0; i < Pairs && k < kLimbs; ++i) {
      table[k / kWidth][i][0][k % kWidth] = rows[2 * i + 1][k];
      table[k / kWidth][i][1][k % kWidth] = rows[2 * i][k];
      sum.subtract(rows[2 * i][k], rows[2 * i + 1][k]);
    }
    start[k] = static_cast<std::uint64_t>(sum.low + 4 * high_before + bias(k, kLimbs, bias_steps));
    high_before = sum.high;
  }
}

// The steps of biases, where nothing else is said.
constexpr int kBiasSteps = 8;

}  // namespace xvec::ifma
