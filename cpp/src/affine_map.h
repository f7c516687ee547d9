// y = a x + b f modulo an odd number, for fixed secret a and b: scaling and masking in one step.
#pragma once

#include <cstddef>

#include "integer.h"
#include "mpn.h"
#include "secure_memory.h"
#include "sizes.h"

namespace xvec {

class AffineMap {
 public:
  // m odd, of at most 2 * kMaxKeyLen bits; a, b < m. f will have f_limbs limbs.
  AffineMap(const Integer& m, const Integer& a, const Integer& b, std::size_t f_limbs);

  [[nodiscard]] std::size_t limbs() const noexcept { return limbs_; }
  // Working memory of one thread; wiped at the end, which is best done once for many items.
  struct Scratch {
    WipedArray<Limb, 4 * kMaxPrimeLimbs> sum, product;
    WipedArray<Limb, 8 * kMaxPrimeLimbs> multiply;
  };
  // x and y: limbs() limbs, y canonical in [0, m); f: any number. The time depends on the lengths only.
  void run(Limb* y, const Limb* x, const Limb* f, Scratch& scratch) const noexcept;
  // y = y - z mod m, both canonical.
  void subtract(Limb* y, const Limb* z, Scratch& scratch) const noexcept;

 private:
  std::size_t limbs_, f_limbs_;
  SecureBuffer memory_;  // m, a R, b R, b R², ... mod m: one factor for x and for each limbs_ limbs of f
  Limb m_inverse_;       // m^-1 mod 2^64
};

}  // namespace xvec
