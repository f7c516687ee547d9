// The border between kernel_ifma.cpp, compiled for AVX-512 IFMA, and the code that prepares its tables, compiled for
// any processor: plain tables, and functions overloaded over the key's size. Both sides include this header, so it
// holds nothing that could be emitted (see lanes.h).
//
// Sizes are named by key_len = 1024, 1536 or 2048, the bits of one prime: n has 2 key_len bits, N = n² has 4 key_len.
// Every function works on blocks of eight items; count is a multiple of 8.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../exponent_schedule.h"

namespace xvec::ifma {

// ---- A fixed linear map modulo N (product.h) --------------------------------------------------------------------

// Radix 2^51 and not 2^52: the sum of two limbs must still fit the 52 bits that a multiplication reads.
constexpr int kMatrixBits = 51;
// Columns of the matrix that are accumulated together, in two registers each.
constexpr int kStripWidth = 9;

template <int KeyLen>
struct MatrixSize {
  static constexpr int words = 4 * KeyLen / 64;                             // 64-bit words of N
  static constexpr int limbs = (4 * KeyLen + kMatrixBits - 1) / kMatrixBits;  // 81, 121, 161
  static constexpr int strips = (limbs + kStripWidth - 1) / kStripWidth;
  // The first wide_strips strips have kStripWidth columns, the others one less.
  static constexpr int wide_strips = limbs - strips * (kStripWidth - 1);
};

// The modulus N, odd.
template <int KeyLen>
struct MatrixModulus {
  std::uint64_t limbs[MatrixSize<KeyLen>::limbs];
  std::uint64_t negated_inverse;  // -N^-1 mod 2^51
};

// Row j is T_j = w_j * 2^102 mod N (or up to N (1 + 2^-50)), where the map is x -> sum of x_j * w_j mod N.
// Filled by fill_matrix() of ifma_matrix.h.
template <int KeyLen, int Rows>
struct Matrix {
  using Size = MatrixSize<KeyLen>;
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
using QueryMatrix = Matrix<KeyLen, MatrixSize<KeyLen>::limbs>;

// out_i = query * in_i mod N, canonical, for count rows of 4 key_len / 8 bytes with any content. Rows are stride bytes
// apart; out may be in, but must not overlap it otherwise.
void multiply(const MatrixModulus<1024>&, const QueryMatrix<1024>&, const std::uint8_t* in, std::uint8_t* out,
              std::size_t stride, std::size_t count) noexcept;
void multiply(const MatrixModulus<1536>&, const QueryMatrix<1536>&, const std::uint8_t* in, std::uint8_t* out,
              std::size_t stride, std::size_t count) noexcept;
void multiply(const MatrixModulus<2048>&, const QueryMatrix<2048>&, const std::uint8_t* in, std::uint8_t* out,
              std::size_t stride, std::size_t count) noexcept;

// ---- Decryption -------------------------------------------------------------------------------------------------

// Radix 2^52 with at least 16 bits to spare; limbs are a multiple of 10 (padic.h).
template <int KeyLen>
struct PadicSize {
  static constexpr int limbs = (KeyLen + 16 + 51) / 52;           // 20, 30, 40
  static constexpr int cipher_limbs = (4 * KeyLen + 51) / 52;     // 79, 119, 158
};

// Digits of radix 2^52; R = 2^(52 limbs); pairs are p-adic: value = [0] + [1] p.
template <int KeyLen>
struct PadicTables {
  using Size = PadicSize<KeyLen>;
  std::uint64_t p[Size::limbs];          // 2^(KeyLen - 1) < p < 2^KeyLen, odd
  std::uint64_t negated_inverse;         // -p^-1 mod 2^52
  std::uint64_t c[Size::limbs];          // the p 2^k in (R, 4R]; its top limb may exceed 52 bits
  std::uint64_t one[2][Size::limbs];     // R mod p²
  std::uint64_t enter[2][Size::cipher_limbs][Size::limbs];  // 2^(52 j) R 2^104 mod p²
  std::uint64_t kappa[Size::limbs];      // kappa R mod p
};

// The same for key_len = 1024 in radix 2^50, 21 limbs, R = 2^1050 (padic1024.h, which also says what the constants
// are for).
struct WovenTables {
  static constexpr int bits = 50, limbs = 21, strips = 3, strip_width = 7;
  static constexpr int cipher_pairs = 41;  // limbs of a ciphertext, in pairs
  static constexpr int fixed_pairs = 10;
  std::uint64_t mask;                   // 2^50 - 1
  std::uint64_t p[limbs];               // 2^1023 < p < 2^1024, odd
  std::uint64_t negated_inverse[limbs];  // -p^-1 mod R
  std::uint64_t product_bias[2];        // of column 0, of the others
  std::uint64_t quotient_start[limbs];
  std::uint64_t high_start[2][limbs + 2];  // for squares, for products
  std::uint64_t c[limbs];
  std::uint64_t fixed[strips][fixed_pairs][2][strip_width];
  std::uint64_t fixed_start[limbs + 1];
  std::uint64_t enter[2][strips][cipher_pairs][2][strip_width];
  std::uint64_t enter_start[2][limbs + 1];
  std::uint64_t one[2][limbs];          // R mod p², as a p-adic pair
  std::uint64_t kappa[limbs];           // kappa R mod p
};

// See Decryptor: rows of 4 key_len / 8 bytes with any content, plain in words of 64 bits, valid 0 or 1.
void decrypt(const WovenTables&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;
void decrypt(const PadicTables<1536>&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;
void decrypt(const PadicTables<2048>&, const ExponentSchedule&, const std::uint8_t* in, std::size_t stride,
             std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept;

}  // namespace xvec::ifma
