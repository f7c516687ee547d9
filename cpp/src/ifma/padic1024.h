// Arithmetic modulo p² in p-adic digits for key_len = 1024, eight numbers at a time: radix 2^50, 21 limbs, R =
// 2^1050. The method is padic.h's; this file spends it on fewer multiplications and weaves them (weave.h).
//
// Why 2^50: the sum of two limbs must fit the 52 bits that a multiplication reads, for Karatsuba's and Winograd's
// tricks, and a spare bit lets limbs be normalised partially: limb_k = (t_k mod 2^50) + floor(t_{k-1} / 2^50), in one
// parallel step and without a chain of carries. "limbs" below means such limbs, 0 <= limb < 2^50 + 2^11.
//
//   product      Karatsuba, 11 + 10 limbs                                              684 multiply-adds
//   square       by columns                                                            462
//   reduction 1  t -> m = -t/p mod R, r = (t + m p)/R + p: two triangles, paired        524
//   reduction 2  t -> t/R mod p up to a few p: a fixed matrix, paired                    483
//
// "Paired" is Winograd's inner product: a b' + a' b = (a + b)(a' + b') - a a' - b b' for variable a, a' and
// constant b, b': half the multiplications; the sums of a a' are shared by all columns of a triangle as prefix (or
// suffix) sums, those of b b' are constants.
//
// Columns. low_k and high_k collect the low and high 52 bits of the products of column k; as 2^52 = 4 * 2^50, the
// column is low_k + 4 high_{k-1}. After Winograd's (or Karatsuba's) subtractions a column may be negative although
// the number is not, so constants add 2^58 (or more) to each column and take 2^8 from the next, which changes nothing
// but makes every column non-negative before it is cut into a limb and a carry.
//
// The bounds, in units of 2^52, the largest low product; a high half of a product of two limbs is < 2^48 + 2^11 (1/16
// unit), of sums of two limbs < 2^50 + 2^13 (1/4), and 4 high_{k-1} counts four times that:
//   square     0 <= column < 21 + 21/4 < 27
//   product    -26 - 1 < (middle - outer halves) column < 22 + 14; from the sum of two products, or doubled: twice that
//   m          start 64 - 12.5 (pairs of t) - 12.5 (pairs of p') ... < 64 + 22
//   r          start 64 - 25 + column of t, which is itself biased by 64 for products
//   reduction 2: start 128 - 12.5 - 12.5 + column of t (> -54) > 0, < 128 + 72 + 20 + ... < 256 units = 2^60
//   entering   start 256 - 103 > 0, < 256 + 2 * 41 + ... < 512 units = 2^61
// so carries are < 2^11 and limbs < 2^50 + 2^11, as promised.
//
// Values, for 2^1023 < p < 2^1024, hence 2^26 < R/p < 2^27: u < 2.01 p after a product (1 from m p / R, 1 added), v <
// 24 p (20 rows, m0, p), and < 85 p both after entering (82 rows): u u'/R < 2^-13 p and all the rest below p. A top
// limb holds 24 bits of p, so it stays < 2^31.
#pragma once

#include "decrypt_tables.h"
#include "lanes.h"
#include "scan.h"
#include "weave.h"
#include "woven_products.h"
#include "woven_reductions.h"

namespace xvec::ifma {
namespace {

// ---- Programs ----

// Registers of the streams: the second reduction uses two less than the first and leaves one for a scan.
constexpr int kProduct = 0, kReduction = kProductRegisters, kScan = kVirtualRegisters - 1;

// A squaring or multiplication is two programs: the first reduction beside the products that v needs, then the second
// reduction beside the product with which the next operation begins.
constexpr Factors kUV[] = {{kU, kV}};
constexpr Factors kVFactorU[] = {{kV, kFactorU}};
constexpr Factors kCross[] = {{kU, kFactorV}, {kV, kFactorU}};
constexpr Program kSquareFirst =
    weave(first_reduction_stream(kReduction, true), second_product_stream(kProduct, kUV, true));
constexpr Program kMultiplyFirst =
    weave(first_reduction_stream(kReduction, false), second_product_stream(kProduct, kCross, false));
constexpr Program kMultiplyDigitFirst =
    weave(first_reduction_stream(kReduction, false), second_product_stream(kProduct, kVFactorU, false));
constexpr Program kThenSquare = weave(second_reduction_stream(kReduction), square_stream(kProduct, kSquared));
constexpr Program kThenSquareScanning =
    weave(second_reduction_stream(kReduction), square_stream(kProduct, kSquared), scan_stream(kScan));
constexpr Program kThenMultiply =
    weave(second_reduction_stream(kReduction), first_product_stream(kProduct, kNewU, kFactorU));

class Padic1024 {
 public:
  static constexpr int kCipherWords = 64, kPlainWords = 16;
  using Tables = WovenTables;
  using Modulus = WovenModulus;

