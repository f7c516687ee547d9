// The border between kernel_ifma.cpp and the preparation of arithmetic modulo p² and of decryption; see ifma.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../exponent_schedule.h"
#include "digit_tables.h"

namespace xvec::ifma {

// Radix 2^52 with at least 16 bits to spare; limbs are a multiple of 10 (padic.h).
template <int KeyLen>
struct PadicSize {
  static constexpr int limbs = (KeyLen + 16 + 51) / 52;        // 20, 30, 40
  static constexpr int cipher_limbs = (4 * KeyLen + 51) / 52;  // 79, 119, 158
};

// Pairs are p-adic: value = [0] + [1] p.
template <int KeyLen>
struct PadicTables {
  using Size = PadicSize<KeyLen>;
  DigitModulus<Size::limbs> modulus;                        // p, 2^(KeyLen - 1) < p < 2^KeyLen
  std::uint64_t one[2][Size::limbs];                        // R mod p²
  std::uint64_t enter[2][Size::cipher_limbs][Size::limbs];  // 2^(52 j) R 2^104 mod p²
  std::uint64_t kappa[Size::limbs];                         // kappa R mod p
};

// p for key_len = 1024 in radix 2^50, 21 limbs, R = 2^1050, with the constants of padic1024.h, which says what
// they are for.
struct WovenModulus {
  static constexpr int bits = 50, limbs = 21, strips = 3, strip_width = 7;
  static constexpr int fixed_pairs = 10;
  std::uint64_t mask;                    // 2^50 - 1
  std::uint64_t p[limbs];                // 2^1023 < p < 2^1024, odd
  std::uint64_t negated_inverse[limbs];  // -p^-1 mod R
  std::uint64_t product_bias[2];         // of column 0, of the others
  std::uint64_t quotient_start[limbs];
  std::uint64_t high_start[2][limbs + 2];  // for squares, for products
  std::uint64_t c[limbs];
  std::uint64_t fixed[strips][fixed_pairs][2][strip_width];
  std::uint64_t fixed_start[limbs + 1];
};

struct WovenTables {
  static constexpr int cipher_pairs = 41;  // limbs of a ciphertext, in pairs
  WovenModulus modulus;
  std::uint64_t enter[2][WovenModulus::strips][cipher_pairs][2][WovenModulus::strip_width];
  std::uint64_t enter_start[2][WovenModulus::limbs + 1];
  std::uint64_t one[2][WovenModulus::limbs];  // R mod p², as a p-adic pair
  std::uint64_t kappa[WovenModulus::limbs];   // kappa R mod p
};

// See Decryptor: rows of 4 key_len / 8 bytes with any content, plain in words of 64 bits, valid 0 or 1.
void decrypt(const WovenTables&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;
void decrypt(const PadicTables<1536>&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;
void decrypt(const PadicTables<2048>&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;

}  // namespace xvec::ifma
