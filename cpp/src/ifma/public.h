// Public-key encryption, c = g^m g_n^r mod n², for eight items, by fixed-base windows in n-adic digits.
//
// X = u + v n stands for X / R mod n²; products are those of padic.h with n for p, which needs no more than that n is
// odd. Tables and the (U, e) form of their entries are those of windows.h: u' = u U and v' = v U, and the e only
// add up. (1 + m n) joins the same last factor, when g = 1 + n.
//
// Bounds. n < 2^-32 R, and C = n 2^k in (R, 2R]. u' < u U / R + n and v' < (v U + C) / R + n, so digits stay below
// n (1 + 2^-30) without any subtraction. e < 32 n in a table; the sum over 2^10 windows, and m, stays below 2^16 n <
// R 2^-16, and u e / R + n is below n (1 + 2^-15).
#pragma once

#include "digits.h"
#include "lanes.h"
#include "public_tables.h"
#include "windows.h"

namespace xvec::ifma {
namespace {

template <int KeyLen>
XVEC_INLINE void build_public(const PublicTables<KeyLen>& tables, const WindowTable& table,
                              const PublicElements<KeyLen>& one, const PublicElements<KeyLen>& start) {
  constexpr int kLimbs = PublicTables<KeyLen>::limbs;
  build<2 * kLimbs>(tables.modulus, table, one, start,
                    [](Lanes* to, const FactoredLanes<kLimbs>& x) { copy<2 * kLimbs>(to, x.entry); });
}

// ---- Encryption -------------------------------------------------------------------------------------------------

// Working memory of one block. It tells about r and m, so it is wiped.
template <int KeyLen>
struct PublicFrame {
  static constexpr int kLimbs = PublicTables<KeyLen>::limbs;
  static constexpr int kCipherWords = 4 * KeyLen / 64;
  const std::uint64_t* places[2][kLanes];  // where the entries of two windows are
  Lanes entry[2 * kLimbs];                 // U and e
  Lanes u[kLimbs], v[kLimbs], e[kLimbs];
  Lanes t[2 * kLimbs], quotient[kLimbs];
  Lanes words[kCipherWords];
};

// (u, v) = (u, v) (U, 0), and e += the entry's, in columns that are not carried.
template <int KeyLen>
XVEC_INLINE void multiply_entry(PublicFrame<KeyLen>& f, const PublicTables<KeyLen>& tables) {
  constexpr int kLimbs = PublicTables<KeyLen>::limbs;
  using D = Digits<kLimbs>;
  XVEC_ROLLED for (int k = 0; k < kLimbs; ++k) f.e[k] = add(f.e[k], f.entry[kLimbs + k]);
  D::multiply(f.t, f.u, f.entry);
  D::reduce(f.u, f.t, f.quotient, tables.modulus);
  D::multiply(f.t, f.v, f.entry);
  D::subtract_quotient(f.t, f.quotient, tables.modulus);
  D::reduce(f.v, f.t, f.quotient, tables.modulus);
}

// e += m R mod n.
template <int KeyLen>
XVEC_INLINE void add_message(PublicFrame<KeyLen>& f, const std::uint64_t* const* m,
                             const PublicTables<KeyLen>& tables) {
  constexpr int kLimbs = PublicTables<KeyLen>::limbs, kWords = 2 * KeyLen / 64;
  using D = Digits<kLimbs>;
  for (int k = 0; k < kWords; ++k) {
    alignas(64) std::uint64_t word[kLanes] = {};
    if (static_cast<std::size_t>(k) < tables.message.words) {
      for (int lane = 0; lane < kLanes; ++lane) word[lane] = m[lane][k];
    }
    f.words[k] = load(word);
  }
  words_to_limbs<D::kBits, kWords, kLimbs>(f.entry, f.words);
  for (int k = 0; k < kLimbs; ++k) f.entry[kLimbs + k] = broadcast(tables.r_squared[k]);
  D::multiply(f.t, f.entry, f.entry + kLimbs);
  D::reduce(f.entry, f.t, f.quotient, tables.modulus);
  XVEC_ROLLED for (int k = 0; k < kLimbs; ++k) f.e[k] = add(f.e[k], f.entry[k]);
}

// words = (u + v n) R^-1 (1 + n e / R) mod n², canonical.
template <int KeyLen>
XVEC_INLINE void finish(PublicFrame<KeyLen>& f, const PublicTables<KeyLen>& tables) {
  constexpr int kLimbs = PublicTables<KeyLen>::limbs;
  using D = Digits<kLimbs>;
  const auto& modulus = tables.modulus;
  // (u + v n)(1 + n e) = u + (v + u e) n
  D::template carry<kLimbs>(f.e, f.e);
  D::multiply(f.t, f.u, f.e);
  D::reduce(f.e, f.t, f.quotient, modulus);
  XVEC_ROLLED for (int k = 0; k < kLimbs; ++k) f.v[k] = add(f.v[k], f.e[k]);
  // Times R^-1: u = R r - m n, so r + n (v - m) / R, with r <= n and the second digit <= n + 2.
  for (int k = 0; k < kLimbs; ++k) {
    f.t[k] = f.u[k];
    f.t[kLimbs + k] = zero();
  }
  D::reduce(f.u, f.t, f.quotient, modulus);
  for (int k = 0; k < kLimbs; ++k) {
    f.t[k] = f.v[k];
    f.t[kLimbs + k] = zero();
  }
  D::subtract_quotient(f.t, f.quotient, modulus);
  D::reduce(f.v, f.t, f.quotient, modulus);
  // u = n counts as one more n.
  const __mmask8 whole = D::subtract_modulus(f.u, modulus);
  f.v[0] = _mm512_mask_add_epi64(f.v[0], whole, f.v[0], broadcast(1));
  D::template carry<kLimbs>(f.v, f.v);
  D::subtract_modulus(f.v, modulus);
  D::multiply_by_modulus(f.t, f.v, modulus);
  XVEC_ROLLED for (int k = 0; k < kLimbs; ++k) f.t[k] = add(f.t[k], f.u[k]);
  D::template carry<2 * kLimbs>(f.t, f.t);
  limbs_to_words<D::kBits, 2 * kLimbs, PublicFrame<KeyLen>::kCipherWords>(f.words, f.t);
}

template <int KeyLen>
XVEC_INLINE void encrypt_block_vartime(const PublicTables<KeyLen>& tables, const std::uint64_t* const* m,
                                       const std::uint64_t* const* r, std::uint8_t* out, std::size_t stride) {
  constexpr int kLimbs = PublicTables<KeyLen>::limbs;
  PublicFrame<KeyLen> f;
  const std::size_t noise_windows = tables.noise.windows, windows = noise_windows + tables.message.windows;
  const auto find = [&](std::size_t window) {
    const bool noise = window < noise_windows;
    find_entries<2 * kLimbs>(f.places[window % 2], noise ? tables.noise : tables.message,
                             noise ? window : window - noise_windows, noise ? r : m);
  };
  find(0);
  for (std::size_t window = 0; window < windows; ++window) {
    if (window + 1 < windows) find(window + 1);
    load_entries<2 * kLimbs>(f.entry, f.places[window % 2]);
    if (window == 0) {
      copy<kLimbs>(f.u, f.entry);
      copy<kLimbs>(f.e, f.entry + kLimbs);
      for (int k = 0; k < kLimbs; ++k) f.v[k] = zero();
    } else {
      multiply_entry(f, tables);
    }
  }
  if (tables.message.windows == 0) add_message(f, m, tables);
  finish(f, tables);
  store_rows<PublicFrame<KeyLen>::kCipherWords>(out, stride, f.words);
  wipe_frame(&f, sizeof f);
}

}  // namespace
}  // namespace xvec::ifma
