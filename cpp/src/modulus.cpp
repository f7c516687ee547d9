#include "modulus.h"

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
  montgomery_reduce(y, nullptr, t, top, value(), inverse_, limbs_, products - 1);
}

void Modulus::shift(Limb* y, const Limb* a, std::size_t bits, Scratch& scratch) const noexcept {
  WipedArray<Limb, 2 * kMaxPrimeLimbs> value;
  Limb power[2 * kMaxPrimeLimbs] = {};
  power[bits % (64 * limbs_) / 64] = Limb{1} << bits % 64;
  enter(value, a, scratch);
  mpn::multiply(scratch.sum, value, power, limbs_, scratch.multiply);
  reduce(value, scratch.sum, 0, 1);
  for (bits /= 64 * limbs_; bits > 0; --bits) {
    enter(scratch.product, value, scratch);
    std::memcpy(value, scratch.product, limbs_ * sizeof(Limb));
  }
  std::memcpy(y, value, limbs_ * sizeof(Limb));
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

}  // namespace xvec
