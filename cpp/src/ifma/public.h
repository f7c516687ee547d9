// Public-key encryption, c = g^m g_n^r mod n², for eight items, by fixed-base windows in n-adic digits.
//
// X = u + v n stands for X / R mod n²; products are those of padic.h with n for p, which needs no more than that n is
// odd. Table entries are kept as a single digit U and a factor that is 1 modulo n,
//
//     T = U R^-1 (1 + n e)  (mod n²),     so     prod T_i = (prod U_i R^-1) (1 + n sum e_i):
//
// a product with the next entry is then two digit products instead of three, u' = u U and v' = v U, and the e only
// add up. (1 + m n) joins the same last factor, when g = 1 + n.
//
// Bounds. n < 2^-32 R, and C = n 2^k in (R, 2R]. u' < u U / R + n and v' < (v U + C) / R + n, so digits stay below
// n (1 + 2^-30) without any subtraction. e < 32 n in a table; the sum over 2^10 windows, and m, stays below 2^16 n <
// R 2^-16, and u e / R + n is below n (1 + 2^-15).
#pragma once

#include "digits.h"
#include "lanes.h"
#include "public_tables.h"

namespace xvec::ifma {
namespace {

// columns += C - m: the quotient of one digit's reduction, taken off the next digit, which stays positive.
template <int Limbs>
XVEC_INLINE void subtract_quotient(Lanes* columns, const Lanes* m, const DigitModulus<Limbs>& modulus) {
  XVEC_ROLLED for (int k = 0; k < Limbs; ++k) columns[k] = add(columns[k], sub(broadcast(modulus.c[k]), m[k]));
}

// ---- Building tables --------------------------------------------------------------------------------------------

template <int Limbs>
struct FactoredLanes {
  Lanes entry[2 * Limbs];  // U and e
  Lanes inverse[Limbs];

