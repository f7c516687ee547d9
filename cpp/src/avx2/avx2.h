// The border between kernel_avx2.cpp, compiled for AVX2, and the code that prepares its tables, compiled for any
// processor. As with ifma/ifma.h, it holds nothing that could be emitted, and functions are overloaded over key_len.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../exponent_schedule.h"

namespace xvec::avx2 {

// ---- The server's product (product.h) ---------------------------------------------------------------------------

constexpr int kStripWidth = 6;

template <int KeyLen>
struct ProductSize {
  // vpmuludq multiplies 32 bits; fewer keep a column of products within 64: (limbs + 2) 2^(2 bits) < 2^64.
  static constexpr int bits = KeyLen > 1536 ? 27 : 28;
  static constexpr int words = 4 * KeyLen / 64;
  static constexpr int limbs = (4 * KeyLen + bits - 1) / bits;  // 147, 220, 304
  // N's multiples by two Montgomery limbs take two columns more.
  static constexpr int strips = (limbs + 2 + kStripWidth - 1) / kStripWidth;
};

// Multiplication by a fixed query modulo N: row j < limbs is query * B^(j + 2) mod N, B = 2^bits; then N and N B.
template <int KeyLen>
struct QueryMatrix {
  using Size = ProductSize<KeyLen>;
  std::uint32_t rows[Size::strips][Size::limbs + 2][kStripWidth];
  std::uint32_t modulus[Size::limbs];
  std::uint32_t negated_inverse;  // -N^-1 mod B
};

// out_i = query * in_i mod N, canonical, for count rows (a multiple of 8) of 4 key_len / 8 bytes with any content,
// stride bytes apart; out may be in.
void multiply(const QueryMatrix<1024>&, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept;
void multiply(const QueryMatrix<1536>&, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept;
void multiply(const QueryMatrix<2048>&, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept;

// ---- Decryption (decrypt.h) -------------------------------------------------------------------------------------

constexpr int kDigitBits = 28;

template <int Limbs>
struct Modulus {
  alignas(32) std::uint64_t p[Limbs][4];  // odd; each limb four times, as factors are read
  std::uint64_t negated_inverse;          // -p^-1 mod 2^28
};

// Digits of radix B = 2^28 with at least 4 bits to spare; R = B^limbs; pairs are p-adic: value = [0] + [1] p.
template <int KeyLen>
struct DecryptionTables {
  static constexpr int limbs = (KeyLen + 4 + kDigitBits - 1) / kDigitBits;         // 37, 55, 74
  static constexpr int cipher_limbs = (4 * KeyLen + kDigitBits - 1) / kDigitBits;  // 147, 220, 293
  Modulus<limbs> modulus;                                                          // 2^(KeyLen - 1) < p < 2^KeyLen
  std::uint64_t c[limbs + 1];                   // p 2^k in (R, 4R], each limb below the top in [B - 1, 2B)
  std::uint32_t one[2][limbs];                  // R mod p²
  std::uint32_t kappa[limbs];                   // kappa R mod p
  std::uint32_t enter[2][cipher_limbs][limbs];  // B^j R B^2 mod p²
};

// See Decryptor: rows of 4 key_len / 8 bytes with any content, plain in words of 64 bits, valid 0 or 1; count is a
// multiple of 4.
void decrypt(const DecryptionTables<1024>&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;
void decrypt(const DecryptionTables<1536>&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;
void decrypt(const DecryptionTables<2048>&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;

// ---- Masks (keccak.h) -------------------------------------------------------------------------------------------

// See Keccak: four states.
void permute(std::uint64_t* states) noexcept;

}  // namespace xvec::avx2
