// y = a x + b f modulo an odd number, for fixed secret a and b: scaling and masking in one step. Nothing here but
// the preparation of a modulus takes a time that depends on more than lengths.
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
  // y = y - z, both in [0, m).
  void subtract(Limb* y, const Limb* z, Scratch& scratch) const noexcept;
  // y = 1 / a; false, with y of no use, if there is none. a < m, destroyed.
  [[nodiscard]] bool invert(Limb* y, Limb* a, Scratch& scratch) const noexcept;

 private:
  std::size_t bits_, limbs_;
  SecureBuffer memory_;  // m, R² mod m
  Limb inverse_;         // m^-1 mod 2^64
};

class AffineMap {
 public:
  // m outlives the map; a, b < m. f will have f_limbs limbs.
  AffineMap(const Modulus& m, const Limb* a, const Limb* b, std::size_t f_limbs);

  // x and y: as many limbs as m, y in [0, m); f: any number.
  void run(Limb* y, const Limb* x, const Limb* f, Modulus::Scratch& scratch) const noexcept;

 private:
  const Modulus& m_;
  std::size_t f_limbs_;
  SecureBuffer factors_;  // a R, b R, b R², ... mod m: one for x and one for each piece of f as long as m
};

}  // namespace xvec
