#include "affine_map.h"

#include <algorithm>
#include <cstring>

namespace xvec {

AffineMap::AffineMap(const Integer& m, const Integer& a, const Integer& b, std::size_t f_limbs)
    : limbs_(m.limbs()),
      f_limbs_(f_limbs),
      memory_((2 + (f_limbs + limbs_ - 1) / limbs_) * limbs_ * sizeof(Limb)),
      m_inverse_(0 - negative_inverse(m.low64())) {
  const Integer r = Integer::power_of_two(64 * limbs_) % m;
  Limb* to = memory_.as<Limb>();
  m.to_limbs(to, limbs_);
  (a * r % m).to_limbs(to += limbs_, limbs_);
  Integer factor = b;
  for (std::size_t at = 0; at < f_limbs; at += limbs_) {
    factor = factor * r % m;
    factor.to_limbs(to += limbs_, limbs_);
  }
}

void AffineMap::run(Limb* y, const Limb* x, const Limb* f, Scratch& scratch) const noexcept {
  const std::size_t n = limbs_;
  Limb *sum = scratch.sum, *product = scratch.product;
  const Limb* factor = memory_.as<Limb>() + n;
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
  // Every product is below R m.
  montgomery_reduce(y, nullptr, sum, top, memory_.as<Limb>(), m_inverse_, n, products);
}

void AffineMap::subtract(Limb* y, const Limb* z, Scratch& scratch) const noexcept {
  Limb* masked = scratch.product;
  const Limb borrow = mpn::subtract(y, y, z, limbs_);
  for (std::size_t i = 0; i < limbs_; ++i) masked[i] = memory_.as<Limb>()[i] & (0 - borrow);
  mpn::add(y, y, masked, limbs_);
}

}  // namespace xvec
