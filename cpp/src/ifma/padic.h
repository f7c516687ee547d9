// Arithmetic modulo p², eight numbers at a time, in p-adic digits of radix-2^52 limbs: the simple variant, for every
// size. (padic1024.h is the fast one for key_len = 1024; padic.cpp's header derives the method.)
//
// An element X = u + v p stands for X / R mod p², R = 2^(52 limbs). For a product, with t = u u',
//
//     m = -t / p mod R,  r = (t + m p) / R,  v'' = (u v' + v u' + C - m + m' p) / R,
//
// where C is the multiple p 2^k of p in (R, 2R], and m' makes the division exact: u'' = r, v'' and nothing more. The
// second reduction only has to be right modulo p, so C keeps it positive and costs nothing.
//
// Bounds. 2^(KeyLen-1) < p < 2^KeyLen and R = 2^s 2^KeyLen with s >= 16. Digits are < p (1 + 2^(2-s)): from such
// digits u'' < u u' / R + p < p (1 + 2^(1-s)), and v'' < (u v' + v u' + C) / R + p < p (1 + 2^(2-s)), so no result is
// ever reduced further. Limbs are canonical, in [0, 2^52). A column collects at most 2 limbs low and as many high
// halves < 2^52 from each of three products: |column| < 2^62 with limbs <= 40, in signed lanes; only masked or
// carried values become factors.
#pragma once