  struct Element {
    Lanes u[kDigit], v[kDigit];
  };

  explicit Padic1024(const Modulus& modulus) : modulus_(modulus) {
    for (int k = 0; k < kDigit; ++k) {
      work_[kLayout.p.first + k] = broadcast(modulus.p[k]);
      work_[kLayout.negated_inverse.first + k] = broadcast(modulus.negated_inverse[k]);
    }
  }

  XVEC_INLINE static void one(Element& x, const Tables& tables) {
    for (int k = 0; k < kDigit; ++k) {
      x.u[k] = broadcast(tables.one[0][k]);
      x.v[k] = broadcast(tables.one[1][k]);
    }
  }

  // ---- A chain of squarings and multiplications of the current element x. Each is one of square() and
  // multiply(), and then one of then_...(), which says how the chain goes on. ----

  XVEC_INLINE void start(const Element& x) {
    copy<kDigit>(u_[now_], x.u);
    copy<kDigit>(v_, x.v);
    Memory memory = this->memory();
    memory.squared = memory.u;
    memory.new_v = scratch_;
    run<kThenSquare>(memory);
  }
  // x = x².
  XVEC_INLINE void square() { run<kSquareFirst>(memory()); }
  // x = x y, announced by then_multiply(y).
  XVEC_INLINE void multiply(const Element& y) {
    Memory memory = this->memory();
    memory.factor = y.u;
    run<kMultiplyFirst>(memory);
  }
  XVEC_INLINE void then_square() {
    run<kThenSquare>(memory());
    now_ ^= 1;
  }
  XVEC_INLINE void then_square(const ScanPass<Element>& scan) {
    Memory memory = this->memory();
    memory.scan_from = scan.from->u;
    memory.scan_entries = scan.entries->u;
    memory.scan_to = scan.to->u;
    for (int i = 0; i < kScanEntries; ++i) memory.scan_masks[i] = scan.masks[i];
    run<kThenSquareScanning>(memory);
    now_ ^= 1;
  }
  // Only y's first digit need be there yet.
  XVEC_INLINE void then_multiply(const Element& y) { then_multiply(y.u); }
  // The first digit of x before then_...(), when the second is not known yet.
  XVEC_INLINE const Lanes* pending_digit() const { return u_[now_ ^ 1]; }
  // Puts x into result, and goes on with x = next, another element, to be squared.
  XVEC_INLINE void then_restart(Element& result, const Element& next) {
    Memory memory = this->memory();
    memory.squared = next.u;
    run<kThenSquare>(memory);
    now_ ^= 1;
    get(result);
    copy<kDigit>(u_[now_], next.u);
    copy<kDigit>(v_, next.v);
  }
  XVEC_INLINE void get(Element& x) const {
    copy<kDigit>(x.u, u_[now_]);
    copy<kDigit>(x.v, v_);
  }

  // ---- The same with digits, that is with elements of v = 0 ----

  // x = digit, to be multiplied by the digit `next`.
  XVEC_INLINE void start(const Lanes* digit, const Lanes* next) {
    copy<kDigit>(u_[now_], digit);
    for (int k = 0; k < kDigit; ++k) v_[k] = zero();
    begin_product(u_[now_], next);
  }
  // x = x digit, announced by start() or then_multiply().
  XVEC_INLINE void multiply(const Lanes* digit) {
    Memory memory = this->memory();
    memory.factor = digit;
    run<kMultiplyDigitFirst>(memory);
  }
  XVEC_INLINE void then_multiply(const Lanes* digit) {
    Memory memory = this->memory();
    memory.factor = digit;
    run<kThenMultiply>(memory);
    now_ ^= 1;
  }

  // Ends the chain: x becomes u + (v + u (e + a b / R) / R') p, where R' = 2^1040 is the radix of the owner's tables.
  // e: columns, sums of up to 2^9 limbs.
  XVEC_NOINLINE void then_multiply_by_factor(Lanes* a, const Lanes* b, const Lanes* e) noexcept {
    Lanes factor[kDigit], u[kDigit];
    {
      Memory memory = this->memory();
      memory.new_u = a;  // what this begins is a b, not a product with x
      memory.factor = b;
      run<kThenMultiply>(memory);
      now_ ^= 1;
    }
    end_product(factor);
    for (int k = 0; k < kDigit; ++k) factor[k] = add(factor[k], e[k]);
    normalise(factor);
    // u R / R' = 2^10 u
    for (int k = 0; k < kDigit; ++k) u[k] = _mm512_slli_epi64(u_[now_][k], 10);
    normalise(u);
    begin_product(u, factor);
    end_product(factor);
    for (int k = 0; k < kDigit; ++k) v_[k] = add(v_[k], factor[k]);
    normalise(v_);
  }

