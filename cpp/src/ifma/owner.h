// The owner's encryption, c = (1 + m f n) g_n^r mod n², by CRT, for eight items or for one.
//
// Modulo p², g_n^r is a product of table entries T_i = U_i R'^-1 (1 + p e_i) (windows.h; R' is the tables' radix).
// A chain of W - 1 p-adic products of their digits, each divided by R, leaves (u, v) with
//
//     prod T_i = (u + v p) (1 + p sum e_i) K,   K = R^(W-1) R'^-W mod p²,
//
// and 1 + m f n = 1 + p (m scale_p) joins that factor: with E = sum e_i + m scale_p, c / K = u + (v + u E) p
// modulo p². The same for q, and then a fixed matrix takes the limbs of the four digits to c modulo n²
// (product.h): CRT, the factors K and the reduction are all in its rows.
//
// One item alone keeps the lanes busy by giving each of them every eighth window; three more products fold the lanes.
#pragma once

#include "decrypt_tables.h"
#include "lanes.h"
#include "owner_tables.h"
#include "padic.h"
#include "padic1024.h"
#include "product.h"
#include "windows.h"

namespace xvec::ifma {
namespace {

template <int KeyLen>
using OwnerPadic = std::conditional_t<OwnerSize<KeyLen>::woven, Padic1024, Padic<KeyLen>>;

// An entry of the tables, from an element of the arithmetic that builds them.
template <int KeyLen>
struct PackOwnerEntry {
  static constexpr int kLimbs = PadicSize<KeyLen>::limbs;
  XVEC_INLINE void operator()(Lanes* to, const FactoredLanes<kLimbs>& x) const {
    using Size = OwnerSize<KeyLen>;
    for (int k = 2 * Size::digit_limbs; k < Size::entry_words; ++k) to[k] = zero();
    if constexpr (Size::digit_bits == 52) {
      copy<2 * kLimbs>(to, x.entry);
    } else {
      constexpr int kWords = (52 * kLimbs + 63) / 64;
      Lanes words[kWords];
      for (int digit = 0; digit < 2; ++digit) {
        limbs_to_words<52, kLimbs, kWords>(words, x.entry + digit * kLimbs);
        words_to_limbs<Size::digit_bits, kWords, Size::digit_limbs>(to + digit * Size::digit_limbs, words);
      }
    }
  }
};

template <int KeyLen>
XVEC_INLINE void build_owner(const DigitModulus<PadicSize<KeyLen>::limbs>& modulus, const WindowTable& table,
                             const FactoredElements<PadicSize<KeyLen>::limbs>& one,
                             const FactoredElements<PadicSize<KeyLen>::limbs>& start) {
  build<OwnerSize<KeyLen>::entry_words>(modulus, table, one, start, PackOwnerEntry<KeyLen>());
}

// Working memory of one call. It tells about r and m, so it is wiped.
template <int KeyLen>
struct OwnerFrame {
  using Size = OwnerSize<KeyLen>;
  static constexpr int kCipherWords = 4 * KeyLen / 64, kPlainWords = KeyLen / 64;

  explicit OwnerFrame(const OwnerTables<KeyLen>& tables)
      : padic{OwnerPadic<KeyLen>(tables.p.modulus), OwnerPadic<KeyLen>(tables.q.modulus)} {}

