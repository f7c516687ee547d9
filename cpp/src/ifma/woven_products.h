// Arithmetic for key_len = 1024, part 1: where numbers are, and the products of digits as streams of instructions.
// padic1024.h says what this is about.
#pragma once

#include "decrypt_tables.h"
#include "weave.h"

namespace xvec::ifma {
namespace {

// A number in memory: its limbs or columns are consecutive vectors (or constants).
struct Array {
  Area area;
  int first;
  constexpr Operand operator[](int k) const { return at(area, first + k); }
};

// The columns of a product as Karatsuba leaves them: the lowest 11 of the lower halves' product, 22 in the middle,
// the rest of the upper halves' product.
struct ProductColumns {
  Array lower, middle, upper;
  constexpr Operand operator[](int k) const { return k < 11 ? lower[k] : k < 33 ? middle[k - 11] : upper[k - 22]; }
};

// ---- Where things are ----

namespace constant {
constexpr Array words(std::size_t offset) { return {Area::constants, static_cast<int>(offset / 8)}; }
constexpr Operand mask = words(offsetof(WovenModulus, mask))[0];
constexpr Array p = words(offsetof(WovenModulus, p));
constexpr Array negated_inverse = words(offsetof(WovenModulus, negated_inverse));
constexpr Array product_bias = words(offsetof(WovenModulus, product_bias));
constexpr Array quotient_start = words(offsetof(WovenModulus, quotient_start));
constexpr Array square_high_start = words(offsetof(WovenModulus, high_start));
constexpr Array product_high_start = words(offsetof(WovenModulus, high_start) + sizeof(WovenModulus{}.high_start[0]));
constexpr Array c = words(offsetof(WovenModulus, c));
constexpr Array fixed = words(offsetof(WovenModulus, fixed));
constexpr Array fixed_start = words(offsetof(WovenModulus, fixed_start));
}  // namespace constant

constexpr int kDigit = WovenModulus::limbs;  // 21
constexpr int kLower = 11, kUpper = 10;      // its halves

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

// The sum of products by Karatsuba's method. take(k, column, free) gets column k, the lower and the upper thirds
// before the middle.
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

}  // namespace
}  // namespace xvec::ifma
