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

// An element's lane of the elements from which tables are built. t_inverse, r_inverse: 1 / t and 1 / R mod n.
template <int Limbs>
void put_element(FactoredElements<Limbs>& elements, std::size_t lane, const Integer& t, const Integer& t_inverse,
                 const Integer& n, const Integer& r_inverse) {
  const Integer r = Integer::power_of_two(kDigitBits * Limbs);
  const Integer scaled = t * r % (n * n);
  const auto put = [&](std::uint64_t (*to)[kLanes], const Integer& x) {
    std::uint64_t digits[Limbs];
    x.to_digits(digits, Limbs, kDigitBits);
    for (int k = 0; k < Limbs; ++k) to[k][lane] = digits[k];
  };
  put(elements.u, scaled % n);
  put(elements.e, scaled / n * (t_inverse * r_inverse % n) % n * r % n);
  put(elements.inverse, t_inverse * r % n);
}

// Windows of `bits` index bits over a number of `count` of them. Returns how many the memory must have room for: whole
// blocks of lanes.
inline std::size_t lay_out(WindowTable& table, std::size_t count, unsigned bits, unsigned step) {
  table.bits = bits;
  table.step = step;
  table.words = (count * step + 63) / 64;
  table.windows = (count + bits - 1) / bits;
  return (table.windows + kLanes - 1) / kLanes * kLanes;
}

// What build_windows() starts from: lane l has base^(2^(l lane_bits)).
template <int Limbs>
void fill_start(FactoredElements<Limbs>& one, FactoredElements<Limbs>& start, const Integer& n, const Integer& base,
                std::size_t lane_bits) {
  const Integer modulus = n * n;
  const Integer r_inverse = inverse(Integer::power_of_two(kDigitBits * Limbs) % n, n);
  put_element(one, 0, Integer(1), Integer(1), n, r_inverse);
  Integer t = base % modulus, t_inverse = inverse(base % n, n);
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    for (int k = 0; k < Limbs; ++k) {
      one.u[k][lane] = one.u[k][0];
      one.e[k][lane] = one.e[k][0];
      one.inverse[k][lane] = one.inverse[k][0];
    }
    put_element(start, lane, t, t_inverse, n, r_inverse);
    for (std::size_t i = 0; i < lane_bits && lane + 1 < kLanes; ++i) {
      t = t * t % modulus;
      t_inverse = t_inverse * t_inverse % n;
    }
  }
}

}  // namespace xvec::ifma
