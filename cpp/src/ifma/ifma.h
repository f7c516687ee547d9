// The border between kernel_ifma.cpp, compiled for AVX-512 IFMA, and the code that prepares its tables, compiled for
// any processor: plain tables, and functions overloaded over the key's size. Both sides include this header, so it
// holds nothing that could be emitted (see lanes.h).
//
// Sizes are named by key_len = 1024, 1536 or 2048, the bits of one prime: n has 2 key_len bits, N = n² has 4 key_len.
// Every function works on blocks of eight items; count is a multiple of 8.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xvec::ifma {

// ---- A fixed linear map modulo N (product.h) --------------------------------------------------------------------

// Radix 2^51 and not 2^52: the sum of two limbs must still fit the 52 bits that a multiplication reads.
constexpr int kMatrixBits = 51;
// The most columns of the matrix that are accumulated together, in two registers each.
constexpr int kStripWidth = 9;

// N of that many bits.
template <int Bits>
struct MatrixSize {
  static constexpr int words = Bits / 64;                               // 64-bit words of N
  static constexpr int limbs = (Bits + kMatrixBits - 1) / kMatrixBits;  // 81, 121, 161; 21, 31, 41
  static constexpr int strips = (limbs + kStripWidth - 1) / kStripWidth;
  // The first wide_strips strips have `width` columns, the others one less.
  static constexpr int width = (limbs + strips - 1) / strips;
  static constexpr int wide_strips = limbs - strips * (width - 1);
};

// The modulus N, odd.
template <int Bits>
struct MatrixModulus {
  std::uint64_t limbs[MatrixSize<Bits>::limbs];
  std::uint64_t negated_inverse;  // -N^-1 mod 2^51
};

// Row j is T_j = w_j * 2^102 mod N (or up to N (1 + 2^-50)), where the map is x -> sum of x_j * w_j mod N.
// Filled by fill_matrix() of ifma_matrix.h.
template <int Bits, int Rows>
struct Matrix {
  using Size = MatrixSize<Bits>;
  // [strip][i][0][k] is row 2i + 1 and [strip][i][1][k] row 2i: the partners of x_2i and x_2i+1.
  std::uint64_t pairs[Size::strips][Rows / 2][2][kStripWidth];
  // The last row when Rows is odd (else 0); N; N * 2^51.
  std::uint64_t singles[Size::strips][3][kStripWidth];
  // Minus the pairs' own products, by column: -(sum of lo(t_2i t_2i+1)) - 2 (sum of hi(...) one column before).
  std::uint64_t correction[Size::limbs + 1];
};

// ---- The server's product ---------------------------------------------------------------------------------------

// The query's matrix: w_j = query * 2^(51 j) mod N.
template <int KeyLen>
using QueryMatrix = Matrix<4 * KeyLen, MatrixSize<4 * KeyLen>::limbs>;

// out_i = query * in_i mod N, canonical, for count rows of 4 key_len / 8 bytes with any content. Rows are stride
// bytes apart; out may be in, but must not overlap it otherwise.
void multiply(const MatrixModulus<4096>&, const QueryMatrix<1024>&, const std::uint8_t* in, std::uint8_t* out,
              std::size_t stride, std::size_t count) noexcept;
void multiply(const MatrixModulus<6144>&, const QueryMatrix<1536>&, const std::uint8_t* in, std::uint8_t* out,
              std::size_t stride, std::size_t count) noexcept;
void multiply(const MatrixModulus<8192>&, const QueryMatrix<2048>&, const std::uint8_t* in, std::uint8_t* out,
              std::size_t stride, std::size_t count) noexcept;

}  // namespace xvec::ifma
