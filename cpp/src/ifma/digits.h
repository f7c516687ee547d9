// Arithmetic of numbers modulo an odd n, eight at a time, in radix 2^52: products, and Montgomery's reduction (Math.
// Comp. 44, 1985) with its quotient, from which p-adic arithmetic is built.
//
// R = 2^(52 limbs). Products and reductions go by square tiles of limbs, column of tiles by column of tiles: two rows
// of accumulators fit the registers. A column collects at most 2 limbs halves < 2^52 of each product: < 2^60 for a
// product of 80 limbs, and a reduction adds as much again.
#pragma once

#include "digit_tables.h"
#include "lanes.h"

namespace xvec::ifma {
namespace {

template <int Limbs>
struct Digits {
  static constexpr int kBits = 52;
  static constexpr int kTile = 10;
  static constexpr int kTiles = Limbs / kTile;
  static_assert(Limbs % kTile == 0);
  using Modulus = DigitModulus<Limbs>;

  // columns[i + j] += a_i b_j for one tile, high halves one column further.
  template <class Right>
  XVEC_INLINE static void add_tile(Lanes* columns, const Lanes* a, Right b) {
    XVEC_UNROLL for (int i = 0; i < kTile; ++i) {
      XVEC_UNROLL for (int j = 0; j < kTile; ++j) columns[i + j] = madd_lo(columns[i + j], a[i], b(j));
      XVEC_UNROLL for (int j = 0; j < kTile; ++j) columns[i + j + 1] = madd_hi(columns[i + j + 1], a[i], b(j));
    }
  }

  // Moves the upper half of the accumulators down.
  XVEC_INLINE static void next_tile(Lanes* columns) {
    XVEC_UNROLL for (int k = 0; k < kTile; ++k) {
      columns[k] = columns[kTile + k];
      columns[kTile + k] = zero();
    }
  }

  template <class Right>
  XVEC_INLINE static void multiply_by(Lanes* t, const Lanes* a, Right b) {
    Lanes columns[2 * kTile];
    XVEC_UNROLL for (int k = 0; k < 2 * kTile; ++k) columns[k] = zero();
    XVEC_ROLLED for (int c = 0; c < 2 * kTiles - 1; ++c) {
      XVEC_ROLLED for (int i = c < kTiles ? 0 : c - kTiles + 1; i <= c && i < kTiles; ++i) {
        add_tile(columns, a + kTile * i, b(kTile * (c - i)));
      }
      XVEC_UNROLL for (int k = 0; k < kTile; ++k) t[kTile * c + k] = columns[k];
      next_tile(columns);
    }
    XVEC_UNROLL for (int k = 0; k < kTile; ++k) t[2 * Limbs - kTile + k] = columns[k];
  }

  // t = a b in 2 Limbs columns, not carried.
  XVEC_NOINLINE static void multiply(Lanes* t, const Lanes* a, const Lanes* b) noexcept {
    multiply_by(t, a, [&](int first) { return [=](int j) { return b[first + j]; }; });
  }
  XVEC_NOINLINE static void multiply_by_modulus(Lanes* t, const Lanes* a, const Modulus& modulus) noexcept {
    multiply_by(t, a, [&](int first) { return [=, &modulus](int j) { return broadcast(modulus.n[first + j]); }; });
  }

  // t = a²: the products a_i a_j with i < j once, doubled, and the squares.
  XVEC_NOINLINE static void square(Lanes* t, const Lanes* a) noexcept {
    Lanes columns[2 * kTile];
    XVEC_UNROLL for (int k = 0; k < 2 * kTile; ++k) columns[k] = zero();
    XVEC_ROLLED for (int c = 0; c < 2 * kTiles - 1; ++c) {
      XVEC_ROLLED for (int i = c < kTiles ? 0 : c - kTiles + 1; 2 * i < c; ++i) {
        const Lanes* right = a + kTile * (c - i);
        add_tile(columns, a + kTile * i, [&](int j) { return right[j]; });
      }
      if (c % 2 == 0) {
        const Lanes* tile = a + kTile * (c / 2);
        XVEC_UNROLL for (int i = 0; i < kTile; ++i) {
          XVEC_UNROLL for (int j = i + 1; j < kTile; ++j) columns[i + j] = madd_lo(columns[i + j], tile[i], tile[j]);
          XVEC_UNROLL for (int j = i + 1; j < kTile; ++j) {
            columns[i + j + 1] = madd_hi(columns[i + j + 1], tile[i], tile[j]);
          }
        }
      }
      XVEC_UNROLL for (int k = 0; k < kTile; ++k) t[kTile * c + k] = columns[k];
      next_tile(columns);
    }
    XVEC_UNROLL for (int k = 0; k < kTile; ++k) t[2 * Limbs - kTile + k] = columns[k];
    XVEC_ROLLED for (int k = 0; k < Limbs; ++k) {
      t[2 * k] = madd_lo(shift_left_1(t[2 * k]), a[k], a[k]);
      t[2 * k + 1] = madd_hi(shift_left_1(t[2 * k + 1]), a[k], a[k]);
    }
  }