  // The limbs of a digit for the owner's matrix: below 2^51 as they are.
  XVEC_INLINE static void to_rows(Lanes* rows, const Lanes* digit) { copy<kDigit>(rows, digit); }

  // ---- In and out ----

  // The element of a ciphertext: words of any content. With c = sum of c_j 2^(50 j) and 2^(50 j) R 2^50 = A_j +
  // B_j p, the sums of c_j A_j and c_j B_j lose the factor 2^50 by one Montgomery limb m, which is subtracted from
  // the second.
  XVEC_NOINLINE void enter(Element& x, const Lanes* words, const Tables& tables) const noexcept {
    constexpr int kPairs = WovenTables::cipher_pairs;
    Lanes c[2 * kPairs];
    words_to_limbs<kWovenBits, kCipherWords, 2 * kPairs>(c, words);
    Lanes pair_low = zero(), pair_high = zero();
    XVEC_ROLLED for (int i = 0; i < kPairs; ++i) {
      pair_low = madd_lo(pair_low, c[2 * i], c[2 * i + 1]);
      pair_high = madd_hi(pair_high, c[2 * i], c[2 * i + 1]);
    }
    pair_high = _mm512_slli_epi64(pair_high, 2);
    Lanes quotient = zero();
    quotient = enter_digit(x.u, c, tables, 0, pair_low, pair_high, quotient);
    enter_digit(x.v, c, tables, 1, pair_low, pair_high, quotient);
  }

  // For the element x = 1 + L p: plain = L kappa mod p, canonical words. Returns the lanes where x is of that form.
  XVEC_NOINLINE __mmask8 leave(Lanes* plain, const Element& x, const Tables& tables) noexcept {
    // u = R r - m p. The reduction gives r + p, and its m may be R too large, so r = 1 (mod p) shows as 1 + p or 1
    // + 2p.
    for (int k = 0; k < kDigit; ++k) work_[kLayout.first_limbs.first + k] = x.u[k];
    work_[kLayout.first_carry.first] = zero();
    for (int k = kDigit; k < 2 * kDigit; ++k) work_[kLayout.first[k].index] = zero();
    run<kSquareFirst>(memory());
    Lanes r[kDigit], s[kDigit];
    carry(r, u_[now_ ^ 1]);
    subtract_p(s, r);
    const __mmask8 by_one = is_one(s);
    subtract_p(r, s);
    const __mmask8 by_p = is_one(r);
    // (v - m) / R = L - (1 or 2), where the reduction's own -1 is the other side of the +p.
    for (int k = 0; k < 2 * kDigit; ++k) work_[kLayout.second[k].index] = k < kDigit ? x.v[k] : zero();
    run<kThenSquare>(memory());
    copy<kDigit>(s, v_);
    s[0] = add(s[0], _mm512_mask_add_epi64(broadcast(1), by_p, broadcast(1), broadcast(1)));
    // Times kappa.
    Lanes kappa[kDigit];
    for (int k = 0; k < kDigit; ++k) kappa[k] = broadcast(tables.kappa[k]);
    begin_product(s, kappa);
    end_product(r);
    carry(s, r);
    for (int times = 0; times < 2; ++times) {  // r < 2.01 p
      subtract_p(r, s);
      const __mmask8 smaller = _mm512_cmplt_epi64_mask(r[kDigit - 1], zero());
      for (int k = 0; k < kDigit; ++k) s[k] = _mm512_mask_mov_epi64(r[k], smaller, s[k]);
    }
    limbs_to_words<kWovenBits, kDigit, kPlainWords>(plain, s);
    return by_one | by_p;
  }

 private:
  // The lanes in which canonical limbs are those of 1.
  XVEC_INLINE static __mmask8 is_one(const Lanes* x) {
    Lanes difference = _mm512_xor_si512(x[0], broadcast(1));
    for (int k = 1; k < kDigit; ++k) difference = bit_or(difference, x[k]);
    return _mm512_cmpeq_epi64_mask(difference, zero());
  }

  // Begins the product of two digits, beside a reduction whose result nobody wants.
  XVEC_INLINE void begin_product(Lanes* a, const Lanes* b) {
    Memory memory = this->memory();
    memory.new_u = a;
    memory.new_v = scratch_;
    memory.factor = b;
    run<kThenMultiply>(memory);
  }
  // r = the product that was begun, / R.
  XVEC_INLINE void end_product(Lanes* r) {
    Memory memory = this->memory();
    memory.new_u = r;
    run<kMultiplyDigitFirst>(memory);
  }

