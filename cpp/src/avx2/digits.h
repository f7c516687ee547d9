// Arithmetic of numbers modulo an odd p, four at a time, in radix 2^28: products, squares and Montgomery's reduction
// (Math. Comp. 44, 1985) with its quotient, for the p-adic arithmetic of decrypt.h.
//
// R = 2^(28 limbs). Columns of products are summed in strips that fit the registers; all of a strip's bounds are
// constant expressions. A column holds at most limbs products < 2^56 of each kind: three times 74 of them are < 2^64.
#pragma once

#include "avx2.h"
#include "lanes.h"

namespace xvec::avx2 {
namespace {

constexpr int min(int a, int b) { return a < b ? a : b; }
constexpr int max(int a, int b) { return a > b ? a : b; }

template <int Limbs>
struct Digits {
  static constexpr int kBits = kDigitBits;
  static constexpr int kWidth = 6;  // columns of a strip
  static constexpr int kRows = 4;   // rows that share a load of the other factor

  // sums_k += a_i b_{first + k - i} for rows from <= i < to, in which all of these exist.
  template <int Width>
  XVEC_INLINE static void add_rows(Lanes* sums, const Lanes* a, const Lanes* b, int first, int from, int to) {
    int i = from;
    XVEC_ROLLED for (; i + kRows <= to; i += kRows) {
      Lanes factors[kRows];
      XVEC_UNROLL for (int r = 0; r < kRows; ++r) factors[r] = a[i + r];
      const Lanes* others = b + first - i - (kRows - 1);
      XVEC_UNROLL for (int j = 0; j < Width + kRows - 1; ++j) {
        const Lanes other = others[j];
        XVEC_UNROLL for (int r = 0; r < kRows; ++r) {
          const int k = j + r - (kRows - 1);
          if (k >= 0 && k < Width) sums[k] = add(sums[k], product(factors[r], other));
        }
      }
    }
    XVEC_ROLLED for (; i < to; ++i) {
      XVEC_UNROLL for (int k = 0; k < Width; ++k) sums[k] = add(sums[k], product(a[i], b[first + k - i]));
    }
  }

  // The same for one row, of which some products do not exist: j must be in [lowest, Limbs).
  template <int Width, int First, int Row>
  XVEC_INLINE static void add_partial_row(Lanes* sums, const Lanes* a, const Lanes* b, int lowest) {
    const Lanes factor = a[Row];
    XVEC_UNROLL for (int k = 0; k < Width; ++k) {
      const int j = First + k - Row;
      if (j >= lowest && j < Limbs) sums[k] = add(sums[k], product(factor, b[j]));
    }
  }

  // Columns First .. First + Width - 1 of a b.
  template <int First, int Width>
  XVEC_NOINLINE static void multiply_strip(Lanes* t, const Lanes* a, const Lanes* b) noexcept {
    constexpr int kFrom = max(0, First + Width - Limbs), kTo = max(kFrom, min(First + 1, Limbs));
    Lanes sums[Width];
    XVEC_UNROLL for (int k = 0; k < Width; ++k) sums[k] = zero();
    for_each_index<max(0, First - Limbs + 1), min(kFrom, Limbs)>(
        [&](auto row) __attribute__((always_inline)) { add_partial_row<Width, First, row>(sums, a, b, 0); });
    if constexpr (kFrom < kTo) add_rows<Width>(sums, a, b, First, kFrom, kTo);
    for_each_index<kTo, min(First + Width, Limbs)>(
        [&](auto row) __attribute__((always_inline)) { add_partial_row<Width, First, row>(sums, a, b, 0); });
    XVEC_UNROLL for (int k = 0; k < Width; ++k) t[First + k] = sums[k];
  }

  // Columns First .. First + Width - 1 of a²: the products a_i a_j with i < j once, doubled, and the squares.
  template <int First, int Width>
  XVEC_NOINLINE static void square_strip(Lanes* t, const Lanes* a) noexcept {
    constexpr int kFrom = max(0, First + Width - Limbs), kTo = max(kFrom, min((First + 1) / 2, Limbs));
    Lanes sums[Width];
    XVEC_UNROLL for (int k = 0; k < Width; ++k) sums[k] = zero();
    for_each_index<max(0, First - Limbs + 1), min(kFrom, Limbs)>(
        [&](auto row) __attribute__((always_inline)) { add_partial_row<Width, First, row>(sums, a, a, row + 1); });
    if constexpr (kFrom < kTo) add_rows<Width>(sums, a, a, First, kFrom, kTo);
    for_each_index<kTo, min((First + Width) / 2, Limbs)>(
        [&](auto row) __attribute__((always_inline)) { add_partial_row<Width, First, row>(sums, a, a, row + 1); });
    XVEC_UNROLL for (int k = 0; k < Width; ++k) {
      sums[k] = add(sums[k], sums[k]);
      if ((First + k) % 2 == 0) sums[k] = add(sums[k], product(a[(First + k) / 2], a[(First + k) / 2]));
      t[First + k] = sums[k];
    }
  }

