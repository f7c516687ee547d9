// Arithmetic modulo p² in p-adic digits (docs/cryptography.md, "Decryption"): an element X = u + v p with u, v in [0, p)
// stands for X / R mod p², R = 2^(64 n). With t = u u', m = t / p mod R and r = (t - m p) / R, exactly
// t = R r + m p, so that modulo p²
//     X X' / R  =  r  +  p * ((u v' + v u' + m) / R mod p).
// Raising r by k p lowers v by k. Every operation runs the same instructions whatever the values are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "integer.h"
#include "mpn.h"
#include "secure_memory.h"
#include "sizes.h"

namespace xvec {

class PAdic {
 public:
  // p odd, > 2^4, of at most kMaxKeyLen bits.
  explicit PAdic(const Integer& p);

  // Limbs of p, and of one digit; an element is two digits, u then v.
  [[nodiscard]] std::size_t limbs() const noexcept { return n_; }
  [[nodiscard]] const Limb* p() const noexcept { return p_; }
  [[nodiscard]] Limb p_inverse() const noexcept { return *p_inverse_; }

  // Working memory of one thread.
  struct Scratch {
    Scratch() noexcept {}  // NOLINT: not initialised
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { wipe(this, sizeof *this); }
    Limb t[2 * kMaxPrimeLimbs];
    Limb s[2 * kMaxPrimeLimbs];
    Limb m[kMaxPrimeLimbs];
    Limb u[kMaxPrimeLimbs];
    Limb multiply[4 * kMaxPrimeLimbs];
  };

  // The element that stands for x mod p².
  void enter(Limb* element, const Integer& x) const;
  // element = (sum of digit_j * R^j) for a value of limbs_in limbs, by fixed multiples of R^(j+2) mod p².
  void enter(Limb* element, const Limb* value, std::size_t limbs_in, Scratch& scratch) const noexcept;
  // x = plain[0..2n): the value in [0, p²) that the element stands for.
  void leave(Limb* plain, const Limb* element, Scratch& scratch) const noexcept;
  // For an element that stands for 1 + L p: digit = L. Returns whether it does; digit is meaningless if not.
  bool leave_one_plus(Limb* digit, const Limb* element, Scratch& scratch) const noexcept;

  void square(Limb* x, Scratch& scratch) const noexcept;                         // x = x²
  void multiply(Limb* x, const Limb* y, Scratch& scratch) const noexcept;        // x = x y
  void multiply_digit(Limb* x, const Limb* u, Scratch& scratch) const noexcept;  // x = x (u + 0 p)

  // Montgomery arithmetic on single digits modulo p: r = a b / R, r = a + b.
  void digit_multiply(Limb* r, const Limb* a, const Limb* b, Scratch& scratch) const noexcept;
  void digit_add(Limb* r, const Limb* b) const noexcept;

  // The element 1.
  [[nodiscard]] const Limb* one() const noexcept { return one_; }

 private:
  // v = (t + top R² + m) / R - k mod p; `subtractions` as for montgomery_reduce.
  void second_digit(Limb* v, Limb* t, Limb top, const Limb* m, Limb k, int subtractions) const noexcept;

  std::size_t n_;
  SecureBuffer memory_;  // everything below points into it
  Limb* p_;              // n
  Limb* one_;            // 2n
  Limb* powers_;         // kMaxDigits elements in plain digits: R^(j+2) mod p²
  Limb* p_inverse_;      // modulo 2^64
  static constexpr std::size_t kMaxDigits = 5;
};

}  // namespace xvec
