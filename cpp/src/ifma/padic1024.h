// Arithmetic modulo p² in p-adic digits for key_len = 1024, eight numbers at a time: radix 2^50, 21 limbs, R = 2^1050.
// The method is padic.h's; this file spends it on fewer multiplications and weaves them (weave.h).
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
// "Paired" is Winograd's inner product: a b' + a' b = (a + b)(a' + b') - a a' - b b' for variable a, a' and constant b,
// b': half the multiplications; the sums of a a' are shared by all columns of a triangle as prefix (or suffix) sums,
// those of b b' are constants.
//
// Columns. low_k and high_k collect the low and high 52 bits of the products of column k; as 2^52 = 4 * 2^50, the
// column is low_k + 4 high_{k-1}. After Winograd's (or Karatsuba's) subtractions a column may be negative although the
// number is not, so constants add 2^58 (or more) to each column and take 2^8 from the next, which changes nothing
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

#include "ifma.h"
#include "lanes.h"
#include "scan.h"
#include "weave.h"

namespace xvec::ifma {
namespace {

// A number in memory: its limbs or columns are consecutive vectors (or constants).
struct Array {
  Area area;
  int first;
  constexpr Operand operator[](int k) const { return at(area, first + k); }
};

// The columns of a product as Karatsuba leaves them: the lowest 11 of the lower halves' product, 22 in the middle, the
// rest of the upper halves' product.
struct ProductColumns {
  Array lower, middle, upper;
  constexpr Operand operator[](int k) const { return k < 11 ? lower[k] : k < 33 ? middle[k - 11] : upper[k - 22]; }
};

// ---- Where things are ----

namespace constant {
constexpr Array words(std::size_t offset) { return {Area::constants, static_cast<int>(offset / 8)}; }
constexpr Operand mask = words(offsetof(WovenTables, mask))[0];
constexpr Array p = words(offsetof(WovenTables, p));
constexpr Array negated_inverse = words(offsetof(WovenTables, negated_inverse));
constexpr Array product_bias = words(offsetof(WovenTables, product_bias));
constexpr Array quotient_start = words(offsetof(WovenTables, quotient_start));
constexpr Array square_high_start = words(offsetof(WovenTables, high_start));
constexpr Array product_high_start = words(offsetof(WovenTables, high_start) + sizeof(WovenTables{}.high_start[0]));
constexpr Array c = words(offsetof(WovenTables, c));
constexpr Array fixed = words(offsetof(WovenTables, fixed));
constexpr Array fixed_start = words(offsetof(WovenTables, fixed_start));
}  // namespace constant

constexpr int kDigit = WovenTables::limbs;  // 21
constexpr int kLower = 11, kUpper = 10;     // its halves

// Vectors of working memory, in the order of use.
struct Work {
  int next = 0;
  constexpr Array array(int size) {
    const Array a{Area::work, next};
    next += size;
    return a;
  }
  constexpr ProductColumns columns() { return {array(2 * kLower), array(2 * kLower), array(2 * kUpper)}; }
};

struct Layout {
  Work work;
  Array p = work.array(kDigit);  // all lanes alike: a full load is cheaper than a broadcast among full loads
  Array negated_inverse = work.array(kDigit);
  // The first product, u u': the limbs of its columns 0 .. 20, what column 20 carries, and the columns from 21 on.
  Array first_limbs = work.array(kDigit);
  Array first_carry = work.array(1);
  ProductColumns first = work.columns();
  // The second, of what becomes v: its columns, and the limbs of C - m plus columns 0 .. 19.
  ProductColumns second = work.columns();
  Array second_limbs = work.array(kDigit - 1);
  Array quotient = work.array(kDigit);  // m
  Array doubled = work.array(kDigit);
  Array sums[4] = {work.array(kLower), work.array(kLower), work.array(kLower), work.array(kLower)};
  Array spill = work.array(10);
};
constexpr Layout kLayout;
constexpr int kWorkVectors = kLayout.work.next;

constexpr Array kU{Area::u, 0}, kV{Area::v, 0}, kNewU{Area::new_u, 0}, kNewV{Area::new_v, 0},
    kSquared{Area::squared, 0};
constexpr Array kFactorU{Area::factor, 0}, kFactorV{Area::factor, kDigit};

// to = the low bits of column + carry (of the column before); carry = the column's high bits.
constexpr void emit_limb(Stream& s, Operand to, Register column, Register carry, Register temporary, bool has_carry) {
  s.bit_and(temporary, column, constant::mask);
  if (has_carry) s.add(temporary, temporary, carry);
  s.store(to, temporary);
  s.shift(carry, column);
}

// ---- Products: twelve registers ----

constexpr int kProductRegisters = 12;
// Columns that are accumulated together.
constexpr int kProductStrip = 3;

struct ProductRegisters {
  int first;
  constexpr Register low(int x) const { return {first + x}; }
  constexpr Register high(int x) const { return {first + kProductStrip + x}; }
  constexpr Register window(int j) const { return {first + 2 * kProductStrip + j % kProductStrip}; }
  constexpr Register a() const { return {first + 3 * kProductStrip}; }
  constexpr Register high4() const { return {first + 3 * kProductStrip + 1}; }
  constexpr Register carry() const { return {first + 3 * kProductStrip + 2}; }
};

// A strip's accumulators, cleared when they are first used, and the window of limbs that slides through three
// registers, so that a step loads one limb of each factor.
class StripState {
 public:
  constexpr StripState(Stream& s, const ProductRegisters& r) : s_(s), r_(r) {}

