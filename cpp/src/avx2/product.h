// The server's product: a fixed linear map modulo N, applied to eight rows at a time, in two groups of four lanes.
//
// The method is that of ifma/product.h without Winograd's pairing, which here would trade each multiplication for two
// additions of equal cost: X = sum of x_j T_j < limbs B N, and two Montgomery limbs m0, m1 make it
// r = (X + m0 N + m1 B N) / B^2 < N (1 + limbs / B).
//
// Bounds. x_j, T_j's limbs, m0, m1 and N's limbs are < B: a column of limbs + 2 products and a carry (< 2^37) is
// below (limbs + 2) B^2 + 2^37 < 2^64 for 149 and 222 limbs of 28 bits and 306 of 27.
#pragma once

#include "avx2.h"
#include "lanes.h"

namespace xvec::avx2 {
namespace {

constexpr int kGroups = 2;
constexpr int kRows = kGroups * kLanes;

// One limb of eight numbers.
struct Limb {
  Lanes group[kGroups];
};

// Eight rows of bytes to limbs.
template <int KeyLen>
XVEC_NOINLINE void load_limbs(Limb* limbs, const std::uint8_t* rows, std::size_t stride) noexcept {
  using Size = ProductSize<KeyLen>;
  Lanes words[Size::words];
  for (int g = 0; g < kGroups; ++g) {
    load_rows<Size::words>(words, rows + g * kLanes * stride, stride);
    for (int j = 0; j < Size::limbs; ++j) limbs[j].group[g] = limb_of_words<Size::bits>(words, Size::words, j);
  }
}

// Canonical limbs to eight rows of bytes.
template <int KeyLen>
XVEC_NOINLINE void store_limbs(std::uint8_t* rows, std::size_t stride, const Limb* limbs) noexcept {
  using Size = ProductSize<KeyLen>;
  Lanes words[Size::words];
  for (int g = 0; g < kGroups; ++g) {
    const auto limb = [&](int j) __attribute__((always_inline)) { return limbs[j].group[g]; };
    for (int i = 0; i < Size::words; ++i) words[i] = word_of_limbs<Size::bits>(limb, Size::limbs, i);
    store_rows<Size::words>(rows + g * kLanes * stride, stride, words);
  }
}

// sums_k += x_j rows_j,k for j < count. Apart from its caller, whose registers it needs.
XVEC_NOINLINE void add_products(Limb* sums, const Limb* x, const std::uint32_t (*rows)[kStripWidth],
                                int count) noexcept {
  Limb strip[kStripWidth];
  XVEC_UNROLL for (int k = 0; k < kStripWidth; ++k) strip[k] = sums[k];
  XVEC_ROLLED for (int j = 0; j < count; ++j) {
    const Limb factor = x[j];
    XVEC_UNROLL for (int k = 0; k < kStripWidth; ++k) {
      const Lanes entry = broadcast_factor(rows[j][k]);
      XVEC_UNROLL for (int g = 0; g < kGroups; ++g) {
        strip[k].group[g] = add(strip[k].group[g], product(factor.group[g], entry));
      }
    }
  }
  XVEC_UNROLL for (int k = 0; k < kStripWidth; ++k) sums[k] = strip[k];
}

// m0 and m1, from the first two columns of X.
template <int KeyLen>
XVEC_INLINE void montgomery_quotients(Limb* m, const Limb* sums, const QueryMatrix<KeyLen>& query) {
  constexpr int kBits = ProductSize<KeyLen>::bits;
  const Lanes mask = broadcast((std::uint64_t{1} << kBits) - 1), inverse = broadcast_factor(query.negated_inverse);
  const Lanes n0 = broadcast_factor(query.modulus[0]), n1 = broadcast_factor(query.modulus[1]);
  for (int g = 0; g < kGroups; ++g) {
    const Lanes m0 = bit_and(product(bit_and(sums[0].group[g], mask), inverse), mask);
    const Lanes column0 = add(sums[0].group[g], product(m0, n0));
    const Lanes column1 = add(add(sums[1].group[g], product(m0, n1)), _mm256_srli_epi64(column0, kBits));
    m[0].group[g] = m0;
    m[1].group[g] = bit_and(product(bit_and(column1, mask), inverse), mask);
  }
}

// columns[2 + k], k < limbs, becomes limb k of r < 2N. columns holds strips * kStripWidth limbs; x two more than the
// number's, for m0 and m1. before(strip) runs before every strip: what waits on memory costs least in small portions.
template <int KeyLen, class Before>
XVEC_INLINE void apply_matrix(Limb* columns, Limb* x, const QueryMatrix<KeyLen>& query, Before before) {
  using Size = ProductSize<KeyLen>;
  const Lanes mask = broadcast((std::uint64_t{1} << Size::bits) - 1);
  Limb carry{};
  XVEC_ROLLED for (int strip = 0; strip < Size::strips; ++strip) {
    Limb sums[kStripWidth] = {};
    before(strip);
    if (strip == 0) {
      add_products(sums, x, query.rows[0], Size::limbs);
      montgomery_quotients(x + Size::limbs, sums, query);
      add_products(sums, x + Size::limbs, query.rows[0] + Size::limbs, 2);
    } else {
      add_products(sums, x, query.rows[strip], Size::limbs + 2);
    }
    XVEC_UNROLL for (int k = 0; k < kStripWidth; ++k) {
      XVEC_UNROLL for (int g = 0; g < kGroups; ++g) {
        const Lanes column = add(sums[k].group[g], carry.group[g]);
        columns[strip * kStripWidth + k].group[g] = bit_and(column, mask);
        carry.group[g] = _mm256_srli_epi64(column, Size::bits);
      }
    }
  }
}

// Whether r >= N is possible in some lane, by the top two limbs: chance 2^-20 for random input.
template <int KeyLen>
XVEC_INLINE bool may_exceed(const Limb* r, const QueryMatrix<KeyLen>& query) {
  using Size = ProductSize<KeyLen>;
  const auto top_two = [](std::uint64_t high, std::uint64_t low) { return high << Size::bits | low; };
  const Lanes below =
      broadcast(top_two(query.modulus[Size::limbs - 1], query.modulus[Size::limbs - 2]) - 1);  // not negative: N > B
  Lanes exceeds = zero();
  for (int g = 0; g < kGroups; ++g) {
    const Lanes top = bit_or(_mm256_slli_epi64(r[Size::limbs - 1].group[g], Size::bits), r[Size::limbs - 2].group[g]);
    exceeds = bit_or(exceeds, _mm256_cmpgt_epi64(top, below));
  }
  return _mm256_testz_si256(exceeds, exceeds) == 0;
}

// Subtracts N where r >= N, in scalar code, as it practically never runs.
template <int KeyLen>
XVEC_NOINLINE void subtract_modulus(Limb* r, const QueryMatrix<KeyLen>& query) noexcept {
  using Size = ProductSize<KeyLen>;
  constexpr std::int64_t kMask = (std::int64_t{1} << Size::bits) - 1;
  std::int64_t limbs[Size::limbs][kRows];
  __builtin_memcpy(limbs, r, sizeof limbs);
  for (int lane = 0; lane < kRows; ++lane) {
    std::int64_t difference[Size::limbs], borrow = 0;
    for (int k = 0; k < Size::limbs; ++k) {
      const std::int64_t t = limbs[k][lane] - static_cast<std::int64_t>(query.modulus[k]) + borrow;
      difference[k] = t & kMask;
      borrow = t >> Size::bits;
    }
    if (borrow == 0) {
      for (int k = 0; k < Size::limbs; ++k) limbs[k][lane] = difference[k];
    }
  }
  __builtin_memcpy(r, limbs, sizeof limbs);
}

template <int KeyLen>
XVEC_INLINE void multiply_rows(const QueryMatrix<KeyLen>& query, const std::uint8_t* in, std::uint8_t* out,
                               std::size_t stride, std::size_t count) {
  using Size = ProductSize<KeyLen>;
  Limb x[Size::limbs + 2], columns[Size::strips * kStripWidth];
  for (std::size_t i = 0; i < count; i += kRows) {
    load_limbs<KeyLen>(x, in + i * stride, stride);
    const std::uint8_t* next = in + (i + kRows < count ? i + kRows : i) * stride;
    std::uint8_t* const to = out + i * stride;
    apply_matrix<KeyLen>(columns, x, query, [&](int strip) __attribute__((always_inline)) {
      // What the next block reads and this one writes.
      constexpr int kRowLines = 8 * Size::words / 64, kLines = kRows * kRowLines;
      constexpr int kPerStrip = (kLines + Size::strips - 1) / Size::strips;
      for (int line = strip * kPerStrip; line < (strip + 1) * kPerStrip && line < kLines; ++line) {
        const std::size_t at = line / kRowLines * stride + line % kRowLines * 64;
        __builtin_prefetch(next + at);
        __builtin_prefetch(to + at, 1);
      }
    });
    if (__builtin_expect(may_exceed<KeyLen>(columns + 2, query), 0)) subtract_modulus<KeyLen>(columns + 2, query);
    store_limbs<KeyLen>(to, stride, columns + 2);
  }
}

}  // namespace
}  // namespace xvec::avx2
