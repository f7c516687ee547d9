// Arbitrary-precision integers for key generation and for preparing kernels: a thin wrapper of mpz, whose only
// user of <gmp.h> is gmp.cpp. Nothing on a hot path uses it. Values are non-negative unless a comment says otherwise;
// every limb that a value held is wiped when it dies.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace xvec {

class Integer {
 public:
  Integer();
  Integer(std::uint64_t value);  // NOLINT: integers mix with small constants in formulas
  Integer(const Integer&);
  Integer(Integer&&) noexcept;
  Integer& operator=(const Integer&);
  Integer& operator=(Integer&&) noexcept;
  ~Integer();

  static Integer from_bytes(std::span<const std::uint8_t> little_endian);
  static Integer from_limbs(const std::uint64_t* limbs, std::size_t count);
  static Integer power_of_two(std::size_t exponent);

  // Little-endian, zero-padded. The value must fit.
  void to_bytes(std::span<std::uint8_t> out) const;
  [[nodiscard]] std::vector<std::uint8_t> to_bytes() const;  // minimal length
  void to_limbs(std::uint64_t* out, std::size_t count) const;
  // Digits of radix 2^bits, least significant first, zero-padded; bits < 64. The value must fit, except that the
  // top digit takes whatever is left.
  void to_digits(std::uint64_t* out, std::size_t count, unsigned bits) const;

  [[nodiscard]] std::size_t bits() const;  // 0 for zero
  [[nodiscard]] std::size_t limbs() const { return (bits() + 63) / 64; }
  [[nodiscard]] bool bit(std::size_t index) const;
  [[nodiscard]] bool is_odd() const { return bit(0); }
  [[nodiscard]] bool is_zero() const { return bits() == 0; }
  [[nodiscard]] std::uint64_t low64() const;
  [[nodiscard]] bool probably_prime() const;  // error probability below 4^-16 for any input
  [[nodiscard]] std::uint64_t mod_small(std::uint64_t m) const;

  friend Integer operator+(const Integer&, const Integer&);
  friend Integer operator-(const Integer&, const Integer&);
  friend Integer operator*(const Integer&, const Integer&);
  friend Integer operator/(const Integer&, const Integer&);  // floor
  friend Integer operator%(const Integer&, const Integer&);  // in [0, m)
  friend Integer operator<<(const Integer&, std::size_t);
  friend Integer operator>>(const Integer&, std::size_t);
  friend std::strong_ordering operator<=>(const Integer&, const Integer&);
  friend bool operator==(const Integer&, const Integer&);

  friend Integer gcd(const Integer&, const Integer&);
  // base^exponent mod m, m odd; a fixed sequence of operations for exponents of one length.
  friend Integer pow(const Integer& base, const Integer& exponent, const Integer& m);
  friend Integer pow_vartime(const Integer& base, const Integer& exponent, const Integer& m);
  friend Integer inverse(const Integer& a, const Integer& m);  // throws std::domain_error if there is none
  friend Integer sqrt(const Integer&);                         // floor
  friend bool base2_probable_prime(const Integer&);            // one strong base-2 test, for searching

 private:
  struct Rep;
  Rep* rep_;
};

Integer inverse(const Integer& a, const Integer& m);

}  // namespace xvec
