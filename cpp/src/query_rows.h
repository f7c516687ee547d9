// The rows of a fixed matrix, for the kernels that multiply by one.
#pragma once

#include <cstdint>

#include "integer.h"

namespace xvec {

__extension__ using Uint128 = unsigned __int128;

// rows[j] = rows[count - 1] / B^(count - 1 - j) mod N for j < count - 1, in limbs of radix B = 2^Bits and below
// N (1 + 2 / B): each by one Montgomery limb from the one after it, T_{j-1} = (T_j + (-T_j / N mod B) N) / B < N + T_j / B.
// modulus_limbs: N in that radix; negated_inverse: -N^-1 mod B. The same instructions whatever the numbers are.
template <int Bits, int Limbs>
void rows_before(std::uint64_t (*rows)[Limbs], int count, const std::uint64_t* modulus_limbs,
                 std::uint64_t negated_inverse) {
  constexpr std::uint64_t kMask = (std::uint64_t{1} << Bits) - 1;
  for (int j = count - 1; j > 0; --j) {
    const std::uint64_t* from = rows[j];
    std::uint64_t* to = rows[j - 1];
    const std::uint64_t quotient = (from[0] * negated_inverse) & kMask;
    auto carry = static_cast<std::uint64_t>((static_cast<Uint128>(quotient) * modulus_limbs[0] + from[0]) >> Bits);
    for (int k = 1; k < Limbs; ++k) {
      const Uint128 sum = static_cast<Uint128>(quotient) * modulus_limbs[k] + from[k] + carry;
      to[k - 1] = static_cast<std::uint64_t>(sum) & kMask;
      carry = static_cast<std::uint64_t>(sum >> Bits);
    }
    to[Limbs - 1] = carry;
  }
}

// rows[j] = query * B^(j + 2) mod N for j < Limbs.
template <int Bits, int Limbs>
void query_rows(std::uint64_t (*rows)[Limbs], const Integer& query, const Integer& modulus,
                const std::uint64_t* modulus_limbs, std::uint64_t negated_inverse) {
  ((query << ((Limbs + 1) * Bits)) % modulus).to_digits(rows[Limbs - 1], Limbs, Bits);
  rows_before<Bits>(rows, Limbs, modulus_limbs, negated_inverse);
}

}  // namespace xvec
