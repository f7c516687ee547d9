#include "padic.h"

#include <cstring>
#include <stdexcept>

namespace xvec {

namespace {

using Column = DoubleLimb;

// The sizes of usual keys are compiled with all loops unrolled; any other size runs by loops.
template <std::size_t kLimbs, unsigned kBits>
struct FixedSize {
  static constexpr std::size_t n = kLimbs;
  static constexpr unsigned bits = kBits;
};

#define XVEC_INLINE inline __attribute__((always_inline))

template <class Body>
XVEC_INLINE void repeat(const PAdic::Size&, std::size_t from, std::size_t to, Body body) {
#pragma GCC unroll 2
  for (std::size_t i = from; i < to; ++i) body(i);
}
template <std::size_t kLimbs, unsigned kBits, class Body>
XVEC_INLINE void repeat(FixedSize<kLimbs, kBits>, std::size_t from, std::size_t to, Body body) {
#pragma GCC unroll 64
  for (std::size_t i = from; i < to; ++i) body(i);
}

// Sum of a[i] b[k - i] for i in [from, to).
template <class Size>
XVEC_INLINE Column dot(Size size, const Limb* a, const Limb* b, std::size_t k, std::size_t from, std::size_t to) {
  Column sum = 0;
  repeat(size, from, to, [&](std::size_t i) __attribute__((always_inline)) { sum += Column{a[i]} * b[k - i]; });
  return sum;
}

// Column k of a b, and of a².
template <class Size>
XVEC_INLINE Column product(Size size, const Limb* a, const Limb* b, std::size_t k) {
  return k < size.n ? dot(size, a, b, k, 0, k + 1) : dot(size, a, b, k, k - size.n + 1, size.n);
}
template <class Size>
XVEC_INLINE Column square_of(Size size, const Limb* a, std::size_t k) {
  const Column half = dot(size, a, a, k, k < size.n ? 0 : k - size.n + 1, (k + 1) / 2);
  return 2 * half + (k % 2 == 0 ? Column{a[k / 2]} * a[k / 2] : 0);
}

// r = (t + m p) / R and m = -t / p mod R for the t whose columns column(0..2n-2) gives, by Montgomery's reduction
// (Math. Comp. 44, 1985), column by column. r < t / R + p. r may be an operand of t: column k needs limbs above k - n.
//
// A column sums at most 2n products for t and n for m p, all of limbs below 2^bits, and the carry: 128 bits hold that
// for 3 n < 2^(128 - 2 bits), which is how PAdic::Size chooses.
template <class Size, class Columns>
XVEC_INLINE void reduce(Size size, Limb* r, Limb* m, const Limb* p, Limb negative_inverse, Columns column) {
  const std::size_t n = size.n;
  const Limb mask = (Limb{1} << size.bits) - 1;
  Column sum = 0;
  repeat(size, 0, n, [&](std::size_t k) __attribute__((always_inline)) {
    sum += column(k) + dot(size, m, p, k, 0, k);
    m[k] = static_cast<Limb>(sum) * negative_inverse & mask;
    sum = (sum + Column{m[k]} * p[0]) >> size.bits;
  });
  repeat(size, n, 2 * n - 1, [&](std::size_t k) __attribute__((always_inline)) {
    sum += column(k) + dot(size, m, p, k, k - n + 1, n);
    r[k - n] = static_cast<Limb>(sum) & mask;
    sum >>= size.bits;
  });
  r[n - 1] = static_cast<Limb>(sum);
}

// What an operation needs of its field.
struct Field {
  const Limb *p, *above;
  Limb negative_inverse;
};

// r = (t - m) / R + multiples of p, for the quotient m of a first digit.
template <class Size, class Columns>
XVEC_INLINE void reduce_second(Size size, Limb* r, Limb* m2, const Limb* m, const Field& f, Columns column) {
  reduce(size, r, m2, f.p, f.negative_inverse, [&](std::size_t k) __attribute__((always_inline)) {
    return column(k) + (k < size.n ? Column{f.above[k] - m[k]} : 0);
  });
}

template <class Size>
void square(Size size, Limb* x, const Field& f, PAdic::Scratch& s) {
  const Limb *u = x, *v = x + size.n;
  reduce(size, s.u, s.m, f.p, f.negative_inverse,
         [&](std::size_t k) __attribute__((always_inline)) { return square_of(size, u, k); });
  reduce_second(size, x + size.n, s.m2, s.m, f,
                [&](std::size_t k) __attribute__((always_inline)) { return 2 * product(size, u, v, k); });
  std::memcpy(x, s.u, size.n * sizeof(Limb));
}

template <class Size>
void multiply(Size size, Limb* x, const Limb* y, const Field& f, PAdic::Scratch& s) {
  const Limb *u = x, *v = x + size.n;
  reduce(size, s.u, s.m, f.p, f.negative_inverse,
         [&](std::size_t k) __attribute__((always_inline)) { return product(size, u, y, k); });
  reduce_second(size, x + size.n, s.m2, s.m, f, [&](std::size_t k) __attribute__((always_inline)) {
    return product(size, u, y + size.n, k) + product(size, v, y, k);
  });
  std::memcpy(x, s.u, size.n * sizeof(Limb));
}

template <class Size>
void multiply_digit(Size size, Limb* x, const Limb* y, const Field& f, PAdic::Scratch& s) {
  const Limb *u = x, *v = x + size.n;
  reduce(size, s.u, s.m, f.p, f.negative_inverse,
         [&](std::size_t k) __attribute__((always_inline)) { return product(size, u, y, k); });
  reduce_second(size, x + size.n, s.m2, s.m, f,
                [&](std::size_t k) __attribute__((always_inline)) { return product(size, v, y, k); });
  std::memcpy(x, s.u, size.n * sizeof(Limb));
}

// Primes of 1024 and 1536 bits. Longer ones gain nothing: unrolled, they leave the instruction cache.
template <class Operation>
XVEC_INLINE void with_size(const PAdic::Size& size, Operation operation) {
  if (size.n == 17 && size.bits == 61) {
    operation(FixedSize<17, 61>{});
  } else if (size.n == 26 && size.bits == 60) {
    operation(FixedSize<26, 60>{});
  } else {
    operation(size);
  }
}

std::size_t quotient_up(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

}  // namespace

PAdic::Size::Size(std::size_t bits_of_p) : n(0), bits(62) {
  do {
    --bits;
    n = quotient_up(bits_of_p + 10, bits);
  } while (3 * n >= std::size_t{1} << (128 - 2 * bits));
}

PAdic::PAdic(const Integer& p)
    : size_(p.bits()),
      plain_limbs_(p.limbs()),
      memory_(((4 + 2 * kMaxDigits) * size_.n + plain_limbs_ + 2) * sizeof(Limb)) {
  if (p.bits() > kMaxKeyLen || mpn::multiply_scratch(plain_limbs_) > 4 * kMaxPrimeLimbs) {
    throw std::invalid_argument("key_len is larger than this library supports");
  }
  const std::size_t n = size_.n;
  p_ = memory_.as<Limb>();
  above_ = p_ + n;
  one_ = above_ + n;
  powers_ = one_ + 2 * n;
  plain_p_ = powers_ + 2 * n * kMaxDigits;
  negative_inverse_ = plain_p_ + plain_limbs_ + 1;
  p.to_digits(p_, n, size_.bits);
  p.to_limbs(plain_p_, plain_limbs_);
  *negative_inverse_ = negative_inverse(plain_p_[0]);

  // The smallest multiple of p that is not below R is added to second digits before m < R is subtracted. Its limb n is
  // 1; every limb lends 2^bits to the one below, so that none becomes negative.
  const Integer r = Integer::power_of_two(size_.bits * n), p2 = p * p;
  ((r + p - Integer(1)) / p * p - r).to_digits(above_, n, size_.bits);
  const Limb base = Limb{1} << size_.bits;
  for (std::size_t k = 0; k < n; ++k) above_[k] += k == 0 ? base : base - 1;

  const auto split = [&](Limb* element, const Integer& x) {
    (x % p).to_digits(element, n, size_.bits);
    (x / p).to_digits(element + n, n, size_.bits);
  };
  split(one_, r % p2);
  Integer power = r * r % p2;
  for (std::size_t j = 0; j < kMaxDigits; ++j) {
    split(powers_ + 2 * n * j, power);
    power = power * r % p2;
  }
}

void PAdic::to_digit(Limb* digit, const Integer& x) const { x.to_digits(digit, size_.n, size_.bits); }

Integer PAdic::radix(unsigned power) const {
  return Integer::power_of_two(power * size_.bits * size_.n) % Integer::from_limbs(plain_p_, plain_limbs_);
}

void PAdic::unpack(Limb* digit, const Limb* plain, std::size_t limbs, std::size_t at) const noexcept {
  mpn::to_digits(digit, size_.n, size_.bits, plain, limbs, at);
}

bool PAdic::pack(Limb* plain, const Limb* digit, Scratch& scratch) const noexcept {
  const std::size_t limbs = plain_limbs_ + 1;
  Limb *value = scratch.plain[0], *difference = scratch.plain[1];
  mpn::from_digits(value, limbs, digit, size_.n, size_.bits);
  const Limb borrow = mpn::subtract(difference, value, plain_p_, limbs);
  for (std::size_t i = 0; i < plain_limbs_; ++i) {
    plain[i] = difference[i] ^ ((difference[i] ^ value[i]) & (0 - borrow));
  }
  return borrow == 0;
}

void PAdic::enter(Limb* element, const Integer& x) const {
  const Integer p = Integer::from_limbs(plain_p_, plain_limbs_);
  const Integer value = (x << (size_.bits * size_.n)) % (p * p);
  to_digit(element, value % p);
  to_digit(element + size_.n, value / p);
}

// c = sum of c_j R^j with c_j < R becomes the sum of (R^(j+2) mod p²) * (c_j + 0 p) / R.
void PAdic::enter(Limb* element, const Limb* value, std::size_t limbs_in, Scratch& scratch) const noexcept {
  const std::size_t n = size_.n, digit_bits = size_.bits * n;
  Limb digit[kMaxDigitLimbs];
  std::memset(element, 0, 2 * n * sizeof(Limb));
  for (std::size_t j = 0; j * digit_bits < 64 * limbs_in; ++j) {
    unpack(digit, value, limbs_in, j * digit_bits);
    std::memcpy(scratch.element, powers_ + 2 * n * j, 2 * n * sizeof(Limb));
    multiply_digit(scratch.element, digit, scratch);
    digit_add(element, scratch.element);
    digit_add(element + n, scratch.element + n);
  }
}

void PAdic::leave(Limb* plain, const Limb* element, Scratch& scratch) const noexcept {
  const std::size_t n = size_.n;
  std::memcpy(scratch.element, element, 2 * n * sizeof(Limb));
  const Field f{p_, above_, *negative_inverse_};
  reduce(size_, scratch.element, scratch.m, f.p, f.negative_inverse,
         [&](std::size_t k) { return k < n ? Column{element[k]} : 0; });
  reduce_second(size_, scratch.element + n, scratch.m2, scratch.m, f,
                [&](std::size_t k) { return k < n ? Column{element[n + k]} : 0; });
  WipedArray<Limb, kMaxPrimeLimbs> u, v;
  const bool carry = pack(u, scratch.element, scratch);
  pack(v, scratch.element + n, scratch);
  mpn::add_limb(v, plain_limbs_, carry ? 1 : 0);
  // v = p only after that carry: then the value is that of v = 0.
  Limb* difference = scratch.plain[1];
  const Limb below = mpn::subtract(difference, v, plain_p_, plain_limbs_);
  mpn::subtract_if(below == 0, v, plain_p_, plain_limbs_);
  mpn::multiply(plain, v, plain_p_, plain_limbs_, scratch.multiply);
  const Limb over = mpn::add(plain, plain, u, plain_limbs_);
  mpn::add_limb(plain + plain_limbs_, plain_limbs_, over);
}

bool PAdic::leave_one_plus(Limb* digit, const Limb* element, Scratch& scratch) const noexcept {
  const std::size_t n = size_.n;
  const Field f{p_, above_, *negative_inverse_};
  // (u + m p) / R <= p for u < R: exactly 1 for an element of the form 1 + L p.
  reduce(size_, scratch.u, scratch.m, f.p, f.negative_inverse,
         [&](std::size_t k) { return k < n ? Column{element[k]} : 0; });
  Limb difference = scratch.u[0] ^ 1;
  for (std::size_t i = 1; i < n; ++i) difference |= scratch.u[i];
  reduce_second(size_, digit, scratch.m2, scratch.m, f,
                [&](std::size_t k) { return k < n ? Column{element[n + k]} : 0; });
  return difference == 0;
}

void PAdic::square(Limb* x, Scratch& scratch) const noexcept {
  const Field f{p_, above_, *negative_inverse_};
  with_size(size_, [&](auto size) __attribute__((always_inline)) { xvec::square(size, x, f, scratch); });
}

void PAdic::multiply(Limb* x, const Limb* y, Scratch& scratch) const noexcept {
  const Field f{p_, above_, *negative_inverse_};
  with_size(size_, [&](auto size) __attribute__((always_inline)) { xvec::multiply(size, x, y, f, scratch); });
}

void PAdic::multiply_digit(Limb* x, const Limb* u, Scratch& scratch) const noexcept {
  const Field f{p_, above_, *negative_inverse_};
  with_size(size_, [&](auto size) __attribute__((always_inline)) { xvec::multiply_digit(size, x, u, f, scratch); });
}

void PAdic::digit_multiply(Limb* r, const Limb* a, const Limb* b, Scratch& scratch) const noexcept {
  reduce(size_, r, scratch.m, p_, *negative_inverse_, [&](std::size_t k) { return product(size_, a, b, k); });
}

void PAdic::digit_reduce(Limb* r, const Limb* a, Scratch& scratch) const noexcept {
  reduce(size_, r, scratch.m, p_, *negative_inverse_, [&](std::size_t k) { return k < size_.n ? Column{a[k]} : 0; });
}

void PAdic::digit_add(Limb* r, const Limb* b) const noexcept {
  const Limb mask = (Limb{1} << size_.bits) - 1;
  Limb carry = 0;
  for (std::size_t i = 0; i + 1 < size_.n; ++i) {
    carry += r[i] + b[i];
    r[i] = carry & mask;
    carry >>= size_.bits;
  }
  r[size_.n - 1] += b[size_.n - 1] + carry;
}

void PAdic::residue(Limb* plain, const Limb* x, std::size_t limbs_in, Scratch& scratch) const noexcept {
  const std::size_t n = size_.n, digit_bits = size_.bits * n;
  Limb *sum = scratch.element, *digit = sum + n;
  std::memset(sum, 0, n * sizeof(Limb));
  for (std::size_t j = 0; j * digit_bits < 64 * limbs_in; ++j) {
    unpack(digit, x, limbs_in, j * digit_bits);
    digit_multiply(digit, digit, j == 0 ? one_ : powers_ + 2 * n * (j - 1), scratch);  // times R^(j+1) / R mod p
    digit_add(sum, digit);
  }
  digit_multiply(sum, sum, one_, scratch);
  digit_leave(plain, sum, scratch);
}

void PAdic::digit_leave(Limb* plain, const Limb* digit, Scratch& scratch) const noexcept {
  pack(plain, digit, scratch);
}

}  // namespace xvec
