// Arithmetic modulo p², eight numbers at a time, in p-adic digits of radix-2^52 limbs: the simple variant, for every
// size. (padic1024.h is the fast one for key_len = 1024; padic.cpp's header derives the method.)
//
// An element X = u + v p stands for X / R mod p², R = 2^(52 limbs). For a product, with t = u u',
//
//     m = -t / p mod R,  r = (t + m p) / R,  v'' = (u v' + v u' + C - m + m' p) / R,
//
// where C is the multiple p 2^k of p in (R, 4R], and m' makes the division exact: u'' = r, v'' and nothing more. The
// second reduction only has to be right modulo p, so C keeps it positive and costs nothing.
//
// Bounds. 2^(KeyLen-1) < p < 2^KeyLen and R = 2^s 2^KeyLen with s >= 16. Digits are < p (1 + 2^(2-s)): from such
// digits u'' < u u' / R + p < p (1 + 2^(1-s)), and v'' < (u v' + v u' + C) / R + p < p (1 + 2^(2-s)), so no result is
// ever reduced further. Limbs are canonical, in [0, 2^52). A column collects at most 2 limbs low and as many high
// halves < 2^52 from each of three products: |column| < 2^62 with limbs <= 40, in signed lanes; only masked or
// carried values become factors.
#pragma once

#include "ifma.h"
#include "lanes.h"
#include "scan.h"

namespace xvec::ifma {
namespace {

template <int KeyLen>
class Padic {
 public:
  static constexpr int kLimbs = PadicSize<KeyLen>::limbs;
  static constexpr int kCipherWords = 4 * KeyLen / 64;
  static constexpr int kCipherLimbs = PadicSize<KeyLen>::cipher_limbs;
  static constexpr int kPlainWords = KeyLen / 64;
  using Tables = PadicTables<KeyLen>;

  struct Element {
    Lanes u[kLimbs], v[kLimbs];
  };

  explicit Padic(const Tables& tables) : tables_(tables) {}

  XVEC_INLINE void one(Element& x) const {
    for (int k = 0; k < kLimbs; ++k) {
      x.u[k] = broadcast(tables_.one[0][k]);
      x.v[k] = broadcast(tables_.one[1][k]);
    }
  }

  // ---- A chain of squarings and multiplications of the current element x (see Padic1024) ----
  XVEC_INLINE void start(const Element& x) { x_ = x; }
  XVEC_NOINLINE void square() noexcept {
    Lanes t[2 * kLimbs], quotient[kLimbs], u[kLimbs];
    square_digit(t, x_.u);
    reduce(u, t, quotient);
    multiply_digits(t, x_.u, x_.v);
    XVEC_ROLLED for (int k = 0; k < 2 * kLimbs; ++k) t[k] = shift_left_1(t[k]);
    subtract_quotient(t, quotient);
    reduce(x_.v, t, quotient);
    copy<kLimbs>(x_.u, u);
  }
  XVEC_NOINLINE void multiply(const Element& y) noexcept {
    Lanes t[2 * kLimbs], cross[2 * kLimbs], quotient[kLimbs], u[kLimbs];
    multiply_digits(t, x_.u, y.u);
    reduce(u, t, quotient);
    multiply_digits(t, x_.u, y.v);
    multiply_digits(cross, x_.v, y.u);
    XVEC_ROLLED for (int k = 0; k < 2 * kLimbs; ++k) t[k] = add(t[k], cross[k]);
    subtract_quotient(t, quotient);
    reduce(x_.v, t, quotient);
    copy<kLimbs>(x_.u, u);
  }
  XVEC_INLINE void then_square() {}
  XVEC_INLINE void then_square(const ScanPass<Element>& scan) { run_scan(scan); }
  XVEC_INLINE void then_multiply(const Element&) {}
  XVEC_INLINE void then_restart(Element& result, const Element& next) {
    result = x_;
    x_ = next;
  }
  XVEC_INLINE void get(Element& x) const { x = x_; }

  // ---- In and out ----

  // x = the element of a ciphertext: words of any content. With c = sum of c_j 2^(52 j) and the table's
  // 2^(52 j) R 2^104 = A_j + B_j p, the sums of c_j A_j and c_j B_j, < cipher_limbs 2^52 p, lose the factor 2^104 by two
  // Montgomery limbs, whose quotient is subtracted from v as in every product.
  XVEC_NOINLINE void enter(Element& x, const Lanes* words) const noexcept {
    Lanes c[kCipherLimbs], t[kLimbs + 3], quotient[2];
    words_to_limbs<kBits, kCipherWords, kCipherLimbs>(c, words);
    apply_rows(t, c, tables_.enter[0]);
    reduce_twice(x.u, t, quotient);
    apply_rows(t, c, tables_.enter[1]);
    // p - m > 0, as m < 2^104.
    for (int k = 0; k < kLimbs; ++k) t[k] = add(t[k], broadcast(tables_.p[k]));
    t[0] = sub(t[0], quotient[0]);
    t[1] = sub(t[1], quotient[1]);
    reduce_twice(x.v, t, quotient);
  }

