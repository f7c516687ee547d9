// Powers of a fixed base, modulo the square of an odd n, by windows: tables of products of its powers, eight
// windows at a time, and looking them up.
//
// An entry T is kept as a single digit U and a factor that is 1 modulo n,
//
//     T = U R^-1 (1 + n e)  (mod n²),     so     prod T_i = (prod U_i R^-1) (1 + n sum e_i):
//
// a product with the next entry is two digit products instead of three, and the e only add up.
//
// Bounds. n < 2^-16 R, and C = n 2^k in (R, 2R]. u' < u U / R + n, so digits stay below n (1 + 2^-14) without any
// subtraction. e < 32 n in a table.
#pragma once

#include "digit_tables.h"
#include "digits.h"
#include "lanes.h"

namespace xvec::ifma {
namespace {

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

// z = x y; z may be x or y. With U_x U_y = R r - m n and w = -m / R mod n, U_x U_y / R = r + w n = r (1 + n w /
// r), so e_z = e_x + e_y + w / r.
template <int Limbs>
XVEC_NOINLINE void multiply(FactoredLanes<Limbs>& z, const FactoredLanes<Limbs>& x, const FactoredLanes<Limbs>& y,
                            const DigitModulus<Limbs>& modulus) noexcept {
  using D = Digits<Limbs>;
  Lanes t[2 * Limbs], m[Limbs], w[Limbs], e[Limbs];
  XVEC_ROLLED for (int k = 0; k < Limbs; ++k) e[k] = add(x.e()[k], y.e()[k]);
  D::multiply(t, x.u(), y.u());
  D::reduce(z.u(), t, m, modulus);
  XVEC_ROLLED for (int k = 0; k < 2 * Limbs; ++k) t[k] = zero();
  D::subtract_quotient(t, m, modulus);
  D::reduce(w, t, m, modulus);
  D::multiply(t, x.inverse, y.inverse);
  D::reduce(z.inverse, t, m, modulus);
  D::multiply(t, w, z.inverse);
  D::reduce(w, t, m, modulus);
  XVEC_ROLLED for (int k = 0; k < Limbs; ++k) e[k] = add(e[k], w[k]);
  D::template carry<Limbs>(z.e(), e);
}

// Fills `table`, eight windows at a time: lane l makes windows l * per_lane and on, per_lane = windows / 8 rounded
// up, from base^(2^(step bits l per_lane)) in lane l of `start`. one: T = 1 in every lane. pack(to, x) makes the
// EntryWords words of an entry.
template <int EntryWords, int kLimbs, class Pack>
XVEC_INLINE void build(const DigitModulus<kLimbs>& modulus, const WindowTable& table,
                       const FactoredElements<kLimbs>& one, const FactoredElements<kLimbs>& start, Pack pack) {
  static_assert(EntryWords % 8 == 0);
  constexpr unsigned kMaxBits = 8;
  using D = Digits<kLimbs>;
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
      Lanes entry[EntryWords];
      pack(entry, *product);
      for (int block = 0; block < EntryWords; block += 8) {
        transpose(entry + block);
        for (int lane = 0; lane < kLanes; ++lane) {
          const std::size_t window = lane * per_lane + i;
          store(table.entries + (window * count + index) * EntryWords + block, entry[block + lane]);
        }
      }
    }
  }
}

// ---- Looking up -------------------------------------------------------------------------------------------------

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

template <int EntryWords>
XVEC_INLINE void prefetch_entry(const std::uint64_t* place) {
  for (int k = 0; k < EntryWords; k += 8) _mm_prefetch(reinterpret_cast<const char*>(place + k), _MM_HINT_T0);
}

// Finds the entries of one window that eight items need, and has them fetched.
template <int EntryWords>
XVEC_INLINE void find_entries(const std::uint64_t** places, const WindowTable& table, std::size_t window,
                              const std::uint64_t* const* items) {
  const unsigned width = table.bits * table.step;
  for (int lane = 0; lane < kLanes; ++lane) {
    unsigned index = extract_bits(items[lane], table.words, window * width, width);
    if (table.step == 2) index = low_bits_of_fields(index);
    places[lane] = table.entries + ((window << table.bits) + index) * EntryWords;
    prefetch_entry<EntryWords>(places[lane]);
  }
}

// The entries, transposed.
template <int EntryWords>
XVEC_INLINE void load_entries(Lanes* entry, const std::uint64_t* const* places) {
  for (int block = 0; block < EntryWords; block += 8) {
    Lanes square[8];  // of its own: what is transposed in place is stored twice
    XVEC_UNROLL for (int lane = 0; lane < kLanes; ++lane) square[lane] = load(places[lane] + block);
    transpose(square);
    XVEC_UNROLL for (int k = 0; k < 8; ++k) entry[block + k] = square[k];
  }
}

}  // namespace
}  // namespace xvec::ifma