  OwnerPadic<KeyLen> padic[2];  // of p and q
  const std::uint64_t* places[2][kLanes];
  Lanes entries[2][Size::entry_words];
  Lanes e[Size::digit_limbs], message[Size::digit_limbs], scale[Size::digit_limbs];
  typename OwnerPadic<KeyLen>::Element x, turned;
  Lanes digits[Size::rows];
  Lanes columns[MatrixSize<4 * KeyLen>::limbs + 2];
  Lanes words[kCipherWords];
};

// The next window's entry: U stays in frame.entries[window % 2], e is added up.
template <int KeyLen>
XVEC_INLINE const Lanes* take_entries(OwnerFrame<KeyLen>& frame, std::size_t window) {
  using Size = OwnerSize<KeyLen>;
  Lanes* entry = frame.entries[window % 2];
  load_entries<Size::entry_words>(entry, frame.places[window % 2]);
  for (int k = 0; k < Size::digit_limbs; ++k) {
    frame.e[k] = window == 0 ? entry[Size::digit_limbs + k] : add(frame.e[k], entry[Size::digit_limbs + k]);
  }
  return entry;
}

// The product of `count` >= 2 rounds of entries; find(i) makes the places of round i, a round before they are read, for
// the entries come from the second or the third level's cache. Its last second reduction is still to be done.
template <int KeyLen, class Find>
XVEC_INLINE void multiply_entries(OwnerFrame<KeyLen>& frame, OwnerPadic<KeyLen>& padic, std::size_t count,
                                  Find find) {
  find(0);
  find(1);
  const Lanes* first = take_entries(frame, 0);
  if (2 < count) find(2);
  const Lanes* entry = take_entries(frame, 1);
  padic.start(first, entry);
  for (std::size_t i = 2; i <= count; ++i) {
    padic.multiply(entry);
    if (i == count) return;
    entry = take_entries(frame, i);
    if (i + 1 < count) find(i + 1);
    padic.then_multiply(entry);
  }
}

// Lane l's vector to lane l - Lanes (cyclically).
template <int Count>
XVEC_INLINE Lanes turn(Lanes a) {
  return _mm512_alignr_epi64(a, a, Count);
}

// Every lane becomes the product of all, for a chain as multiply_entries leaves it, and e their sum.
template <int KeyLen>
XVEC_INLINE void fold_lanes(OwnerFrame<KeyLen>& frame, OwnerPadic<KeyLen>& padic) {
  constexpr int kLimbs = OwnerSize<KeyLen>::digit_limbs;
  const auto fold = [&](auto count) __attribute__((always_inline)) {
    const Lanes* const u = padic.pending_digit();
    for (int k = 0; k < kLimbs; ++k) frame.turned.u[k] = turn<count>(u[k]);
    padic.then_multiply(frame.turned);
    padic.get(frame.x);
    for (int k = 0; k < kLimbs; ++k) {
      frame.turned.v[k] = turn<count>(frame.x.v[k]);
      frame.e[k] = add(frame.e[k], turn<count>(frame.e[k]));
    }
    padic.multiply(frame.turned);
  };
  fold(Index<4>{});
  fold(Index<2>{});
  fold(Index<1>{});
}

// frame.x = the p-adic pair of c / K. m: pointers to the plaintexts modulo p.
template <int KeyLen>
XVEC_INLINE void finish_side(OwnerFrame<KeyLen>& frame, OwnerPadic<KeyLen>& padic, const OwnerSide<KeyLen>& side,
                             const std::uint64_t* const* m) {
  using Size = OwnerSize<KeyLen>;
  constexpr int kWords = OwnerFrame<KeyLen>::kPlainWords;
  load_entries<kWords>(frame.words, m);
  words_to_limbs<Size::digit_bits, kWords, Size::digit_limbs>(frame.message, frame.words);
  for (int k = 0; k < Size::digit_limbs; ++k) frame.scale[k] = broadcast(side.scale[k]);
  padic.then_multiply_by_factor(frame.message, frame.scale, frame.e);
  padic.get(frame.x);
}

// Eight items; lane l has item[l].
template <int KeyLen>
XVEC_INLINE void encrypt_side(OwnerFrame<KeyLen>& frame, OwnerPadic<KeyLen>& padic, const OwnerSide<KeyLen>& side,
                              const std::uint64_t* const* m, const std::uint64_t* const* r) {
  multiply_entries(frame, padic, side.noise.windows, [&](std::size_t i) __attribute__((always_inline)) {
    find_entries<OwnerSize<KeyLen>::entry_words>(frame.places[i % 2], side.noise, i, r);
  });
  finish_side(frame, padic, side, m);
}

// One item; lane l has the windows i = l (mod 8).
template <int KeyLen>
XVEC_INLINE void encrypt_side_alone(OwnerFrame<KeyLen>& frame, OwnerPadic<KeyLen>& padic,
                                    const OwnerSide<KeyLen>& side, const std::uint64_t* const* m,
                                    const std::uint64_t* r) {
  constexpr int kEntryWords = OwnerSize<KeyLen>::entry_words;
  const WindowTable& table = side.noise;
  multiply_entries(frame, padic, (table.windows + kLanes - 1) / kLanes,
                   [&](std::size_t i) __attribute__((always_inline)) {
                     for (int lane = 0; lane < kLanes; ++lane) {
                       const std::size_t window = kLanes * i + lane;
                       const unsigned index =
                           window < table.windows ? extract_bits(r, table.words, window * table.bits, table.bits) : 0;
                       frame.places[i % 2][lane] = table.entries + ((window << table.bits) + index) * kEntryWords;
                       prefetch_entry<kEntryWords>(frame.places[i % 2][lane]);
                     }
                   });
  fold_lanes(frame, padic);
  finish_side(frame, padic, side, m);
}

// frame.words = the ciphertexts.
template <int KeyLen>
XVEC_INLINE void combine_sides(OwnerFrame<KeyLen>& frame, const OwnerTables<KeyLen>& tables) {
  apply_matrix(frame.columns, frame.digits, tables.combine, tables.n_squared, kNothing);
  limbs_to_words<kMatrixBits, MatrixSize<4 * KeyLen>::limbs, OwnerFrame<KeyLen>::kCipherWords>(frame.words,
                                                                                               frame.columns + 2);
}

// A block's cost, in encryptions of one item alone: fewer items than that are encrypted one by one.
constexpr std::size_t kAlone = 3;

template <int KeyLen>
XVEC_INLINE void encrypt_items_vartime(const OwnerTables<KeyLen>& tables, const OwnerItems& items, std::uint8_t* out,
                                       std::size_t stride) {
  using Padic = OwnerPadic<KeyLen>;
  constexpr int kRowLimbs = OwnerSize<KeyLen>::row_limbs, kBytes = 8 * OwnerFrame<KeyLen>::kCipherWords;
  OwnerFrame<KeyLen> frame(tables);
  const OwnerSide<KeyLen>* const sides[2] = {&tables.p, &tables.q};
  const std::uint64_t *const all_m[2] = {items.m_p, items.m_q}, *const all_r[2] = {items.r_p, items.r_q};
  const bool can_be_alone = tables.p.noise.windows > kLanes && tables.q.noise.windows > kLanes;
  for (std::size_t first = 0; first < items.count;) {
    const std::size_t left = items.count - first;
    const bool alone = left <= kAlone && can_be_alone;
    const std::size_t block = alone ? 1 : left < kLanes ? left : kLanes;
    for (int half = 0; half < 2; ++half) {
      const OwnerSide<KeyLen>& side = *sides[half];
      Padic& padic = frame.padic[half];
      const std::uint64_t *m[kLanes], *r[kLanes];
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const std::size_t item = first + (lane < block ? lane : block - 1);
        m[lane] = all_m[half] + item * (KeyLen / 64);
        r[lane] = all_r[half] + item * side.noise.words;
      }
      if (alone) {
        encrypt_side_alone(frame, padic, side, m, r[0]);
      } else {
        encrypt_side(frame, padic, side, m, r);
      }
      Padic::to_rows(frame.digits + 2 * half * kRowLimbs, frame.x.u);
      Padic::to_rows(frame.digits + (2 * half + 1) * kRowLimbs, frame.x.v);
    }
    combine_sides(frame, tables);
    std::uint8_t* const to = out + first * stride;
    if (block == kLanes) {
      store_rows<OwnerFrame<KeyLen>::kCipherWords>(to, stride, frame.words);
    } else {
      alignas(64) std::uint8_t rows[kLanes * kBytes];
      store_rows<OwnerFrame<KeyLen>::kCipherWords>(rows, kBytes, frame.words);
      for (std::size_t i = 0; i < block; ++i) __builtin_memcpy(to + i * stride, rows + i * kBytes, kBytes);
    }
    first += block;
  }
  wipe_frame(&frame, sizeof frame);
}

}  // namespace
}  // namespace xvec::ifma
