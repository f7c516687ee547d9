// The border between kernel_avx2.cpp, compiled for AVX2, and avx2_product.cpp, which prepares its tables for any
// processor. As with ifma/ifma.h, it holds nothing that could be emitted, and functions are overloaded over key_len.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xvec::avx2 {

constexpr int kStripWidth = 6;

template <int KeyLen>
struct ProductSize {
  // vpmuludq multiplies 32 bits; what is left keeps all products of a column within 64: (limbs + 2) 2^(2 bits) < 2^64.
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

}  // namespace xvec::avx2