  // For elements that stand for 1 + L p: plain = L kappa mod p, canonical words. Returns the lanes where they do.
  XVEC_NOINLINE __mmask8 leave(Lanes* plain, const Element& x) const noexcept {
    Lanes t[2 * kLimbs], quotient[kLimbs], r[kLimbs];
    const auto extend = [&](const Lanes* digit) {
      for (int k = 0; k < kLimbs; ++k) {
        t[k] = digit[k];
        t[kLimbs + k] = zero();
      }
    };
    // u = R r - m p with 0 <= r <= p, so r = 1 (mod p) means r = 1.
    extend(x.u);
    reduce(r, t, quotient);
    Lanes difference = _mm512_xor_si512(r[0], broadcast(1));
    for (int k = 1; k < kLimbs; ++k) difference = bit_or(difference, r[k]);
    const __mmask8 valid = _mm512_cmpeq_epi64_mask(difference, zero());
    // L = (v - m) / R.
    extend(x.v);
    subtract_quotient(t, quotient);
    reduce(r, t, quotient);
    Lanes kappa[kLimbs];
    for (int k = 0; k < kLimbs; ++k) kappa[k] = broadcast(tables_.kappa[k]);
    multiply_digits(t, r, kappa);
    reduce(r, t, quotient);
    subtract_p(r);
    limbs_to_words<kBits, kLimbs, kPlainWords>(plain, r);
    return valid;
  }

 private:
  static constexpr int kBits = 52;
  // Products and reductions go by square tiles of limbs: two rows of accumulators fit the registers.
  static constexpr int kTile = 10;
  static constexpr int kTiles = kLimbs / kTile;
  static_assert(kLimbs % kTile == 0);

  // columns[i + j] += a_i b_j for one tile, high halves one column further.
  template <class Right>
  XVEC_INLINE static void add_tile(Lanes* columns, const Lanes* a, Right b) {
    XVEC_UNROLL for (int i = 0; i < kTile; ++i) {
      XVEC_UNROLL for (int j = 0; j < kTile; ++j) columns[i + j] = madd_lo(columns[i + j], a[i], b(j));
      XVEC_UNROLL for (int j = 0; j < kTile; ++j) columns[i + j + 1] = madd_hi(columns[i + j + 1], a[i], b(j));
    }
  }

  // Moves the lower half of the accumulators out and the upper half down.
  XVEC_INLINE static void next_tile(Lanes* columns) {
    XVEC_UNROLL for (int k = 0; k < kTile; ++k) {
      columns[k] = columns[kTile + k];
      columns[kTile + k] = zero();
    }
  }

  // t = a b, by columns of tiles; t's columns are not carried.
  XVEC_NOINLINE static void multiply_digits(Lanes* t, const Lanes* a, const Lanes* b) noexcept {
    Lanes columns[2 * kTile];
    XVEC_UNROLL for (int k = 0; k < 2 * kTile; ++k) columns[k] = zero();
    XVEC_ROLLED for (int c = 0; c < 2 * kTiles - 1; ++c) {
      XVEC_ROLLED for (int i = c < kTiles ? 0 : c - kTiles + 1; i <= c && i < kTiles; ++i) {
        const Lanes* right = b + kTile * (c - i);
        add_tile(columns, a + kTile * i, [&](int j) { return right[j]; });
      }
      XVEC_UNROLL for (int k = 0; k < kTile; ++k) t[kTile * c + k] = columns[k];
      next_tile(columns);
    }
    XVEC_UNROLL for (int k = 0; k < kTile; ++k) t[2 * kLimbs - kTile + k] = columns[k];
  }

  // t = a²: the products a_i a_j with i < j once, doubled, and the squares.
  XVEC_NOINLINE static void square_digit(Lanes* t, const Lanes* a) noexcept {
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
    XVEC_UNROLL for (int k = 0; k < kTile; ++k) t[2 * kLimbs - kTile + k] = columns[k];
    XVEC_ROLLED for (int k = 0; k < kLimbs; ++k) {
      t[2 * k] = madd_lo(shift_left_1(t[2 * k]), a[k], a[k]);
      t[2 * k + 1] = madd_hi(shift_left_1(t[2 * k + 1]), a[k], a[k]);
    }
  }