  constexpr void load(int j, Operand limb) {
    if (loaded_[j % kProductStrip] == j) return;
    s_.move(r_.window(j), limb);
    loaded_[j % kProductStrip] = j;
  }
  constexpr void forget_window() { loaded_[0] = loaded_[1] = loaded_[2] = -1; }
  constexpr void madd_lo(int x, Register a, Register b) {
    if (!low_[x]) s_.clear(r_.low(x));
    low_[x] = true;
    s_.madd_lo(r_.low(x), a, b);
  }
  constexpr void madd_hi(int x, Register a, Register b) {
    if (!high_[x]) s_.clear(r_.high(x));
    high_[x] = true;
    s_.madd_hi(r_.high(x), a, b);
  }
  // low(x) = column k, the last but for `columns` - 1 - k.
  constexpr void finish(int x, int k, int columns) {
    if (!low_[x]) {
      s_.clear(r_.low(x));
      s_.clear(r_.high(x));
    }
    if (k > 0) s_.add(r_.low(x), r_.low(x), r_.high4());
    if (k < columns - 1) s_.shift_left_2(r_.high4(), r_.high(x));
  }

 private:
  Stream& s_;
  const ProductRegisters& r_;
  bool low_[kProductStrip] = {}, high_[kProductStrip] = {};
  int loaded_[kProductStrip] = {-1, -1, -1};
};

// One product of a sum: a_i b_j for all i, j.
struct Factors {
  Array a, b;
};

// The columns of the sum of `products`, each of size by size limbs. finish(k, column, free) gets the columns, in
// registers that it may change, and another one that is free.
template <int Count, class Finish>
constexpr void emit_product(Stream& s, const ProductRegisters& r, int size, const Factors (&products)[Count],
                            Finish finish) {
  const int columns = 2 * size;
  for (int start = 0; start < columns; start += kProductStrip) {
    const int width = columns - start < kProductStrip ? columns - start : kProductStrip;
    StripState strip(s, r);
    for (const Factors& product : products) {
      strip.forget_window();
      for (int i = 0; i < size; ++i) {
        const int first_j = start - i > 0 ? start - i : 0;
        const int last_j = start + width - 1 - i < size ? start + width - 1 - i : size - 1;
        if (first_j > last_j) continue;
        s.begin_group();
        s.move(r.a(), product.a[i]);
        for (int j = first_j; j <= last_j; ++j) strip.load(j, product.b[j]);
        for (int j = first_j; j <= last_j; ++j) strip.madd_lo(i + j - start, r.a(), r.window(j));
        for (int j = first_j; j <= last_j; ++j) strip.madd_hi(i + j - start, r.a(), r.window(j));
        s.end_group();
      }
    }
    for (int x = 0; x < width; ++x) {
      s.begin_group();
      strip.finish(x, start + x, columns);
      finish(start + x, r.low(x), r.high(x));
      s.end_group();
    }
  }
}

// Sums of the halves of a digit.
constexpr void emit_half_sums(Stream& s, const ProductRegisters& r, Array sums, Array digit) {
  for (int i = 0; i < kLower; ++i) {
    s.move(r.a(), digit[i]);
    if (i < kUpper) s.add(r.a(), r.a(), digit[kLower + i]);
    s.store(sums[i], r.a());
  }
}

// The sum of products by Karatsuba's method. take(k, column, free) gets column k, the lower and the upper thirds before
// the middle.
template <int Count, class Take>
constexpr void emit_karatsuba(Stream& s, const ProductRegisters& r, const ProductColumns& out,
                              const Factors (&products)[Count], bool doubled, Take take) {
  Factors lower[Count], middle[Count], upper[Count];
  for (int n = 0; n < Count; ++n) {
    const auto [a, b] = products[n];
    lower[n] = {a, b};
    upper[n] = {{a.area, a.first + kLower}, {b.area, b.first + kLower}};
    middle[n] = {kLayout.sums[2 * n], kLayout.sums[2 * n + 1]};
    emit_half_sums(s, r, middle[n].a, a);
    emit_half_sums(s, r, middle[n].b, b);
  }
  emit_product(s, r, kLower, lower, [&](int k, Register column, Register free) {
    if (doubled) s.add(column, column, column);
    s.store(out.lower[k], column);
    if (k < kLower) take(k, column, free);
  });
  emit_product(s, r, kUpper, upper, [&](int k, Register column, Register free) {
    if (doubled) s.add(column, column, column);
    s.store(out.upper[k], column);
    if (k >= kLower) take(2 * kLower + k, column, free);
  });
  emit_product(s, r, kLower, middle, [&](int k, Register column, Register free) {
    if (doubled) s.add(column, column, column);
    s.subtract(column, column, out.lower[k]);
    if (k < 2 * kUpper) s.subtract(column, column, out.upper[k]);
    s.add(column, column, k < kLower ? out.lower[kLower + k] : out.upper[k - kLower]);
    take(kLower + k, column, free);
  });
}

// kLayout.second = the sum of products, times 1 or 2.
template <int Count>
constexpr Stream second_product_stream(int first_register, const Factors (&products)[Count], bool doubled) {
  Stream s;
  emit_karatsuba(s, {first_register}, kLayout.second, products, doubled, [&](int k, Register column, Register) {
    if (k >= kLower && k < 3 * kLower) s.store(kLayout.second[k], column);
  });
  return s;
}

// kLayout.first = a b.
constexpr Stream first_product_stream(int first_register, Array a, Array b) {
  Stream s;
  const ProductRegisters r{first_register};
  const Factors factors[] = {{a, b}};
  emit_karatsuba(s, r, kLayout.first, factors, false, [&](int k, Register column, Register free) {
    if (k < kDigit) {
      s.add(column, column, constant::product_bias[k > 0]);
      emit_limb(s, kLayout.first_limbs[k], column, r.carry(), free, k > 0);
      if (k == kDigit - 1) s.store(kLayout.first_carry[0], r.carry());
    } else if (k < 3 * kLower) {
      s.store(kLayout.first[k], column);
    }
  });
  return s;
}

// kLayout.first = a², by columns, with one factor doubled in advance.
constexpr Stream square_stream(int first_register, Array a) {
  constexpr int kColumns = 2 * kDigit;
  static_assert(kColumns % kProductStrip == 0);
  Stream s;
  const ProductRegisters r{first_register};
  for (int i = 0; i < kDigit; ++i) {
    s.move(r.a(), a[i]);
    s.add(r.a(), r.a(), r.a());
    s.store(kLayout.doubled[i], r.a());
  }
  for (int start = 0; start < kColumns; start += kProductStrip) {
    StripState strip(s, r);
    for (int i = 0; i < kDigit; ++i) {
      const int first_j = start - i > i ? start - i : i;
      const int last_j = start + kProductStrip - 1 - i < kDigit ? start + kProductStrip - 1 - i : kDigit - 1;
      if (first_j > last_j) continue;
      const auto left = [&](int j) { return i == j ? r.window(j) : r.a(); };
      s.begin_group();
      if (last_j > i) s.move(r.a(), kLayout.doubled[i]);
      for (int j = first_j; j <= last_j; ++j) strip.load(j, a[j]);
      for (int j = first_j; j <= last_j; ++j) strip.madd_lo(i + j - start, left(j), r.window(j));
      for (int j = first_j; j <= last_j; ++j) strip.madd_hi(i + j - start, left(j), r.window(j));
      s.end_group();
    }
    for (int x = 0; x < kProductStrip; ++x) {
      const int k = start + x;
      s.begin_group();
      strip.finish(x, k, kColumns);
      if (k < kDigit) {
        emit_limb(s, kLayout.first_limbs[k], r.low(x), r.carry(), r.high(x), k > 0);
        if (k == kDigit - 1) s.store(kLayout.first_carry[0], r.carry());
      } else {
        s.store(kLayout.first[k], r.low(x));
      }
      s.end_group();
    }
  }
  return s;
}

// ---- Reductions: twenty registers ----

// Two strips of accumulators, a pair of variable limbs, two sums and two constants. Column -1 of a strip is the one
// before it, of which only the high half is wanted.
struct ReductionRegisters {
  int first;
  constexpr Register low(int x) const { return {first + x}; }
  constexpr Register high(int x) const { return {x < 0 ? first + 20 : first + 7 + x}; }
  constexpr Register a0() const { return {first + 14}; }
  constexpr Register a1() const { return {first + 15}; }
  constexpr Register sum(int i) const { return {first + 16 + i}; }
  constexpr Register constant(int i) const { return {first + 18 + i}; }
};
constexpr int kStrip = WovenTables::strip_width, kStrips = WovenTables::strips;
static_assert(kStrip * kStrips == kDigit);

// Vectors that a reduction keeps from one strip to the next.
constexpr Operand kKeptHigh4 = kLayout.spill[0], kKeptCarry = kLayout.spill[1], kKeptQuotient = kLayout.spill[2];
constexpr Array kKeptColumn{kLayout.spill.area, kLayout.spill.first + 3},
    kKeptLimb{kLayout.spill.area, kLayout.spill.first + 5}, kKeptSums{kLayout.spill.area, kLayout.spill.first + 7};

// low(x) += lo, high(x) += hi of (a0 + constants[d-1]) (a1 + constants[d]) for x = first_x .. last_x, d = d0 + x > 0.
// last_high: the last column whose high halves are wanted.
constexpr void emit_pairs(Stream& s, const ReductionRegisters& r, Array constants, int first_x, int last_x, int d0,
                          int last_high) {
  int free = 0, loaded = -1;
  for (int x = first_x; x <= last_x; ++x) {
    const int d = d0 + x;
    s.begin_group();
    if (loaded != d - 1) {
      s.move(r.constant(free), constants[d - 1]);
      free ^= 1;
    }
    s.move(r.constant(free), constants[d]);
    s.add(r.sum(0), r.a0(), r.constant(free ^ 1));
    s.add(r.sum(1), r.a1(), r.constant(free));
    free ^= 1;
    loaded = d;
    if (x >= 0) s.madd_lo(r.low(x), r.sum(0), r.sum(1));
    if (x <= last_high) s.madd_hi(r.high(x), r.sum(0), r.sum(1));
    s.end_group();
  }
}

// Running sums of lo and hi of products of limbs within pairs, and the latter times 4 as one column later takes it.
struct PairSums {
  Register low, high, high4;
  constexpr void restore(Stream& s, bool first) const {
    const Register all[3] = {low, high, high4};
    for (int i = 0; i < 3; ++i) {
      if (first) {
        s.clear(all[i]);
      } else {
        s.move(all[i], kKeptSums[i]);
      }
    }
  }
  constexpr void keep(Stream& s) const {
    const Register all[3] = {low, high, high4};
    for (int i = 0; i < 3; ++i) s.store(kKeptSums[i], all[i]);
  }
};

// kLayout.quotient = m = -t / p mod R, for t = kLayout.first: column k has the pairs (t_2i, t_2i+1) with 2i + 1 <= k, and
// t_k alone for even k.
constexpr void emit_quotient(Stream& s, const ReductionRegisters& r) {
  const Array& t = kLayout.first_limbs;
  for (int strip = 0; strip < kStrips; ++strip) {
    const int start = kStrip * strip, last = start + kStrip - 1;
    const bool last_strip = strip + 1 == kStrips;
    const PairSums pairs{r.high(0), r.high(1), r.high(2)};
    pairs.restore(s, strip == 0);
    for (int x = 0; x < kStrip; ++x) {
      const int k = start + x;
      s.move(r.low(x), constant::quotient_start[k]);
      if (k % 2 == 1) {
        s.move(r.a0(), t[k - 1]);
        s.madd_lo(pairs.low, r.a0(), t[k]);
        s.madd_hi(pairs.high, r.a0(), t[k]);
      }
      if (k > 0) {
        s.subtract(r.low(x), r.low(x), pairs.low);
        s.subtract(r.low(x), r.low(x), pairs.high4);
      }
      if (k % 2 == 1) s.shift_left_2(pairs.high4, pairs.high);
    }
    if (!last_strip) pairs.keep(s);
    for (int x = 0; x < kStrip; ++x) s.clear(r.high(x));
    for (int i = 0; 2 * i <= last; ++i) {
      const int d0 = start - 2 * i;
      s.move(r.a0(), t[2 * i]);
      if (2 * i + 1 <= last && 2 * i + 1 < kDigit) s.move(r.a1(), t[2 * i + 1]);
      if (d0 <= 0) {
        s.madd_lo(r.low(-d0), r.a0(), constant::negated_inverse[0]);
        if (2 * i < kDigit - 1) s.madd_hi(r.high(-d0), r.a0(), constant::negated_inverse[0]);
      }
      // The high half of column 20 is beyond R.
      emit_pairs(s, r, kLayout.negated_inverse, d0 <= 0 ? 1 - d0 : 0, kStrip - 1, d0,
                 last_strip ? kStrip - 2 : kStrip - 1);
    }
    const Register high4 = r.a0(), carry = r.a1();
    if (strip > 0) {
      s.move(high4, kKeptHigh4);
      s.move(carry, kKeptCarry);
    }
    for (int x = 0; x < kStrip; ++x) {
      const int k = start + x;
      if (k > 0) s.add(r.low(x), r.low(x), high4);
      if (k < kDigit - 1) s.shift_left_2(high4, r.high(x));
      emit_limb(s, kLayout.quotient[k], r.low(x), carry, x % 2 == 0 ? r.sum(0) : r.constant(0), k > 0);
    }
    if (!last_strip) {
      s.store(kKeptHigh4, high4);
      s.store(kKeptCarry, carry);
    }
  }
}

// kNewU = (t + m p) / R + p. Columns 20 .. 41 of t + m p: column k has the pairs (m_{2i-1}, m_2i), i = 1 .. 10, as far as
// p has limbs k - 2i and k - 2i + 1, and m_{k-20} p_20 for even k. From the top, because the sums within pairs that a
// column needs are suffix sums: those of i >= (k - 18) / 2.
constexpr void emit_high_part(Stream& s, const ReductionRegisters& r, Array start_constants) {
  constexpr int kTop = 2 * kDigit - 1;  // column 41, without products
  const Array& m = kLayout.quotient;
  const Operand last_pair = kKeptQuotient;
  for (int strip = kStrips - 1; strip >= 0; --strip) {
    const int start = kDigit - 1 + kStrip * strip;
    const bool first_strip = strip == kStrips - 1, last_strip = strip == 0;
    const PairSums pairs{r.high(0), r.high(1), r.high(2)};
    pairs.restore(s, first_strip);
    for (int x = kStrip - 1; x >= 0; --x) {
      const int k = start + x, i = (k - 19) / 2;
      s.move(r.low(x), start_constants[k - 19]);
      s.add(r.low(x), r.low(x), k == 20 ? kLayout.first_limbs[20] : kLayout.first[k]);
      if (i >= 1 && i <= kUpper) {
        if (k % 2 == 0) {
          s.move(r.a0(), m[2 * i - 1]);
          s.madd_hi(pairs.high, r.a0(), m[2 * i]);
          s.shift_left_2(pairs.high4, pairs.high);
          if (i == kUpper) s.store(last_pair, pairs.high);
        } else {
          s.move(r.a0(), m[2 * i - 1]);
          s.madd_lo(pairs.low, r.a0(), m[2 * i]);
        }
      }
      if (k < 40) s.subtract(r.low(x), r.low(x), pairs.low);
      if (k > 20) s.subtract(r.low(x), r.low(x), pairs.high4);
    }
    if (!last_strip) {
      pairs.keep(s);
    } else {
      // High halves of column 19, which has the pairs i = 1 .. 9, and m_0 p_19 and m_19 p_0 alone.
      s.move(r.high(-1), start_constants[0]);
      s.add(r.high(-1), r.high(-1), last_pair);
      s.subtract(r.high(-1), r.high(-1), pairs.high);
    }
    for (int x = 0; x < kStrip; ++x) s.clear(r.high(x));
    for (int i = kUpper; i >= 0; --i) {
      const int single = 2 * i + 20 - start;  // the column of m_2i p_20, in this strip
      const int lowest_x = last_strip ? -1 : 0;
      const int last_x = single - 1 < kStrip - 1 ? single - 1 : kStrip - 1;
      const int first_x = 2 * i - start > lowest_x ? 2 * i - start : lowest_x;
      const bool in_pairs = i > 0 && first_x <= last_x, alone = 0 <= single && single < kStrip;
      if (!in_pairs && !alone) continue;
      s.move(r.a1(), m[2 * i]);
      if (in_pairs) s.move(r.a0(), m[2 * i - 1]);
      if (alone) {
        s.madd_lo(r.low(single), r.a1(), constant::p[20]);
        s.madd_hi(r.high(single), r.a1(), constant::p[20]);
      }
      if (last_strip && i == 0) s.madd_hi(r.high(-1), r.a1(), constant::p[19]);
      if (last_strip && i == kUpper) s.madd_hi(r.high(-1), r.a0(), constant::p[0]);
      if (in_pairs) emit_pairs(s, r, kLayout.p, first_x, last_x, start - 2 * i + 1, kStrip);
    }
    // Columns to limbs. The strip's first two wait for the strip below.
    const Register high4 = r.a0(), carry = r.a1(), other = r.sum(1);
    for (int x = 0; x < kStrip; ++x) {
      const int k = start + x;
      const Register temporary = x % 2 == 0 ? r.sum(0) : r.constant(0);
      if (k == 20) {
        // Columns 0 .. 20 add up to a multiple of R: with the unknown carry into column 20, in [-2^8, 2^50 - 2^8),
        // the column is a multiple of 2^50, so what it carries is ceil((column - 2^8) / 2^50). The constant is in
        // start_constants.
        s.shift_left_2(high4, r.high(-1));
        s.add(r.low(x), r.low(x), high4);
        s.shift(carry, r.low(x));
        s.add(carry, carry, kLayout.first_carry[0]);
      } else if (k == 21) {
        s.add(r.low(x), r.low(x), high4);
        s.add(r.low(x), r.low(x), carry);
        emit_limb(s, kNewU[0], r.low(x), carry, temporary, false);
      } else if (x == 0) {
        s.store(kKeptColumn[strip % 2], r.low(x));
      } else {
        s.add(r.low(x), r.low(x), high4);
        emit_limb(s, x == 1 ? kKeptLimb[strip % 2] : kNewU[k - 21], r.low(x), carry, temporary, x > 1);
      }
      s.shift_left_2(high4, r.high(x));
    }
    if (first_strip) {
      s.move(other, start_constants[kTop - 19]);
      s.add(other, other, kLayout.first[kTop]);
      s.add(other, other, high4);
      s.add(other, other, carry);
      s.store(kNewU[kDigit - 1], other);
    } else {
      // The two columns of the strip above that waited.
      const int k = start + kStrip;
      const Register limb = r.sum(0);
      s.move(other, kKeptColumn[(strip + 1) % 2]);
      s.add(other, other, high4);
      emit_limb(s, kNewU[k - 21], other, carry, limb, true);
      s.add(carry, carry, kKeptLimb[(strip + 1) % 2]);
      s.store(kNewU[k - 20], carry);
    }
  }
}

// kLayout.quotient = m and kNewU = (t + m p) / R + p for t = kLayout.first. From a product of two digits, which has a
// bias, or from a square.
constexpr Stream first_reduction_stream(int first_register, bool square) {
  Stream s;
  const ReductionRegisters r{first_register};
  emit_quotient(s, r);
  emit_high_part(s, r, square ? constant::square_high_start : constant::product_high_start);
  return s;
}

// kNewV = (t + C - m) / R - 1 modulo p, for t = kLayout.second and m = kLayout.quotient.
constexpr Stream second_reduction_stream(int first_register) {
  Stream s;
  const ReductionRegisters r{first_register};
  const ProductColumns& t = kLayout.second;
  const Array& limbs = kLayout.second_limbs;
  // Of the sums within pairs, what starts the columns: - low - 4 high, but - low for column 0 and - 4 high for the top.
  const Operand start = kKeptSums[0], start0 = kKeptSums[1], start_top = kKeptSums[2];
  {
    const Register pair_low = r.low(0), pair_high = r.low(1), carry = r.low(2), column = r.low(3);
    const auto limb = [&](int k) { return r.low(4 + k % 2); };
    s.clear(pair_low);
    s.clear(pair_high);
    for (int k = 0; k < kDigit - 1; ++k) {
      s.move(column, constant::c[k]);
      s.add(column, column, t[k]);
      s.subtract(column, column, kLayout.quotient[k]);
      emit_limb(s, limbs[k], column, carry, limb(k), k > 0);
      if (k % 2 == 1) {
        s.madd_lo(pair_low, limb(k - 1), limb(k));
        s.madd_hi(pair_high, limb(k - 1), limb(k));
      }
    }
    s.shift_left_2(pair_high, pair_high);
    s.clear(column);
    s.subtract(pair_low, column, pair_low);
    s.subtract(pair_high, column, pair_high);
    s.store(start_top, pair_high);
    s.add(pair_high, pair_high, pair_low);
    s.store(start, pair_high);
    // Column 20 of t becomes column 0.
    s.move(column, constant::c[20]);
    s.subtract(column, column, kLayout.quotient[20]);
    s.add(column, column, carry);
    s.add(column, column, pair_low);
    s.store(start0, column);
  }
  for (int strip = 0; strip < kStrips; ++strip) {
    for (int x = 0; x < kStrip; ++x) {
      const int k = kStrip * strip + x;
      s.move(r.low(x), constant::fixed_start[k]);
      s.add(r.low(x), r.low(x), k == 0 ? start0 : start);
      s.add(r.low(x), r.low(x), t[20 + k]);
      s.clear(r.high(x));
    }
    for (int i = 0; i < WovenTables::fixed_pairs; ++i) {
      s.move(r.a0(), limbs[2 * i]);
      s.move(r.a1(), limbs[2 * i + 1]);
      for (int x = 0; x < kStrip; ++x) {
        const int entry = (strip * WovenTables::fixed_pairs + i) * 2 * kStrip + x;
        s.begin_group();
        s.add(r.sum(0), r.a0(), constant::fixed[entry]);
        s.add(r.sum(1), r.a1(), constant::fixed[entry + kStrip]);
        s.madd_lo(r.low(x), r.sum(0), r.sum(1));
        s.madd_hi(r.high(x), r.sum(0), r.sum(1));
        s.end_group();
      }
    }
    // One Montgomery limb.
    const Register quotient = r.a0(), high4 = r.a1(), carry = r.sum(1);
    if (strip == 0) {
      s.clear(quotient);
      s.madd_lo(quotient, r.low(0), constant::negated_inverse[0]);
      s.bit_and(quotient, quotient, constant::mask);
      s.store(kKeptQuotient, quotient);
    } else {
      s.move(quotient, kKeptQuotient);
      s.move(high4, kKeptHigh4);
      s.move(carry, kKeptCarry);
    }
    for (int x = 0; x < kStrip; ++x) {
      s.madd_lo(r.low(x), quotient, constant::p[kStrip * strip + x]);
      s.madd_hi(r.high(x), quotient, constant::p[kStrip * strip + x]);
    }
    for (int x = 0; x < kStrip; ++x) {
      const int k = kStrip * strip + x;
      if (k > 0) s.add(r.low(x), r.low(x), high4);
      s.shift_left_2(high4, r.high(x));
      if (k == 0) {
        s.shift(carry, r.low(x));
      } else {
        if (k == 1) s.add(r.low(x), r.low(x), carry);
        emit_limb(s, kNewV[k - 1], r.low(x), carry, r.sum(0), k > 1);
      }
    }
    if (strip + 1 < kStrips) {
      s.store(kKeptHigh4, high4);
      s.store(kKeptCarry, carry);
    } else {
      const Register top = r.sum(0);
      s.move(top, constant::fixed_start[kDigit]);
      s.add(top, top, start_top);
      s.add(top, top, high4);
      s.add(top, top, carry);
      s.add(top, top, t[2 * kDigit - 1]);
      s.store(kNewV[kDigit - 1], top);
    }
  }
  return s;
}

// One pass of a masked scan (scan.h).
constexpr Stream scan_stream(int first_register) {
  constexpr int kVectors = 2 * kDigit;
  const Register chosen{first_register};
  Stream s;
  for (int k = 0; k < kVectors; ++k) {
    s.begin_group();
    s.move(chosen, at(Area::scan_from, k));
    for (int i = 0; i < kScanEntries; ++i) s.choose(chosen, i, at(Area::scan_entries, kVectors * i + k));
    s.store(at(Area::scan_to, k), chosen);
    s.end_group();
  }
  return s;
}

// ---- Programs ----

// Registers of the streams: the second reduction uses two less than the first and leaves one for a scan.
constexpr int kProduct = 0, kReduction = kProductRegisters, kScan = kVirtualRegisters - 1;

// A squaring or multiplication is two programs: the first reduction beside the products that v needs, then the second
// reduction beside the product with which the next operation begins.
constexpr Factors kUV[] = {{kU, kV}};
constexpr Factors kCross[] = {{kU, kFactorV}, {kV, kFactorU}};
constexpr Program kSquareFirst =
    weave(first_reduction_stream(kReduction, true), second_product_stream(kProduct, kUV, true));
constexpr Program kMultiplyFirst =
    weave(first_reduction_stream(kReduction, false), second_product_stream(kProduct, kCross, false));
constexpr Program kThenSquare = weave(second_reduction_stream(kReduction), square_stream(kProduct, kSquared));
constexpr Program kThenSquareScanning =
    weave(second_reduction_stream(kReduction), square_stream(kProduct, kSquared), scan_stream(kScan));
constexpr Program kThenMultiply =
    weave(second_reduction_stream(kReduction), first_product_stream(kProduct, kNewU, kFactorU));

class Padic1024 {
 public:
  static constexpr int kCipherWords = 64, kPlainWords = 16;
  using Tables = WovenTables;