  XVEC_INLINE Lanes* u() { return entry; }
  XVEC_INLINE const Lanes* u() const { return entry; }
  XVEC_INLINE Lanes* e() { return entry + Limbs; }
  XVEC_INLINE const Lanes* e() const { return entry + Limbs; }
  XVEC_INLINE void load_from(const FactoredElements<Limbs>& x) {
    for (int k = 0; k < Limbs; ++k) {
      u()[k] = load(x.u[k]);
      e()[k] = load(x.e[k]);
      inverse[k] = load(x.inverse[k]);
    }
  }
};

// z = x y; z may be x or y. With U_x U_y = R r - m n and w = -m / R mod n, U_x U_y / R = r + w n = r (1 + n w / r),
// so e_z = e_x + e_y + w / r.
template <int Limbs>
XVEC_NOINLINE void multiply(FactoredLanes<Limbs>& z, const FactoredLanes<Limbs>& x, const FactoredLanes<Limbs>& y,
                            const DigitModulus<Limbs>& modulus) noexcept {
  using D = Digits<Limbs>;
  Lanes t[2 * Limbs], m[Limbs], w[Limbs], e[Limbs];
  XVEC_ROLLED for (int k = 0; k < Limbs; ++k) e[k] = add(x.e()[k], y.e()[k]);
  D::multiply(t, x.u(), y.u());
  D::reduce(z.u(), t, m, modulus);
  XVEC_ROLLED for (int k = 0; k < 2 * Limbs; ++k) t[k] = zero();
  subtract_quotient(t, m, modulus);
  D::reduce(w, t, m, modulus);
  D::multiply(t, x.inverse, y.inverse);
  D::reduce(z.inverse, t, m, modulus);
  D::multiply(t, w, z.inverse);
  D::reduce(w, t, m, modulus);
  XVEC_ROLLED for (int k = 0; k < Limbs; ++k) e[k] = add(e[k], w[k]);
  D::template carry<Limbs>(z.e(), e);
}

template <int KeyLen>
XVEC_INLINE void build(const PublicTables<KeyLen>& tables, const WindowTable& table,
                       const PublicElements<KeyLen>& one, const PublicElements<KeyLen>& start) {
  constexpr int kLimbs = PublicTables<KeyLen>::limbs;
  constexpr unsigned kMaxBits = 8;
  using D = Digits<kLimbs>;
  const auto& modulus = tables.modulus;
  const std::size_t per_lane = (table.windows + kLanes - 1) / kLanes, count = std::size_t{1} << table.bits;
  FactoredLanes<kLimbs> base, neutral, powers[kMaxBits];
  // Entries are made in the order of their index. products[j] is the one for the index without its bits below j, so
  // the next one, whose lowest bit is j, is products[j + 1] times power j.
  FactoredLanes<kLimbs> products[kMaxBits];
  const FactoredLanes<kLimbs>* product_above[kMaxBits + 1];
  neutral.load_from(one);
  base.load_from(start);
  for (std::size_t i = 0; i < per_lane; ++i) {
    for (unsigned j = 0; j < table.bits; ++j) {
      powers[j] = base;
      for (unsigned s = 0; s < table.step; ++s) {
        multiply(base, base, base, modulus);
        // e < 3.1 n, and would double with every squaring.
        for (int k = 0; k < 3; ++k) D::subtract_modulus(base.e(), modulus);
      }
    }
    for (auto& product : product_above) product = &neutral;
    for (std::size_t index = 0; index < count; ++index) {
      const FactoredLanes<kLimbs>* product = &neutral;
      if (index > 0) {
        const unsigned j = static_cast<unsigned>(__builtin_ctzll(index));
        multiply(products[j], *product_above[j + 1], powers[j], modulus);
        product = &products[j];
      }
      for (unsigned j = 0; index >> j << j == index && j <= table.bits; ++j) product_above[j] = product;
      for (int block = 0; block < 2 * kLimbs; block += 8) {
        Lanes square[8];
        copy<8>(square, product->entry + block);
        transpose(square);
        for (int lane = 0; lane < kLanes; ++lane) {
          const std::size_t window = lane * per_lane + i;
          store(table.entries + (window * count + index) * 2 * kLimbs + block, square[lane]);
        }
      }
    }
  }
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

// Bits [at, at + count) of a number of `words` words; count <= 16. Bits beyond it are 0.
XVEC_INLINE unsigned extract_bits(const std::uint64_t* x, std::size_t words, std::size_t at, unsigned count) {
  const std::size_t word = at / 64, shift = at % 64;
  std::uint64_t bits = x[word] >> shift;
  if (shift + count > 64 && word + 1 < words) bits |= x[word + 1] << (64 - shift);
  return static_cast<unsigned>(bits) & ((1u << count) - 1);
}

// The low bits of eight 2-bit fields.
XVEC_INLINE unsigned low_bits_of_fields(unsigned fields) {
  unsigned bits = fields & 0x5555;
  bits = (bits | bits >> 1) & 0x3333;
  bits = (bits | bits >> 2) & 0x0f0f;
  return (bits | bits >> 4) & 0x00ff;
}

// Finds the entries of one window that eight items need, and has them fetched.
template <int Limbs>
XVEC_INLINE void find_entries(const std::uint64_t** places, const WindowTable& table, std::size_t window,
                              const std::uint64_t* const* items) {
  const unsigned width = table.bits * table.step;
  for (int lane = 0; lane < kLanes; ++lane) {
    unsigned index = extract_bits(items[lane], table.words, window * width, width);
    if (table.step == 2) index = low_bits_of_fields(index);
    places[lane] = table.entries + ((window << table.bits) + index) * 2 * Limbs;
    for (int k = 0; k < 2 * Limbs; k += 8) _mm_prefetch(reinterpret_cast<const char*>(places[lane] + k), _MM_HINT_T0);
  }
}

// The entries, transposed.
template <int Limbs>
XVEC_INLINE void load_entries(Lanes* entry, const std::uint64_t* const* places) {
  static_assert(2 * Limbs % 8 == 0);
  for (int block = 0; block < 2 * Limbs; block += 8) {
    XVEC_UNROLL for (int lane = 0; lane < kLanes; ++lane) entry[block + lane] = load(places[lane] + block);
    transpose(entry + block);
  }
}

// (u, v) = (u, v) (U, 0), and e += the entry's, in columns that are not carried.
template <int KeyLen>
XVEC_INLINE void multiply_entry(PublicFrame<KeyLen>& f, const PublicTables<KeyLen>& tables) {
  constexpr int kLimbs = PublicTables<KeyLen>::limbs;
  using D = Digits<kLimbs>;
  XVEC_ROLLED for (int k = 0; k < kLimbs; ++k) f.e[k] = add(f.e[k], f.entry[kLimbs + k]);
  D::multiply(f.t, f.u, f.entry);
  D::reduce(f.u, f.t, f.quotient, tables.modulus);
  D::multiply(f.t, f.v, f.entry);
  subtract_quotient(f.t, f.quotient, tables.modulus);
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
  subtract_quotient(f.t, f.quotient, modulus);
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
    find_entries<kLimbs>(f.places[window % 2], noise ? tables.noise : tables.message,
                         noise ? window : window - noise_windows, noise ? r : m);
  };
  find(0);
  for (std::size_t window = 0; window < windows; ++window) {
    if (window + 1 < windows) find(window + 1);
    load_entries<kLimbs>(f.entry, f.places[window % 2]);
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
