// Decryption of blocks of four ciphertexts: c -> L_p(c^exponent mod p²) kappa mod p, in p-adic digits. The method and
// its derivation are those of ifma/padic.h.
//
// An element X = u + v p stands for X / R mod p². Bounds: R = 2^s 2^KeyLen with s >= 4, and C in (R, 4R]. From digits
// < 1.25 p, u'' < u u' / R + p < 1.1 p and v'' < (u v' + v u' + C) / R + p < 1.2 p + 4, so no result is reduced
// further. Columns are unsigned, so C's limbs are raised such that none of them is below a limb of m (see DecryptionTables).
#pragma once

#include "avx2.h"
#include "digits.h"
#include "lanes.h"

namespace xvec::avx2 {
namespace {

template <int KeyLen>
class Padic {
 public:
  using Tables = DecryptionTables<KeyLen>;
  static constexpr int kLimbs = Tables::limbs, kCipherLimbs = Tables::cipher_limbs;
  static constexpr int kCipherWords = 4 * KeyLen / 64, kPlainWords = KeyLen / 64;
  using D = Digits<kLimbs>;

  struct Element {
    Lanes u[kLimbs], v[kLimbs];
  };

  explicit Padic(const Tables& tables) : tables_(tables) {}

  void one(Element& x) const noexcept {
    for (int k = 0; k < kLimbs; ++k) {
      x.u[k] = broadcast(tables_.one[0][k]);
      x.v[k] = broadcast(tables_.one[1][k]);
    }
  }

  XVEC_NOINLINE void square(Element& x) const noexcept {
    Lanes t[2 * kLimbs], m[kLimbs], u[kLimbs];
    D::square_digit(t, x.u);
    D::reduce(u, t, m, tables_.modulus);
    D::multiply_digits(t, x.u, x.v);
    for (auto& column : t) column = add(column, column);
    subtract_quotient(t, m, kLimbs);
    D::reduce(x.v, t, m, tables_.modulus);
    for (int k = 0; k < kLimbs; ++k) x.u[k] = u[k];
  }

  XVEC_NOINLINE void multiply(Element& x, const Element& y) const noexcept {
    Lanes t[2 * kLimbs], cross[2 * kLimbs], m[kLimbs], u[kLimbs];
    D::multiply_digits(t, x.u, y.u);
    D::reduce(u, t, m, tables_.modulus);
    D::multiply_digits(t, x.u, y.v);
    D::multiply_digits(cross, x.v, y.u);
    for (int k = 0; k < 2 * kLimbs; ++k) t[k] = add(t[k], cross[k]);
    subtract_quotient(t, m, kLimbs);
    D::reduce(x.v, t, m, tables_.modulus);
    for (int k = 0; k < kLimbs; ++k) x.u[k] = u[k];
  }

  // x = the element of a ciphertext: words of any content. With c = sum of c_j B^j and the table's
  // B^j R B^2 = A_j + B_j p, the sums of c_j A_j and c_j B_j lose the factor B^2 by two Montgomery limbs, whose
  // quotient is taken off v.
  XVEC_NOINLINE void enter(Element& x, const Lanes* words) const noexcept {
    Lanes c[kCipherLimbs], t[kLimbs + 2], m[2];
    for (int j = 0; j < kCipherLimbs; ++j) c[j] = limb_of_words<D::kBits>(words, kCipherWords, j);
    apply_rows(t, c, tables_.enter[0]);
    reduce_twice(x.u, t, m);
    apply_rows(t, c, tables_.enter[1]);
    subtract_quotient(t, m, 2);
    reduce_twice(x.v, t, m);
  }

  // For elements that stand for 1 + L p: plain = L kappa mod p, canonical words. Returns a bit for each lane where
  // they do.
  XVEC_NOINLINE int leave(Lanes* plain, const Element& x) const noexcept {
    Lanes t[2 * kLimbs], m[kLimbs], r[kLimbs], kappa[kLimbs];
    // u = R r - m p with 0 <= r <= p, so r = 1 (mod p) means r = 1.
    extend(t, x.u);
    D::reduce(r, t, m, tables_.modulus);
    Lanes difference = _mm256_xor_si256(r[0], broadcast(1));
    for (int k = 1; k < kLimbs; ++k) difference = bit_or(difference, r[k]);
    const int valid = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(difference, zero())));
    // L = (v - m) / R.
    extend(t, x.v);
    subtract_quotient(t, m, kLimbs);
    D::reduce(r, t, m, tables_.modulus);
    for (int k = 0; k < kLimbs; ++k) kappa[k] = broadcast(tables_.kappa[k]);
    D::multiply_digits(t, r, kappa);
    D::reduce(r, t, m, tables_.modulus);
    subtract_p(r);
    const auto limb = [&](int j) __attribute__((always_inline)) { return r[j]; };
    for (int i = 0; i < kPlainWords; ++i) plain[i] = word_of_limbs<D::kBits>(limb, kLimbs, i);
    return valid;
  }

