// Elements from which the IFMA kernel builds tables of windows (ifma/windows.h).
#pragma once

#include <cstdint>

#include "ifma/digit_tables.h"
#include "ifma_modulus.h"
#include "integer.h"

namespace xvec::ifma {

inline constexpr std::size_t kLanes = 8;

// U and e R' mod n of an element T modulo n², T = U R^-1 (1 + n e): with T R = U + v n (mod n²), e = v / U. T: a
// unit.
struct FactoredInteger {
  Integer u, e;
  FactoredInteger(const Integer& t, const Integer& n, const Integer& r, const Integer& e_scale) {
    const Integer scaled = t * r % (n * n);
    u = scaled % n;
    e = scaled / n * inverse(u, n) % n * e_scale % n;
  }
};

template <int Limbs>
void put_element(FactoredElements<Limbs>& elements, std::size_t lane, const Integer& t, const Integer& n) {
  const Integer r = Integer::power_of_two(kDigitBits * Limbs);
  const FactoredInteger factored(t, n, r, r);
  const auto put = [&](std::uint64_t (*to)[kLanes], const Integer& x) {
    std::uint64_t digits[Limbs];
    x.to_digits(digits, Limbs, kDigitBits);
    for (int k = 0; k < Limbs; ++k) to[k][lane] = digits[k];
  };
  put(elements.u, factored.u);
  put(elements.e, factored.e);
  put(elements.inverse, inverse(t % n, n) * r % n);
}

// What build_windows() starts from: lane l has base^(2^(l lane_bits)).
template <int Limbs>
void fill_start(FactoredElements<Limbs>& one, FactoredElements<Limbs>& start, const Integer& n, const Integer& base,
                std::size_t lane_bits) {
  const Integer modulus = n * n, lane_exponent = Integer::power_of_two(lane_bits);
  Integer t = base % modulus;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    put_element(one, lane, Integer(1), n);
    put_element(start, lane, t, n);
    if (lane + 1 < kLanes) t = pow(t, lane_exponent, modulus);
  }
}

}  // namespace xvec::ifma