  XVEC_INLINE Memory memory() {
    Memory memory{};
    memory.constants = &modulus_.mask;
    memory.work = work_;
    memory.u = u_[now_];
    memory.v = v_;
    memory.new_u = u_[now_ ^ 1];
    memory.new_v = v_;
    memory.squared = memory.new_u;
    memory.factor = scratch_;
    return memory;
  }

  // x = (sum of c_j row_j - quotient + m p) / 2^50 + p (- 1 for v), returning m. pair_high: times 4.
  XVEC_INLINE Lanes enter_digit(Lanes* x, const Lanes* c, const Tables& tables, int digit, Lanes pair_low,
                                Lanes pair_high, Lanes quotient) const {
    const Lanes mask = broadcast(modulus_.mask);
    const Lanes start0 = sub(zero(), pair_low), start = sub(start0, pair_high);
    Lanes carry = zero(), high4 = zero(), m = zero();
    XVEC_ROLLED for (int strip = 0; strip < kStrips; ++strip) {
      Lanes low[kStrip], high[kStrip];
      XVEC_UNROLL for (int k = 0; k < kStrip; ++k) {
        low[k] = add(start, broadcast(tables.enter_start[digit][kStrip * strip + k]));
        high[k] = zero();
      }
      if (strip == 0) low[0] = add(sub(start0, quotient), broadcast(tables.enter_start[digit][0]));
      XVEC_ROLLED for (int i = 0; i < WovenTables::cipher_pairs; ++i) {
        const std::uint64_t (*partners)[kStrip] = tables.enter[digit][strip][i];
        XVEC_UNROLL for (int k = 0; k < kStrip; ++k) {
          const Lanes a = add(c[2 * i], broadcast(partners[0][k])), b = add(c[2 * i + 1], broadcast(partners[1][k]));
          low[k] = madd_lo(low[k], a, b);
          high[k] = madd_hi(high[k], a, b);
        }
      }
      if (strip == 0) m = bit_and(madd_lo(zero(), low[0], broadcast(modulus_.negated_inverse[0])), mask);
      XVEC_UNROLL for (int k = 0; k < kStrip; ++k) {
        const Lanes p = broadcast(modulus_.p[kStrip * strip + k]);
        low[k] = add(madd_lo(low[k], m, p), high4);
        high4 = _mm512_slli_epi64(madd_hi(high[k], m, p), 2);
      }
      // Column 0 is only a carry, into column 1.
      XVEC_UNROLL for (int k = 0; k < kStrip; ++k) {
        const int at = kStrip * strip + k;
        if (at == 1) low[k] = add(low[k], carry);
        if (at > 0) x[at - 1] = at == 1 ? bit_and(low[k], mask) : add(bit_and(low[k], mask), carry);
        carry = shift_right<kWovenBits>(low[k]);
      }
    }
    x[kDigit - 1] = add(sub(broadcast(tables.enter_start[digit][kDigit]), pair_high), add(high4, carry));
    return m;
  }

  // Columns below 2^60 to limbs, in one parallel step.
  XVEC_INLINE void normalise(Lanes* x) const {
    const Lanes mask = broadcast(modulus_.mask);
    Lanes carry = zero();
    for (int k = 0; k < kDigit; ++k) {
      const Lanes column = x[k];
      x[k] = add(k < kDigit - 1 ? bit_and(column, mask) : column, carry);
      carry = shift_right<kWovenBits>(column);
    }
  }

  // Canonical limbs, except for the top one, which takes what is left.
  XVEC_INLINE void carry(Lanes* to, const Lanes* x) const {
    const Lanes mask = broadcast(modulus_.mask);
    Lanes carry = zero();
    for (int k = 0; k < kDigit; ++k) {
      const Lanes column = add(x[k], carry);
      to[k] = k < kDigit - 1 ? bit_and(column, mask) : column;
      carry = shift_right<kWovenBits>(column);
    }
  }

  // difference = x - p; negative in its top limb if x < p.
  XVEC_INLINE void subtract_p(Lanes* difference, const Lanes* x) const {
    Lanes columns[kDigit];
    for (int k = 0; k < kDigit; ++k) columns[k] = sub(x[k], broadcast(modulus_.p[k]));
    carry(difference, columns);
  }

  const Modulus& modulus_;
  Lanes work_[kWorkVectors];
  Lanes u_[2][kDigit], v_[kDigit];
  Lanes scratch_[2 * kDigit];
  int now_ = 0;  // u_[now_] is x's
};

}  // namespace
}  // namespace xvec::ifma
