// Fixed-length arithmetic on 64-bit limbs, least significant first: the portable kernel's instructions.
// Thin wrappers of GMP's mpn layer (gmp.cpp). Operand lengths are the only thing that the time of these functions
// depends on, except where a name ends in _vartime.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xvec {

using Limb = std::uint64_t;

namespace mpn {

// Limbs of scratch space that multiply() and square() need for operands of n limbs.
std::size_t multiply_scratch(std::size_t n) noexcept;

// r[0..2n) = a * b. r overlaps neither a nor b.
void multiply(Limb* r, const Limb* a, const Limb* b, std::size_t n, Limb* scratch) noexcept;
// r[0..2n) = a².
void square(Limb* r, const Limb* a, std::size_t n, Limb* scratch) noexcept;
// r[0..n) += a * b, a of n limbs; returns the carry limb.
Limb add_multiple(Limb* r, const Limb* a, std::size_t n, Limb b) noexcept;
// r = a * b, a of n limbs; returns the carry limb.
Limb multiply_by_limb(Limb* r, const Limb* a, std::size_t n, Limb b) noexcept;
// r = a + b, r = a - b; return carry or borrow.
Limb add(Limb* r, const Limb* a, const Limb* b, std::size_t n) noexcept;
Limb subtract(Limb* r, const Limb* a, const Limb* b, std::size_t n) noexcept;
// r += limb, through all n limbs; returns the carry.
Limb add_limb(Limb* r, std::size_t n, Limb limb) noexcept;
// r = 2 a; returns the bit shifted out.
Limb double_into(Limb* r, const Limb* a, std::size_t n) noexcept;
// r -= b if condition; returns the borrow (0 if not condition).
Limb subtract_if(bool condition, Limb* r, const Limb* b, std::size_t n) noexcept;
// r += value, a signed number, through all n limbs; returns the signed limb above.
Limb add_signed(Limb* r, std::size_t n, Limb value) noexcept;
// r = table[which], by reading all `entries` entries of n limbs each.
void select(Limb* r, const Limb* table, std::size_t n, std::size_t entries, std::size_t which) noexcept;
// digits[0..n) = bits [at, at + n bits) of a[0..limbs), in digits of `bits` bits, 0 < bits < 64.
void to_digits(Limb* digits, std::size_t n, unsigned bits, const Limb* a, std::size_t limbs, std::size_t at) noexcept;
// r[0..limbs) = the number of n digits, each below 2^bits; what does not fit is dropped.
void from_digits(Limb* r, std::size_t limbs, const Limb* digits, std::size_t n, unsigned bits) noexcept;
// r = 1 / a mod m, m odd; false, with r of no use, if there is none. a < m, destroyed; scratch: 4 n limbs.
bool invert(Limb* r, Limb* a, const Limb* m, std::size_t n, Limb* scratch) noexcept;
// a < b.
bool below(const Limb* a, const Limb* b, std::size_t n) noexcept;
// -1, 0, 1 for a < b, a == b, a > b.
int compare_vartime(const Limb* a, const Limb* b, std::size_t n) noexcept;

}  // namespace mpn

__extension__ typedef unsigned __int128 DoubleLimb;

// -x^-1 mod 2^64 for odd x: Newton's iteration doubles the number of correct bits, 5 from the start value.
constexpr Limb negative_inverse(Limb x) noexcept {
  Limb y = (3 * x) ^ 2;
  for (int i = 0; i < 4; ++i) y *= 2 - x * y;
  return 0 - y;
}

// r = t / R mod p for R = 2^(64 n), by Montgomery's reduction (Math. Comp. 44, 1985) in its subtracting form: with
// the quotient m = t / p mod R, exactly t = R (r - k p) + m p. t has 2n limbs (destroyed; apart from r) and the signed
// limb `top` above them; -R <= t. p_inverse = p^-1 mod 2^64. `subtractions` is an upper bound of floor(t / (R p)).
// r is canonical; m[0..n) is stored if m is not null; returns k, a signed number.
Limb montgomery_reduce(Limb* r, Limb* m, Limb* t, Limb top, const Limb* p, Limb p_inverse, std::size_t n,
                       int subtractions) noexcept;

}  // namespace xvec