#include "decrypt_tables.h"
#include "digits.h"
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
  using Modulus = DigitModulus<kLimbs>;

  struct Element {
    Lanes u[kLimbs], v[kLimbs];
  };

  explicit Padic(const Modulus& modulus) : modulus_(modulus) {}

  XVEC_INLINE static void one(Element& x, const Tables& tables) {
    for (int k = 0; k < kLimbs; ++k) {
      x.u[k] = broadcast(tables.one[0][k]);
      x.v[k] = broadcast(tables.one[1][k]);
    }
  }

  // ---- A chain of squarings and multiplications of the current element x (see Padic1024) ----
  XVEC_INLINE void start(const Element& x) { x_ = x; }
  XVEC_NOINLINE void square() noexcept {
    Lanes t[2 * kLimbs], quotient[kLimbs], u[kLimbs];
    D::square(t, x_.u);
    D::reduce(u, t, quotient, modulus_);
    D::multiply(t, x_.u, x_.v);
    XVEC_ROLLED for (int k = 0; k < 2 * kLimbs; ++k) t[k] = shift_left_1(t[k]);
    D::subtract_quotient(t, quotient, modulus_);
    D::reduce(x_.v, t, quotient, modulus_);
    copy<kLimbs>(x_.u, u);
  }
  XVEC_NOINLINE void multiply(const Element& y) noexcept {
    Lanes t[2 * kLimbs], cross[2 * kLimbs], quotient[kLimbs], u[kLimbs];
    D::multiply(t, x_.u, y.u);
    D::reduce(u, t, quotient, modulus_);
    D::multiply(t, x_.u, y.v);
    D::multiply(cross, x_.v, y.u);
    XVEC_ROLLED for (int k = 0; k < 2 * kLimbs; ++k) t[k] = add(t[k], cross[k]);
    D::subtract_quotient(t, quotient, modulus_);
    D::reduce(x_.v, t, quotient, modulus_);
    copy<kLimbs>(x_.u, u);
  }
  XVEC_INLINE void then_square() {}
  XVEC_INLINE void then_square(const ScanPass<Element>& scan) { run_scan(scan); }
  XVEC_INLINE void then_multiply(const Element&) {}
  XVEC_INLINE void then_restart(Element& result, const Element& next) {
    result = x_;
    x_ = next;
  }
  XVEC_INLINE const Lanes* pending_digit() const { return x_.u; }
  XVEC_INLINE void get(Element& x) const { x = x_; }

  // ---- The same with digits, that is with elements of v = 0 ----

  XVEC_INLINE void start(const Lanes* digit, const Lanes*) {
    copy<kLimbs>(x_.u, digit);
    for (int k = 0; k < kLimbs; ++k) x_.v[k] = zero();
  }
  XVEC_NOINLINE void multiply(const Lanes* digit) noexcept {
    Lanes t[2 * kLimbs], quotient[kLimbs], u[kLimbs];
    D::multiply(t, x_.u, digit);
    D::reduce(u, t, quotient, modulus_);
    D::multiply(t, x_.v, digit);
    D::subtract_quotient(t, quotient, modulus_);
    D::reduce(x_.v, t, quotient, modulus_);
    copy<kLimbs>(x_.u, u);
  }
  XVEC_INLINE void then_multiply(const Lanes*) {}

  // x = u + (v + u (e + a b / R) / R) p; e: columns.
  XVEC_NOINLINE void then_multiply_by_factor(const Lanes* a, const Lanes* b, const Lanes* e) noexcept {
    Lanes t[2 * kLimbs], quotient[kLimbs], factor[kLimbs];
    D::multiply(t, a, b);
    D::reduce(factor, t, quotient, modulus_);
    for (int k = 0; k < kLimbs; ++k) factor[k] = add(factor[k], e[k]);
    D::template carry<kLimbs>(factor, factor);
    D::multiply(t, x_.u, factor);
    D::reduce(factor, t, quotient, modulus_);
    for (int k = 0; k < kLimbs; ++k) factor[k] = add(factor[k], x_.v[k]);
    D::template carry<kLimbs>(x_.v, factor);
  }

  // The limbs of a digit < 4p for the owner's matrix (OwnerSize).
  XVEC_INLINE static void to_rows(Lanes* rows, const Lanes* digit) {
    constexpr int kWords = KeyLen / 64 + 1, kRowBits = 51, kRowLimbs = (KeyLen + 2 + kRowBits - 1) / kRowBits;
    Lanes words[kWords];
    limbs_to_words<kBits, kLimbs, kWords>(words, digit);
    words_to_limbs<kRowBits, kWords, kRowLimbs>(rows, words);
  }

  // ---- In and out ----

  // x = the element of a ciphertext: words of any content. With c = sum of c_j 2^(52 j) and the table's
  // 2^(52 j) R 2^104 = A_j + B_j p, the sums of c_j A_j and c_j B_j, < cipher_limbs 2^52 p, lose the factor 2^104
  // by two Montgomery limbs, whose quotient is subtracted from v as in every product.
  XVEC_NOINLINE void enter(Element& x, const Lanes* words, const Tables& tables) const noexcept {
    Lanes c[kCipherLimbs], t[kLimbs + 3], quotient[2];
    words_to_limbs<kBits, kCipherWords, kCipherLimbs>(c, words);
    apply_rows(t, c, tables.enter[0]);
    reduce_twice(x.u, t, quotient);
    apply_rows(t, c, tables.enter[1]);
    // p - m > 0, as m < 2^104.
    for (int k = 0; k < kLimbs; ++k) t[k] = add(t[k], broadcast(modulus_.n[k]));
    t[0] = sub(t[0], quotient[0]);
    t[1] = sub(t[1], quotient[1]);
    reduce_twice(x.v, t, quotient);
  }

  // For elements that stand for 1 + L p: plain = L kappa mod p, canonical words. Returns the lanes where they do.
  XVEC_NOINLINE __mmask8 leave(Lanes* plain, const Element& x, const Tables& tables) const noexcept {
    Lanes t[2 * kLimbs], quotient[kLimbs], r[kLimbs];
    const auto extend = [&](const Lanes* digit) {
      for (int k = 0; k < kLimbs; ++k) {
        t[k] = digit[k];
        t[kLimbs + k] = zero();
      }
    };
    // u = R r - m p with 0 <= r <= p, so r = 1 (mod p) means r = 1.
    extend(x.u);
    D::reduce(r, t, quotient, modulus_);
    Lanes difference = _mm512_xor_si512(r[0], broadcast(1));
    for (int k = 1; k < kLimbs; ++k) difference = bit_or(difference, r[k]);
    const __mmask8 valid = _mm512_cmpeq_epi64_mask(difference, zero());
    // L = (v - m) / R.
    extend(x.v);
    D::subtract_quotient(t, quotient, modulus_);
    D::reduce(r, t, quotient, modulus_);
    Lanes kappa[kLimbs];
    for (int k = 0; k < kLimbs; ++k) kappa[k] = broadcast(tables.kappa[k]);
    D::multiply(t, r, kappa);
    D::reduce(r, t, quotient, modulus_);
    D::subtract_modulus(r, modulus_);
    limbs_to_words<kBits, kLimbs, kPlainWords>(plain, r);
    return valid;
  }

 private:
  using D = Digits<kLimbs>;
  static constexpr int kBits = D::kBits, kTile = D::kTile;

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
    const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1), inverse = broadcast(modulus_.negated_inverse);
    XVEC_ROLLED for (int i = 0; i < 2; ++i) {
      m[i] = madd_lo(zero(), t[i], inverse);
      XVEC_ROLLED for (int j = 0; j < kLimbs; ++j) {
        t[i + j] = madd_lo(t[i + j], m[i], broadcast(modulus_.n[j]));
        t[i + j + 1] = madd_hi(t[i + j + 1], m[i], broadcast(modulus_.n[j]));
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

  const Modulus& modulus_;
  Element x_;
};

}  // namespace
}  // namespace xvec::ifma