  struct Element {
    Lanes u[kDigit], v[kDigit];
  };

  explicit Padic1024(const Tables& tables) : tables_(tables) {
    for (int k = 0; k < kDigit; ++k) {
      work_[kLayout.p.first + k] = broadcast(tables.p[k]);
      work_[kLayout.negated_inverse.first + k] = broadcast(tables.negated_inverse[k]);
    }
  }

  XVEC_INLINE void one(Element& x) const {
    for (int k = 0; k < kDigit; ++k) {
      x.u[k] = broadcast(tables_.one[0][k]);
      x.v[k] = broadcast(tables_.one[1][k]);
    }
  }

  // ---- A chain of squarings and multiplications of the current element x. Each is one of square() and multiply(), and
  // then one of then_...(), which says how the chain goes on. ----

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
  XVEC_INLINE void then_multiply(const Element& y) {
    Memory memory = this->memory();
    memory.factor = y.u;
    run<kThenMultiply>(memory);
    now_ ^= 1;
  }
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

  // ---- In and out ----

  // The element of a ciphertext: words of any content. With c = sum of c_j 2^(50 j) and 2^(50 j) R 2^50 = A_j + B_j p, the
  // sums of c_j A_j and c_j B_j lose the factor 2^50 by one Montgomery limb m, which is subtracted from the second.
  XVEC_NOINLINE void enter(Element& x, const Lanes* words) const noexcept {
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
    quotient = enter_digit(x.u, c, 0, pair_low, pair_high, quotient);
    enter_digit(x.v, c, 1, pair_low, pair_high, quotient);
  }

