#include "padic.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace xvec {

namespace {

void split(Limb* digits, const Integer& value, const Integer& p, std::size_t n) {
  (value % p).to_limbs(digits, n);
  (value / p).to_limbs(digits + n, n);
}

}  // namespace

PAdic::PAdic(const Integer& p) : n_(p.limbs()), memory_((3 * n_ + 2 * n_ * kMaxDigits + 1) * sizeof(Limb)) {
  if (n_ > kMaxPrimeLimbs || mpn::multiply_scratch(n_) > 4 * kMaxPrimeLimbs) {
    throw std::invalid_argument("key_len is larger than this library supports");
  }
  p_ = memory_.as<Limb>();
  one_ = p_ + n_;
  powers_ = one_ + 2 * n_;
  p_inverse_ = powers_ + 2 * n_ * kMaxDigits;
  const Integer p2 = p * p, r = Integer::power_of_two(64 * n_);
  p.to_limbs(p_, n_);
  *p_inverse_ = 0 - negative_inverse(p_[0]);
  split(one_, r % p2, p, n_);
  Integer power = r * r % p2;
  for (std::size_t j = 0; j < kMaxDigits; ++j) {
    split(powers_ + 2 * n_ * j, power, p, n_);
    power = power * r % p2;
  }
}

void PAdic::enter(Limb* element, const Integer& x) const {
  const Integer p = Integer::from_limbs(p_, n_);
  split(element, x * Integer::power_of_two(64 * n_) % (p * p), p, n_);
}

// c = sum of c_j R^j with c_j < R becomes sum of (c_j + 0 p) * (R^(j+2) mod p²) / R, one reduction for all:
// t = sum of c_j A_j < digits * R p, hence at most digits - 1 subtractions of p.
void PAdic::enter(Limb* element, const Limb* value, std::size_t limbs_in, Scratch& scratch) const noexcept {
  WipedArray<Limb, 2 * kMaxPrimeLimbs> sum[2];
  Limb top[2] = {0, 0}, digit[kMaxPrimeLimbs];
  std::memset(sum[0], 0, 2 * n_ * sizeof(Limb));
  std::memset(sum[1], 0, 2 * n_ * sizeof(Limb));
  const std::size_t digits = (limbs_in + n_ - 1) / n_;
  for (std::size_t j = 0; j < digits; ++j) {
    const std::size_t have = std::min(n_, limbs_in - j * n_);
    std::memset(digit, 0, n_ * sizeof(Limb));
    std::memcpy(digit, value + j * n_, have * sizeof(Limb));
    for (int side = 0; side < 2; ++side) {
      const Limb* power = powers_ + 2 * n_ * j + (side == 0 ? 0 : n_);
      mpn::multiply(scratch.s, digit, power, n_, scratch.multiply);
      top[side] += mpn::add(sum[side], sum[side], scratch.s, 2 * n_);
    }
  }
  const int bound = static_cast<int>(digits);
  const Limb k = montgomery_reduce(element, scratch.m, sum[0], top[0], p_, *p_inverse_, n_, bound - 1);
  second_digit(element + n_, sum[1], top[1], scratch.m, k, bound);
}

void PAdic::second_digit(Limb* v, Limb* t, Limb top, const Limb* m, Limb k, int subtractions) const noexcept {
  const Limb carry = mpn::add(t, t, m, n_);
  top += mpn::add_signed(t + n_, n_, carry - k);
  montgomery_reduce(v, nullptr, t, top, p_, *p_inverse_, n_, subtractions);
}