 private:
  // t += C - m; m of `count` limbs.
  XVEC_INLINE void subtract_quotient(Lanes* t, const Lanes* m, int count) const {
    for (int k = 0; k <= kLimbs; ++k) t[k] = add(t[k], broadcast(tables_.c[k]));
    for (int k = 0; k < count; ++k) t[k] = sub(t[k], m[k]);
  }

  XVEC_INLINE static void extend(Lanes* t, const Lanes* digit) {
    for (int k = 0; k < kLimbs; ++k) {
      t[k] = digit[k];
      t[kLimbs + k] = zero();
    }
  }

  // Columns of the sum of c_j rows_j, each the sum of a few numbers < 2^36. A sum of products < 2^56 is cut in two
  // before it reaches 2^64.
  XVEC_NOINLINE static void apply_rows(Lanes* t, const Lanes* c, const std::uint32_t (*rows)[kLimbs]) noexcept {
    constexpr int kStrip = 8, kPart = 200;
    const Lanes mask = broadcast((std::uint64_t{1} << D::kBits) - 1);
    for (int k = 0; k < kLimbs + 2; ++k) t[k] = zero();
    for (int part = 0; part < kCipherLimbs; part += kPart) {
      const int end = min(part + kPart, kCipherLimbs);
      for (int strip = 0; strip < kLimbs; strip += kStrip) {
        const int first = min(strip, kLimbs - kStrip);  // the last strip overlaps the one before
        Lanes sums[kStrip];
        XVEC_UNROLL for (int k = 0; k < kStrip; ++k) sums[k] = zero();
        XVEC_ROLLED for (int j = part; j < end; ++j) {
          XVEC_UNROLL for (int k = 0; k < kStrip; ++k) {
            sums[k] = add(sums[k], product(c[j], broadcast_factor(rows[j][first + k])));
          }
        }
        for (int k = strip - first; k < kStrip; ++k) {
          t[first + k] = add(t[first + k], bit_and(sums[k], mask));
          t[first + k + 1] = add(t[first + k + 1], _mm256_srli_epi64(sums[k], D::kBits));
        }
      }
    }
  }

  // r = (t + m p) / B^2, m < B^2 the quotient; t has limbs + 2 columns.
  XVEC_NOINLINE void reduce_twice(Lanes* r, Lanes* t, Lanes* m) const noexcept {
    const Lanes mask = broadcast((std::uint64_t{1} << D::kBits) - 1);
    const Lanes inverse = broadcast(tables_.modulus.negated_inverse);
    for (int i = 0; i < 2; ++i) {
      m[i] = bit_and(product(bit_and(t[i], mask), inverse), mask);
      for (int j = 0; j < kLimbs; ++j) {
        t[i + j] = add(t[i + j], product(m[i], broadcast(tables_.modulus.p[j][0])));
      }
      t[i + 1] = add(t[i + 1], _mm256_srli_epi64(t[i], D::kBits));
    }
    Lanes carry = zero();
    for (int k = 0; k < kLimbs; ++k) {
      const Lanes column = add(t[k + 2], carry);
      r[k] = bit_and(column, mask);
      carry = _mm256_srli_epi64(column, D::kBits);
    }
  }

  // r - p where r >= p, for canonical limbs of r < 2p; the same instructions in either case.
  XVEC_INLINE void subtract_p(Lanes* r) const {
    const Lanes mask = broadcast((std::uint64_t{1} << D::kBits) - 1);
    Lanes difference[kLimbs], borrow = zero();
    for (int k = 0; k < kLimbs; ++k) {
      const Lanes column = sub(sub(r[k], broadcast(tables_.modulus.p[k][0])), borrow);
      difference[k] = bit_and(column, mask);
      borrow = _mm256_srli_epi64(column, 63);
    }
    const Lanes smaller = sub(zero(), borrow);
    for (int k = 0; k < kLimbs; ++k) r[k] = _mm256_blendv_epi8(difference[k], r[k], smaller);
  }