  // r = (t + m n) / R for the quotient m = -t / n mod R. t: 2 Limbs columns of a number >= 0; r and m: canonical
  // limbs; r is not t.
  XVEC_NOINLINE static void reduce(Lanes* r, const Lanes* t, Lanes* m, const Modulus& modulus) noexcept {
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1), inverse = broadcast(modulus.negated_inverse);
    Lanes columns[2 * kTile], carry = zero();
    XVEC_UNROLL for (int k = 0; k < 2 * kTile; ++k) columns[k] = zero();
    XVEC_ROLLED for (int c = 0; c < 2 * kTiles; ++c) {
      XVEC_UNROLL for (int k = 0; k < kTile; ++k) columns[k] = add(columns[k], t[kTile * c + k]);
      XVEC_ROLLED for (int i = c < kTiles ? 0 : c - kTiles + 1; i < c && i < kTiles; ++i) {
        const std::uint64_t* right = modulus.n + kTile * (c - i);
        add_tile(columns, m + kTile * i, [=](int j) { return broadcast(right[j]); });
      }
      if (c < kTiles) {
        // Ten limbs of m, each from the lowest column that is left.
        XVEC_UNROLL for (int i = 0; i < kTile; ++i) {
          const Lanes limb = madd_lo(zero(), columns[i], inverse);
          m[kTile * c + i] = limb;
          XVEC_UNROLL for (int j = 0; j < kTile; ++j) {
            columns[i + j] = madd_lo(columns[i + j], limb, broadcast(modulus.n[j]));
          }
          columns[i + 1] = add(columns[i + 1], shift_right<kBits>(columns[i]));
          XVEC_UNROLL for (int j = 0; j < kTile; ++j) {
            columns[i + j + 1] = madd_hi(columns[i + j + 1], limb, broadcast(modulus.n[j]));
          }
        }
      } else {
        XVEC_UNROLL for (int k = 0; k < kTile; ++k) {
          const Lanes column = add(columns[k], carry);
          r[kTile * (c - kTiles) + k] = bit_and(column, mask);
          carry = shift_right<kBits>(column);
        }
      }
      next_tile(columns);
    }
  }

  // columns += C - m: the quotient of one digit's reduction, taken off the next digit, which stays positive.
  XVEC_INLINE static void subtract_quotient(Lanes* columns, const Lanes* m, const Modulus& modulus) {
    XVEC_ROLLED for (int k = 0; k < Limbs; ++k) columns[k] = add(columns[k], sub(broadcast(modulus.c[k]), m[k]));
  }

  // Columns to canonical limbs; what is left over stays in the last.
  template <int Count>
  XVEC_INLINE static void carry(Lanes* r, const Lanes* columns) {
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1);
    Lanes carry = zero();
    XVEC_ROLLED for (int k = 0; k < Count - 1; ++k) {
      const Lanes column = add(columns[k], carry);
      r[k] = bit_and(column, mask);
      carry = shift_right<kBits>(column);
    }
    r[Count - 1] = add(columns[Count - 1], carry);
  }

  // x - n where x >= n, for canonical limbs; the same instructions in either case. Returns the lanes of x >= n.
  XVEC_INLINE static __mmask8 subtract_modulus(Lanes* x, const Modulus& modulus) {
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1);
    Lanes difference[Limbs], borrow = zero();
    XVEC_ROLLED for (int k = 0; k < Limbs; ++k) {
      const Lanes column = add(sub(x[k], broadcast(modulus.n[k])), borrow);
      difference[k] = bit_and(column, mask);
      borrow = shift_right<kBits>(column);
    }
    const __mmask8 at_least = _mm512_cmpge_epi64_mask(borrow, zero());
    XVEC_ROLLED for (int k = 0; k < Limbs; ++k) x[k] = _mm512_mask_mov_epi64(x[k], at_least, difference[k]);
    return at_least;
  }
};

}  // namespace
}  // namespace xvec::ifma