  // t = a b and t = a², in 2 Limbs columns that are not carried; the last is 0.
  XVEC_INLINE static void multiply_digits(Lanes* t, const Lanes* a, const Lanes* b) {
    for_each_index<0, (2 * Limbs - 2) / kWidth + 1>([&](auto strip) __attribute__((always_inline)) {
      multiply_strip<strip * kWidth, min(kWidth, 2 * Limbs - 1 - strip * kWidth)>(t, a, b);
    });
    t[2 * Limbs - 1] = zero();
  }
  XVEC_INLINE static void square_digit(Lanes* t, const Lanes* a) {
    for_each_index<0, (2 * Limbs - 2) / kWidth + 1>([&](auto strip) __attribute__((always_inline)) {
      square_strip<strip * kWidth, min(kWidth, 2 * Limbs - 1 - strip * kWidth)>(t, a);
    });
    t[2 * Limbs - 1] = zero();
  }

  // Limbs First .. of the quotient m = -t / p mod R; carry goes from column to column.
  template <int First, int Width>
  XVEC_NOINLINE static void quotient_strip(Lanes* m, const Lanes* t, const Modulus<Limbs>& modulus,
                                           Lanes& carry) noexcept {
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1), inverse = broadcast(modulus.negated_inverse);
    const Lanes* p = reinterpret_cast<const Lanes*>(modulus.p);
    Lanes sums[Width];
    XVEC_UNROLL for (int k = 0; k < Width; ++k) sums[k] = t[First + k];
    sums[0] = add(sums[0], carry);
    add_rows<Width>(sums, m, p, First, 0, First);
    XVEC_UNROLL for (int i = 0; i < Width; ++i) {
      const Lanes limb = bit_and(product(bit_and(sums[i], mask), inverse), mask);
      m[First + i] = limb;
      XVEC_UNROLL for (int k = i; k < Width; ++k) sums[k] = add(sums[k], product(limb, p[k - i]));
      carry = _mm256_srli_epi64(sums[i], kBits);
      if (i + 1 < Width) sums[i + 1] = add(sums[i + 1], carry);
    }
  }

  // Limbs First .. of r = (t + m p) / R.
  template <int First, int Width>
  XVEC_NOINLINE static void result_strip(Lanes* r, const Lanes* m, const Lanes* t, const Modulus<Limbs>& modulus,
                                         Lanes& carry) noexcept {
    constexpr int kFrom = min(Limbs, First + Width);
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1);
    const Lanes* p = reinterpret_cast<const Lanes*>(modulus.p);
    Lanes sums[Width];
    XVEC_UNROLL for (int k = 0; k < Width; ++k) sums[k] = t[Limbs + First + k];
    for_each_index<First + 1, kFrom>(
        [&](auto row) __attribute__((always_inline)) { add_partial_row<Width, Limbs + First, row>(sums, m, p, 0); });
    add_rows<Width>(sums, m, p, Limbs + First, kFrom, Limbs);
    XVEC_UNROLL for (int k = 0; k < Width; ++k) {
      const Lanes column = add(sums[k], carry);
      r[First + k] = bit_and(column, mask);
      carry = _mm256_srli_epi64(column, kBits);
    }
  }

  // r = (t + m p) / R for the quotient m = -t / p mod R. t: 2 Limbs columns >= 0; r and m: canonical
  // limbs. r is not t.
  XVEC_INLINE static void reduce(Lanes* r, const Lanes* t, Lanes* m, const Modulus<Limbs>& modulus) {
    Lanes carry = zero();
    for_each_index<0, (Limbs - 1) / kWidth + 1>([&](auto strip) __attribute__((always_inline)) {
      quotient_strip<strip * kWidth, min(kWidth, Limbs - strip * kWidth)>(m, t, modulus, carry);
    });
    for_each_index<0, (Limbs - 1) / kWidth + 1>([&](auto strip) __attribute__((always_inline)) {
      result_strip<strip * kWidth, min(kWidth, Limbs - strip * kWidth)>(r, m, t, modulus, carry);
    });
  }
};

}  // namespace
}  // namespace xvec::avx2
