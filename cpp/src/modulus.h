// Arithmetic modulo an odd number. Nothing but preparing one takes a time that depends on more than lengths.
#pragma once

#include <cstddef>

#include "integer.h"
#include "mpn.h"
#include "secure_memory.h"
#include "sizes.h"

namespace xvec {

// An odd modulus, which may be secret.
class Modulus {
 public:
  // m > 1, of at most 2 * kMaxKeyLen bits.
  explicit Modulus(const Integer& m);

  [[nodiscard]] std::size_t bits() const noexcept { return bits_; }
  [[nodiscard]] std::size_t limbs() const noexcept { return limbs_; }
  [[nodiscard]] const Limb* value() const noexcept { return memory_.as<Limb>(); }
  // Working memory of one thread; wiped at the end, which is best done once for many items.
  struct Scratch {
    WipedArray<Limb, 4 * kMaxPrimeLimbs> sum, product;
    WipedArray<Limb, 8 * kMaxPrimeLimbs> multiply;
  };
  // y = a R mod m for R = 2^(64 limbs()); a < m.
  void enter(Limb* y, const Limb* a, Scratch& scratch) const noexcept;
  // y = t / R mod m; t has 2 limbs() limbs (destroyed) and `top` above them, and is below `products` R m.
  void reduce(Limb* y, Limb* t, Limb top, int products) const noexcept;
  // y = a 2^bits mod m; a < m.
  void shift(Limb* y, const Limb* a, std::size_t bits, Scratch& scratch) const noexcept;
  // y = y - z, both in [0, m).
  void subtract(Limb* y, const Limb* z, Scratch& scratch) const noexcept;
  // y = 1 / a; false, with y of no use, if there is none. a < m, destroyed.
  [[nodiscard]] bool invert(Limb* y, Limb* a, Scratch& scratch) const noexcept;

 private:
  std::size_t bits_, limbs_;
  SecureBuffer memory_;  // m, R² mod m
  Limb inverse_;         // m^-1 mod 2^64
};

}  // namespace xvec
