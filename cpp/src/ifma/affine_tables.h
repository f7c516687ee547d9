// The border between kernel_ifma.cpp and the preparation of records' masks; see ifma.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ifma.h"

namespace xvec::ifma {

// y = a x + b f modulo a number of KeyLen bits: the limbs of x, XPieces times as long, then those of f, which is as
// long as masks are: 2 KeyLen + 128 bits, and one more for a sum.
template <int KeyLen, int XPieces>
struct AffineTables {
  static constexpr int words = KeyLen / 64;  // of y
  static constexpr int x_words = XPieces * words;
  static constexpr int f_bits = 2 * KeyLen + 129;
  static constexpr int f_words = (f_bits + 511) / 512 * 8;  // of a row, see AffineMap::f_stride
  static constexpr int x_limbs = (64 * x_words + kMatrixBits - 1) / kMatrixBits;
  static constexpr int f_limbs = (f_bits + kMatrixBits - 1) / kMatrixBits;

  MatrixModulus<KeyLen> modulus;
  Matrix<KeyLen, x_limbs + f_limbs> matrix;
};

// See AffineMap; count is a multiple of 8.
void map(const AffineTables<1024, 1>&, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept;
void map(const AffineTables<1024, 2>&, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept;
void map(const AffineTables<1536, 1>&, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept;
void map(const AffineTables<1536, 2>&, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept;
void map(const AffineTables<2048, 1>&, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept;
void map(const AffineTables<2048, 2>&, std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
         std::size_t count) noexcept;

// See Keccak: eight states.
void permute(std::uint64_t* states) noexcept;

}  // namespace xvec::ifma