  // r = (t + m p) / R for the quotient m = -t / p mod R. t: columns of a number >= 0; r and m: canonical limbs. r may
  // not be t.
  XVEC_NOINLINE void reduce(Lanes* r, const Lanes* t, Lanes* m) const noexcept {
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1), inverse = broadcast(tables_.negated_inverse);
    Lanes columns[2 * kTile], carry = zero();
    XVEC_UNROLL for (int k = 0; k < 2 * kTile; ++k) columns[k] = zero();
    XVEC_ROLLED for (int c = 0; c < 2 * kTiles; ++c) {
      XVEC_UNROLL for (int k = 0; k < kTile; ++k) columns[k] = add(columns[k], t[kTile * c + k]);
      XVEC_ROLLED for (int i = c < kTiles ? 0 : c - kTiles + 1; i < c && i < kTiles; ++i) {
        const std::uint64_t* right = tables_.p + kTile * (c - i);
        add_tile(columns, m + kTile * i, [&](int j) { return broadcast(right[j]); });
      }
      if (c < kTiles) {
        // Ten limbs of m, each from the lowest column that is left.
        XVEC_UNROLL for (int i = 0; i < kTile; ++i) {
          const Lanes limb = madd_lo(zero(), columns[i], inverse);
          m[kTile * c + i] = limb;
          XVEC_UNROLL for (int j = 0; j < kTile; ++j) {
            columns[i + j] = madd_lo(columns[i + j], limb, broadcast(tables_.p[j]));
          }
          columns[i + 1] = add(columns[i + 1], shift_right<kBits>(columns[i]));
          XVEC_UNROLL for (int j = 0; j < kTile; ++j) {
            columns[i + j + 1] = madd_hi(columns[i + j + 1], limb, broadcast(tables_.p[j]));
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

  // t += C - m.
  XVEC_INLINE void subtract_quotient(Lanes* t, const Lanes* m) const {
    XVEC_ROLLED for (int k = 0; k < kLimbs; ++k) t[k] = add(t[k], sub(broadcast(tables_.c[k]), m[k]));
  }

  // Columns of the sum of c_j rows_j.
  XVEC_INLINE void apply_rows(Lanes* t, const Lanes* c, const std::uint64_t (*rows)[kLimbs]) const {
    for (int k = 0; k < kLimbs + 3; ++k) t[k] = zero();
    XVEC_ROLLED for (int first = 0; first < kLimbs; first += kTile) {
      Lanes columns[kTile + 1];
      XVEC_UNROLL for (int k = 0; k <= kTile; ++k) columns[k] = zero();
      XVEC_ROLLED for (int j = 0; j < kCipherLimbs; ++j) {
        XVEC_UNROLL for (int k = 0; k < kTile; ++k) {
          columns[k] = madd_lo(columns[k], c[j], broadcast(rows[j][first + k]));
        }
        XVEC_UNROLL for (int k = 0; k < kTile; ++k) {
          columns[k + 1] = madd_hi(columns[k + 1], c[j], broadcast(rows[j][first + k]));
        }
      }
      XVEC_UNROLL for (int k = 0; k <= kTile; ++k) t[first + k] = add(t[first + k], columns[k]);
    }
  }

  // r = (t + m p) / 2^104, m < 2^104 the quotient; t has limbs + 3 columns.
  XVEC_INLINE void reduce_twice(Lanes* r, Lanes* t, Lanes* m) const {
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1), inverse = broadcast(tables_.negated_inverse);
    XVEC_ROLLED for (int i = 0; i < 2; ++i) {
      m[i] = madd_lo(zero(), t[i], inverse);
      XVEC_ROLLED for (int j = 0; j < kLimbs; ++j) {
        t[i + j] = madd_lo(t[i + j], m[i], broadcast(tables_.p[j]));
        t[i + j + 1] = madd_hi(t[i + j + 1], m[i], broadcast(tables_.p[j]));
      }
      t[i + 1] = add(t[i + 1], shift_right<kBits>(t[i]));
    }
    Lanes carry = zero();
    XVEC_ROLLED for (int k = 0; k < kLimbs; ++k) {
      const Lanes column = add(t[k + 2], carry);
      r[k] = bit_and(column, mask);
      carry = shift_right<kBits>(column);
    }
  }

  // r - p where r >= p, for canonical limbs of r < 2p; the same instructions in either case.
  XVEC_INLINE void subtract_p(Lanes* r) const {
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1);
    Lanes difference[kLimbs], borrow = zero();
    for (int k = 0; k < kLimbs; ++k) {
      const Lanes column = add(sub(r[k], broadcast(tables_.p[k])), borrow);
      difference[k] = bit_and(column, mask);
      borrow = shift_right<kBits>(column);
    }
    const __mmask8 smaller = _mm512_cmplt_epi64_mask(borrow, zero());
    for (int k = 0; k < kLimbs; ++k) r[k] = _mm512_mask_mov_epi64(difference[k], smaller, r[k]);
  }

  const Tables& tables_;
  Element x_;
};

}  // namespace
}  // namespace xvec::ifma