  const Tables& tables_;
};

// Working memory of one call. It holds powers of ciphertexts that tell about the exponent, so it is wiped.
template <int KeyLen>
struct DecryptionFrame {
  using Element = typename Padic<KeyLen>::Element;
  Lanes words[Padic<KeyLen>::kCipherWords];
  Element x, entry;
  Element table[16];
};

// entry = table[digit] of sixteen, reading all of the table: no address depends on the digit.
template <class Element>
XVEC_NOINLINE void scan_table(Element& entry, const Element* table, std::uint64_t digit) noexcept {
  constexpr int kVectors = sizeof(Element) / sizeof(Lanes);
  auto* to = reinterpret_cast<Lanes*>(&entry);
  const auto* from = reinterpret_cast<const Lanes*>(table);
  Lanes is[16];
  for (int i = 0; i < 16; ++i) is[i] = _mm256_cmpeq_epi64(broadcast(digit), broadcast(static_cast<std::uint64_t>(i)));
  for (int k = 0; k < kVectors; ++k) {
    Lanes chosen = zero();
    XVEC_UNROLL for (int i = 0; i < 16; ++i) chosen = bit_or(chosen, bit_and(is[i], from[i * kVectors + k]));
    to[k] = chosen;
  }
}

// x = x^exponent by fixed windows of four bits: the instructions and addresses are the same for all exponents of one
// length.
template <int KeyLen>
XVEC_INLINE void power(const Padic<KeyLen>& padic, DecryptionFrame<KeyLen>& f, const ExponentSchedule& exponent) {
  padic.one(f.table[0]);
  f.table[1] = f.x;
  for (int i = 2; i < 16; i += 2) {
    f.table[i] = f.table[i / 2];
    padic.square(f.table[i]);
    f.table[i + 1] = f.table[i];
    padic.multiply(f.table[i + 1], f.table[1]);
  }
  scan_table(f.x, f.table, exponent.steps[0]);
  for (std::size_t i = 1; i < exponent.count; ++i) {
    for (int k = 0; k < 4; ++k) padic.square(f.x);
    scan_table(f.entry, f.table, exponent.steps[i]);
    padic.multiply(f.x, f.entry);
  }
}

// The same by sliding windows: the sequence depends on the exponent, never on the data.
template <int KeyLen>
XVEC_INLINE void power_vartime(const Padic<KeyLen>& padic, DecryptionFrame<KeyLen>& f,
                               const ExponentSchedule& exponent) {
  auto* odd = f.table;  // x, x^3, ..., x^15
  odd[0] = f.x;
  padic.square(f.x);
  for (int i = 1; i < 8; ++i) {
    odd[i] = odd[i - 1];
    padic.multiply(odd[i], f.x);
  }
  f.x = odd[exponent.steps[0] / 2];
  for (std::size_t i = 1; i < exponent.count; ++i) {
    if (exponent.steps[i] == 0) {
      padic.square(f.x);
    } else {
      padic.multiply(f.x, odd[exponent.steps[i] / 2]);
    }
  }
}

template <int KeyLen>
XVEC_INLINE void decrypt_rows(const DecryptionTables<KeyLen>& tables, const ExponentSchedule& exponent,
                              const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
                              std::size_t count) {
  constexpr int kPlainWords = Padic<KeyLen>::kPlainWords;
  const Padic<KeyLen> padic(tables);
  DecryptionFrame<KeyLen> f;
  for (std::size_t i = 0; i < count; i += kLanes) {
    load_rows<Padic<KeyLen>::kCipherWords>(f.words, in + i * stride, stride);
    padic.enter(f.x, f.words);
    if (exponent.constant) {
      power(padic, f, exponent);
    } else {
      power_vartime(padic, f, exponent);
    }
    const int good = padic.leave(f.words, f.x);
    store_rows<kPlainWords>(plain + i * kPlainWords, 8 * kPlainWords, f.words);
    for (int lane = 0; lane < kLanes; ++lane) valid[i + lane] = good >> lane & 1;
  }
  wipe_frame(&f, sizeof f);
}

}  // namespace
}  // namespace xvec::avx2