void PAdic::leave(Limb* plain, const Limb* element, Scratch& scratch) const noexcept {
  // (u + 0 p) / R: the quotient m of u's reduction is added to v.
  std::memcpy(scratch.t, element, n_ * sizeof(Limb));
  std::memset(scratch.t + n_, 0, n_ * sizeof(Limb));
  const Limb k = montgomery_reduce(scratch.u, scratch.m, scratch.t, 0, p_, *p_inverse_, n_, 0);
  std::memcpy(scratch.t, element + n_, n_ * sizeof(Limb));
  std::memset(scratch.t + n_, 0, n_ * sizeof(Limb));
  WipedArray<Limb, kMaxPrimeLimbs> v;
  second_digit(v, scratch.t, 0, scratch.m, k, 0);
  mpn::multiply(plain, v, p_, n_, scratch.multiply);
  const Limb carry = mpn::add(plain, plain, scratch.u, n_);
  mpn::add_limb(plain + n_, n_, carry);
}

bool PAdic::leave_one_plus(Limb* digit, const Limb* element, Scratch& scratch) const noexcept {
  std::memcpy(scratch.t, element, n_ * sizeof(Limb));
  std::memset(scratch.t + n_, 0, n_ * sizeof(Limb));
  // u < p needs no subtraction, and comes out as exactly 1 for an element of the form 1 + L p.
  const Limb k = montgomery_reduce(scratch.u, scratch.m, scratch.t, 0, p_, *p_inverse_, n_, 0);
  Limb difference = scratch.u[0] ^ 1;
  for (std::size_t i = 1; i < n_; ++i) difference |= scratch.u[i];
  std::memcpy(scratch.t, element + n_, n_ * sizeof(Limb));
  std::memset(scratch.t + n_, 0, n_ * sizeof(Limb));
  second_digit(digit, scratch.t, 0, scratch.m, k, 0);
  return difference == 0;
}

void PAdic::square(Limb* x, Scratch& scratch) const noexcept {
  mpn::square(scratch.t, x, n_, scratch.multiply);
  mpn::multiply(scratch.s, x, x + n_, n_, scratch.multiply);
  const Limb top = mpn::double_into(scratch.s, scratch.s, 2 * n_);
  const Limb k = montgomery_reduce(x, scratch.m, scratch.t, 0, p_, *p_inverse_, n_, 0);
  second_digit(x + n_, scratch.s, top, scratch.m, k, 1);  // u v' + v u' + m < 2 R p
}

void PAdic::multiply(Limb* x, const Limb* y, Scratch& scratch) const noexcept {
  mpn::multiply(scratch.s, x, y + n_, n_, scratch.multiply);
  mpn::multiply(scratch.t, x + n_, y, n_, scratch.multiply);
  const Limb top = mpn::add(scratch.s, scratch.s, scratch.t, 2 * n_);
  mpn::multiply(scratch.t, x, y, n_, scratch.multiply);
  const Limb k = montgomery_reduce(x, scratch.m, scratch.t, 0, p_, *p_inverse_, n_, 0);
  second_digit(x + n_, scratch.s, top, scratch.m, k, 1);  // u v' + v u' + m < 2 R p
}

void PAdic::multiply_digit(Limb* x, const Limb* u, Scratch& scratch) const noexcept {
  mpn::multiply(scratch.s, x + n_, u, n_, scratch.multiply);
  mpn::multiply(scratch.t, x, u, n_, scratch.multiply);
  const Limb k = montgomery_reduce(x, scratch.m, scratch.t, 0, p_, *p_inverse_, n_, 0);
  second_digit(x + n_, scratch.s, 0, scratch.m, k, 0);  // v u' + m < R p
}

void PAdic::digit_multiply(Limb* r, const Limb* a, const Limb* b, Scratch& scratch) const noexcept {
  mpn::multiply(scratch.t, a, b, n_, scratch.multiply);
  montgomery_reduce(r, nullptr, scratch.t, 0, p_, *p_inverse_, n_, 0);
}

void PAdic::digit_add(Limb* r, const Limb* b) const noexcept {
  WipedArray<Limb, kMaxPrimeLimbs> reduced;
  const Limb carry = mpn::add(r, r, b, n_);
  const Limb borrow = mpn::subtract(reduced, r, p_, n_);
  mpn::subtract_if((carry | (borrow ^ 1)) != 0, r, p_, n_);
}

}  // namespace xvec
