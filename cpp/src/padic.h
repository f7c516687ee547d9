// Arithmetic modulo p² in p-adic digits (docs/cryptography.md, "Decryption"): an element X = u + v p stands for
// X / R mod p². With t = u u', m = -t / p mod R and r = (t + m p) / R, exactly t = R r - m p, so that modulo p²
//     X X' / R  =  r  +  p * ((u v' + v u' - m) / R mod p).
// A digit has n limbs of 59 to 61 bits, so that a column of products fits 128 bits and carries are taken once per column.
// R = 2^(bits n) has ten bits more than p at least, so that sums and products of digits below 10 p come out below
// p (1 + 2^-2) and nothing is ever compared with p on the way. Every operation runs the same instructions whatever the
// values are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "integer.h"
#include "mpn.h"
#include "secure_memory.h"
#include "sizes.h"

namespace xvec {

class PAdic {
 public:
  // Limbs of the longest digit.
  static constexpr std::size_t kMaxDigitLimbs = (kMaxKeyLen + 10 + 58) / 59;

  // p odd, of at most kMaxKeyLen bits.
  explicit PAdic(const Integer& p);

  // Limbs of one digit; an element is two digits, u then v. Plain numbers modulo p have 64-bit limbs: plain_limbs().
  [[nodiscard]] std::size_t limbs() const noexcept { return size_.n; }
  [[nodiscard]] std::size_t plain_limbs() const noexcept { return plain_limbs_; }
  [[nodiscard]] const Limb* p() const noexcept { return plain_p_; }

  // Working memory of one thread.
  struct Scratch {
    Scratch() noexcept {}  // NOLINT: not initialised
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { wipe(this, sizeof *this); }
    Limb m[kMaxDigitLimbs], m2[kMaxDigitLimbs];
    Limb u[kMaxDigitLimbs], element[2 * kMaxDigitLimbs];
    Limb plain[2][kMaxPrimeLimbs + 1];
    Limb multiply[4 * kMaxPrimeLimbs];
  };

  // Numbers as digits, for constants.
  void to_digit(Limb* digit, const Integer& x) const;
  // R^power mod p.
  [[nodiscard]] Integer radix(unsigned power) const;

  // The element that stands for x mod p².
  void enter(Limb* element, const Integer& x) const;
  // The same for a value of limbs_in plain limbs, at most 4 key_len bits, by fixed multiples of R^(j+2) mod p².
  void enter(Limb* element, const Limb* value, std::size_t limbs_in, Scratch& scratch) const noexcept;
  // plain[0..2 plain_limbs): the value in [0, p²) that the element stands for.
  void leave(Limb* plain, const Limb* element, Scratch& scratch) const noexcept;
  // For an element that stands for 1 + L p: digit = L. Returns whether it does; digit is meaningless if not.
  bool leave_one_plus(Limb* digit, const Limb* element, Scratch& scratch) const noexcept;

  void square(Limb* x, Scratch& scratch) const noexcept;                         // x = x²
  void multiply(Limb* x, const Limb* y, Scratch& scratch) const noexcept;        // x = x y
  void multiply_digit(Limb* x, const Limb* u, Scratch& scratch) const noexcept;  // x = x (u + 0 p)

  // Montgomery arithmetic on single digits modulo p: r = a b / R, r = a / R, r += b.
  void digit_multiply(Limb* r, const Limb* a, const Limb* b, Scratch& scratch) const noexcept;
  void digit_reduce(Limb* r, const Limb* a, Scratch& scratch) const noexcept;
  void digit_add(Limb* r, const Limb* b) const noexcept;
  // Plain numbers below R to digits; digits below 2 p to the plain number in [0, p).
  void digit_enter(Limb* digit, const Limb* plain) const noexcept { unpack(digit, plain, plain_limbs_, 0); }
  void digit_leave(Limb* plain, const Limb* digit, Scratch& scratch) const noexcept;
  // plain = x mod p for x of at most 4 key_len bits.
  void residue(Limb* plain, const Limb* x, std::size_t limbs_in, Scratch& scratch) const noexcept;

  // The element 1.
  [[nodiscard]] const Limb* one() const noexcept { return one_; }

  // Limbs of a digit, and the bits of each.
  struct Size {
    explicit Size(std::size_t bits_of_p);
    std::size_t n;
    unsigned bits;
  };

 private:
  // digit = bits [at, at + bits n) of a plain number, zeros above its `limbs`.
  void unpack(Limb* digit, const Limb* plain, std::size_t limbs, std::size_t at) const noexcept;
  // Returns whether p was subtracted.
  bool pack(Limb* plain, const Limb* digit, Scratch& scratch) const noexcept;

  Size size_;
  std::size_t plain_limbs_;
  SecureBuffer memory_;     // everything below points into it
  Limb* p_;                 // n
  Limb* above_;             // n, see PAdic::PAdic
  Limb* one_;               // 2n
  Limb* powers_;            // kMaxDigits elements in plain digits: R^(j+2) mod p²
  Limb* plain_p_;           // plain_limbs + 1
  Limb* negative_inverse_;  // -p^-1 mod 2^64
  static constexpr std::size_t kMaxDigits = 5;
};

}  // namespace xvec
