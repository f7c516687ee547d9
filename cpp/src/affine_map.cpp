#include "affine_map.h"

#include <algorithm>
#include <cstring>

namespace xvec {

Modulus::Modulus(const Integer& m)
    : bits_(m.bits()),
      limbs_(m.limbs()),
      memory_(2 * limbs_ * sizeof(Limb)),
      inverse_(0 - negative_inverse(m.low64())) {
  m.to_limbs(memory_.as<Limb>(), limbs_);
  (Integer::power_of_two(128 * limbs_) % m).to_limbs(memory_.as<Limb>() + limbs_, limbs_);
}

void Modulus::enter(Limb* y, const Limb* a, Scratch& scratch) const noexcept {
  mpn::multiply(scratch.sum, a, value() + limbs_, limbs_, scratch.multiply);
  reduce(y, scratch.sum, 0, 1);
}

void Modulus::reduce(Limb* y, Limb* t, Limb top, int products) const noexcept {
  montgomery_reduce(y, nullptr, t, top, value(), inverse_, limbs_, products);
}

void Modulus::subtract(Limb* y, const Limb* z, Scratch& scratch) const noexcept {
  Limb* masked = scratch.product;
  const Limb borrow = mpn::subtract(y, y, z, limbs_);
  for (std::size_t i = 0; i < limbs_; ++i) masked[i] = value()[i] & (0 - borrow);
  mpn::add(y, y, masked, limbs_);
}

bool Modulus::invert(Limb* y, Limb* a, Scratch& scratch) const noexcept {
  return mpn::invert(y, a, value(), limbs_, scratch.multiply);
}

AffineMap::AffineMap(const Modulus& m, const Limb* a, const Limb* b, std::size_t f_limbs)
    : m_(m), f_limbs_(f_limbs), factors_((1 + (f_limbs + m.limbs() - 1) / m.limbs()) * m.limbs() * sizeof(Limb)) {
  Modulus::Scratch scratch;
  Limb* to = factors_.as<Limb>();
  m.enter(to, a, scratch);
  for (std::size_t at = 0; at < f_limbs; at += m.limbs(), b = to) m.enter(to += m.limbs(), b, scratch);
}

void AffineMap::run(Limb* y, const Limb* x, const Limb* f, Modulus::Scratch& scratch) const noexcept {
  const std::size_t n = m_.limbs();
  Limb *sum = scratch.sum, *product = scratch.product;
  const Limb* factor = factors_.as<Limb>();
  mpn::multiply(sum, x, factor, n, scratch.multiply);
  Limb top = 0;
  int products = 1;
  for (std::size_t at = 0; at < f_limbs_; at += n, ++products) {
    factor += n;
    const std::size_t piece = std::min(n, f_limbs_ - at);
    if (piece == n) {
      mpn::multiply(product, f + at, factor, n, scratch.multiply);
    } else {
      std::memset(product, 0, 2 * n * sizeof(Limb));
      for (std::size_t i = 0; i < piece; ++i) product[i + n] = mpn::add_multiple(product + i, factor, n, f[at + i]);
    }
    top += mpn::add(sum, sum, product, 2 * n);
  }
  m_.reduce(y, sum, top, products);  // every product is below R m
}

}  // namespace xvec
