// Fills the tables of ifma/product.h.
#pragma once

#include <cstdint>

#include "ifma/ifma.h"
#include "integer.h"
#include "mpn.h"
#include "query_rows.h"

namespace xvec::ifma {

// modulus: odd, of at most Bits bits.
template <int Bits>
void fill_modulus(MatrixModulus<Bits>& table, const std::uint64_t* modulus, std::size_t limbs) {
  mpn::to_digits(table.limbs, MatrixSize<Bits>::limbs, kMatrixBits, modulus, limbs, 0);
  table.negated_inverse = negative_inverse(table.limbs[0]) & ((std::uint64_t{1} << kMatrixBits) - 1);
}
template <int Bits>
void fill_modulus(MatrixModulus<Bits>& table, const Integer& modulus) {
  std::uint64_t limbs[MatrixSize<Bits>::words];
  modulus.to_limbs(limbs, MatrixSize<Bits>::words);
  fill_modulus(table, limbs, MatrixSize<Bits>::words);
}

// rows[j]: w_j * 2^102 modulo N in limbs of radix 2^51, each limb < 2^51 and the value below N (1 + 2^-50).
template <int Bits, int Rows>
void fill_matrix(Matrix<Bits, Rows>& matrix, const MatrixModulus<Bits>& modulus,
                 const std::uint64_t (*rows)[MatrixSize<Bits>::limbs]) {
  using Size = MatrixSize<Bits>;
  constexpr std::uint64_t kLow52 = (std::uint64_t{1} << 52) - 1;
  constexpr int kPairs = Rows / 2;
  int first = 0;
  for (int strip = 0; strip < Size::strips; ++strip) {
    const int width = strip < Size::wide_strips ? Size::width : Size::width - 1;
    for (int k = 0; k < kStripWidth; ++k) {
      const int column = first + k;
      const bool used = k < width;
      for (int i = 0; i < kPairs; ++i) {
        matrix.pairs[strip][i][0][k] = used ? rows[2 * i + 1][column] : 0;
        matrix.pairs[strip][i][1][k] = used ? rows[2 * i][column] : 0;
      }
      matrix.singles[strip][0][k] = used && Rows % 2 == 1 ? rows[Rows - 1][column] : 0;
      matrix.singles[strip][1][k] = used ? modulus.limbs[column] : 0;
      matrix.singles[strip][2][k] = used && column > 0 ? modulus.limbs[column - 1] : 0;
    }
    first += width;
  }
  std::uint64_t low[Size::limbs] = {}, high[Size::limbs] = {};
  for (int i = 0; i < kPairs; ++i) {
    for (int k = 0; k < Size::limbs; ++k) {
      const Uint128 product = static_cast<Uint128>(rows[2 * i][k]) * rows[2 * i + 1][k];
      low[k] += static_cast<std::uint64_t>(product) & kLow52;
      high[k] += static_cast<std::uint64_t>(product >> 52);
    }
  }
  for (int k = 0; k <= Size::limbs; ++k) {
    matrix.correction[k] = 0 - (k < Size::limbs ? low[k] : 0) - 2 * (k > 0 ? high[k - 1] : 0);
  }
}

}  // namespace xvec::ifma
