// Records' scale and mask in one fixed linear map (product.h), for eight items.
#pragma once

#include "affine_tables.h"
#include "lanes.h"
#include "product.h"

namespace xvec::ifma {
namespace {

// Working memory of one call, which is wiped.
template <int KeyLen, int XPieces>
struct AffineFrame {
  using Tables = AffineTables<KeyLen, XPieces>;
  static constexpr int kWords = Tables::f_words > Tables::x_words ? Tables::f_words : Tables::x_words;
  Lanes words[kWords];
  Lanes limbs[Tables::x_limbs + Tables::f_limbs];
  Lanes columns[MatrixSize<KeyLen>::limbs + 2];
};

template <int KeyLen, int XPieces>
XVEC_INLINE void map_rows(const AffineTables<KeyLen, XPieces>& tables, std::uint64_t* y, const std::uint64_t* x,
                          const std::uint64_t* f, std::size_t count) {
  using Tables = AffineTables<KeyLen, XPieces>;
  AffineFrame<KeyLen, XPieces> frame;
  for (std::size_t i = 0; i < count; i += kLanes) {
    load_rows<Tables::x_words>(frame.words, x + i * Tables::x_words, 8 * Tables::x_words);
    words_to_limbs<kMatrixBits, Tables::x_words, Tables::x_limbs>(frame.limbs, frame.words);
    load_rows<Tables::f_words>(frame.words, f + i * Tables::f_words, 8 * Tables::f_words);
    words_to_limbs<kMatrixBits, Tables::f_words, Tables::f_limbs>(frame.limbs + Tables::x_limbs, frame.words);
    apply_matrix(frame.columns, frame.limbs, tables.matrix, tables.modulus, kNothing);
    limbs_to_words<kMatrixBits, MatrixSize<KeyLen>::limbs, Tables::words>(frame.words, frame.columns + 2);
    store_rows<Tables::words>(y + i * Tables::words, 8 * Tables::words, frame.words);
  }
  wipe_frame(&frame, sizeof frame);
}

}  // namespace
}  // namespace xvec::ifma
