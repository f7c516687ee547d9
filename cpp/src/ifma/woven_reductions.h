// Arithmetic for key_len = 1024, part 2: the two reductions of a p-adic product, and a scan, as streams of
// instructions. padic1024.h says what this is about, and has the bounds.
#pragma once

#include "scan.h"
#include "woven_products.h"

namespace xvec::ifma {
namespace {

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
constexpr int kStrip = WovenModulus::strip_width, kStrips = WovenModulus::strips;
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

// kLayout.quotient = m = -t / p mod R, for t = kLayout.first: column k has the pairs (t_2i, t_2i+1) with 2i + 1 <=
// k, and t_k alone for even k.
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

// kNewU = (t + m p) / R + p. Columns 20 .. 41 of t + m p: column k has the pairs (m_{2i-1}, m_2i), i = 1 .. 10, as
// far as p has limbs k - 2i and k - 2i + 1, and m_{k-20} p_20 for even k. From the top, because the sums within
// pairs that a column needs are suffix sums: those of i >= (k - 18) / 2.
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
  // Of the sums within pairs, what starts the columns: - low - 4 high, but - low for column 0 and - 4 high for the
  // top.
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
    for (int i = 0; i < WovenModulus::fixed_pairs; ++i) {
      s.move(r.a0(), limbs[2 * i]);
      s.move(r.a1(), limbs[2 * i + 1]);
      for (int x = 0; x < kStrip; ++x) {
        const int entry = (strip * WovenModulus::fixed_pairs + i) * 2 * kStrip + x;
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

}  // namespace
}  // namespace xvec::ifma