  // For the element x = 1 + L p: plain = L kappa mod p, canonical words. Returns the lanes where x is of that form.
  XVEC_NOINLINE __mmask8 leave(Lanes* plain, const Element& x) noexcept {
    // u = R r - m p. The reduction gives r + p, and its m may be R too large, so r = 1 (mod p) shows as 1 + p or 1 + 2p.
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
    Element kappa;
    for (int k = 0; k < kDigit; ++k) kappa.u[k] = kappa.v[k] = broadcast(tables_.kappa[k]);
    Memory memory = this->memory();
    memory.new_u = s;
    memory.factor = kappa.u;
    run<kThenMultiply>(memory);
    memory.new_u = r;
    run<kMultiplyFirst>(memory);
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

  XVEC_INLINE Memory memory() {
    Memory memory{};
    memory.constants = &tables_.mask;
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
  XVEC_INLINE Lanes enter_digit(Lanes* x, const Lanes* c, int digit, Lanes pair_low, Lanes pair_high,
                                Lanes quotient) const {
    const Lanes mask = broadcast(tables_.mask);
    const Lanes start0 = sub(zero(), pair_low), start = sub(start0, pair_high);
    Lanes carry = zero(), high4 = zero(), m = zero();
    XVEC_ROLLED for (int strip = 0; strip < kStrips; ++strip) {
      Lanes low[kStrip], high[kStrip];
      XVEC_UNROLL for (int k = 0; k < kStrip; ++k) {
        low[k] = add(start, broadcast(tables_.enter_start[digit][kStrip * strip + k]));
        high[k] = zero();
      }
      if (strip == 0) low[0] = add(sub(start0, quotient), broadcast(tables_.enter_start[digit][0]));
      XVEC_ROLLED for (int i = 0; i < WovenTables::cipher_pairs; ++i) {
        const std::uint64_t (*partners)[kStrip] = tables_.enter[digit][strip][i];
        XVEC_UNROLL for (int k = 0; k < kStrip; ++k) {
          const Lanes a = add(c[2 * i], broadcast(partners[0][k])), b = add(c[2 * i + 1], broadcast(partners[1][k]));
          low[k] = madd_lo(low[k], a, b);
          high[k] = madd_hi(high[k], a, b);
        }
      }
      if (strip == 0) m = bit_and(madd_lo(zero(), low[0], broadcast(tables_.negated_inverse[0])), mask);
      XVEC_UNROLL for (int k = 0; k < kStrip; ++k) {
        const Lanes p = broadcast(tables_.p[kStrip * strip + k]);
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
    x[kDigit - 1] = add(sub(broadcast(tables_.enter_start[digit][kDigit]), pair_high), add(high4, carry));
    return m;
  }

  // Canonical limbs, except for the top one, which takes what is left.
  XVEC_INLINE void carry(Lanes* to, const Lanes* x) const {
    const Lanes mask = broadcast(tables_.mask);
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
    for (int k = 0; k < kDigit; ++k) columns[k] = sub(x[k], broadcast(tables_.p[k]));
    carry(difference, columns);
  }

  const Tables& tables_;
  Lanes work_[kWorkVectors];
  Lanes u_[2][kDigit], v_[kDigit];
  Lanes scratch_[2 * kDigit];
  int now_ = 0;  // u_[now_] is x's
};

}  // namespace
}  // namespace xvec::ifma
