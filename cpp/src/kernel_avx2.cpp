// Everything that is compiled for AVX2, and nothing else: the server's product, eight rows at a time in two groups of
// four 64-bit lanes. All but the functions of avx2/avx2.h is internal to this file; ifma/lanes.h tells why.
//
// The method is that of ifma/product.h without Winograd's pairing, which here would trade each multiplication for two
// additions of equal cost: X = sum of x_j T_j < limbs B N, and two Montgomery limbs m0, m1 make it
// r = (X + m0 N + m1 B N) / B^2 < N (1 + limbs / B).
//
// Bounds. x_j, T_j's limbs, m0, m1 and N's limbs are < B: a column of limbs + 2 products and a carry (< 2^37) is below
// (limbs + 2) B^2 + 2^37 < 2^64 for 149 and 222 limbs of 28 bits and 306 of 27.
#include <immintrin.h>

#include "avx2/avx2.h"

#define XVEC_INLINE inline __attribute__((always_inline))
#define XVEC_NOINLINE __attribute__((noinline))
#define XVEC_UNROLL _Pragma("GCC unroll 64")
#define XVEC_ROLLED _Pragma("GCC unroll 1")

namespace xvec::avx2 {
namespace {

using Lanes = __m256i;

constexpr int kGroups = 2;
constexpr int kGroupLanes = 4;
constexpr int kRows = kGroups * kGroupLanes;

// One number in each of eight lanes, limb by limb.
struct Limb {
  Lanes group[kGroups];
};

XVEC_INLINE Lanes broadcast(std::uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
// For factors of vpmuludq only, which ignores the upper half of every lane: one load instruction fills both.
XVEC_INLINE Lanes broadcast_factor(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }

// Transposes a 4x4 matrix of 64-bit elements in place.
XVEC_INLINE void transpose(Lanes* rows) {
  const Lanes a = _mm256_unpacklo_epi64(rows[0], rows[1]), b = _mm256_unpackhi_epi64(rows[0], rows[1]);
  const Lanes c = _mm256_unpacklo_epi64(rows[2], rows[3]), d = _mm256_unpackhi_epi64(rows[2], rows[3]);
  rows[0] = _mm256_permute2x128_si256(a, c, 0x20);
  rows[1] = _mm256_permute2x128_si256(b, d, 0x20);
  rows[2] = _mm256_permute2x128_si256(a, c, 0x31);
  rows[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

// Bits [at, at + Bits) of vertical words.
template <int Bits>
XVEC_INLINE Lanes extract(const Lanes* words, int word_count, int at) {
  const int word = at / 64, shift = at % 64;
  Lanes limb = _mm256_srli_epi64(words[word], shift);
  if (shift + Bits > 64 && word + 1 < word_count) {
    limb = _mm256_or_si256(limb, _mm256_slli_epi64(words[word + 1], 64 - shift));
  }
  return _mm256_and_si256(limb, broadcast((std::uint64_t{1} << Bits) - 1));
}

// Eight rows of bytes to limbs.
template <int KeyLen>
XVEC_NOINLINE void load_rows(Limb* limbs, const std::uint8_t* rows, std::size_t stride) noexcept {
  using Size = ProductSize<KeyLen>;
  Lanes words[Size::words];
  for (int g = 0; g < kGroups; ++g) {
    for (int block = 0; block < Size::words; block += kGroupLanes) {
      XVEC_UNROLL for (int i = 0; i < kGroupLanes; ++i) {
        const std::uint8_t* row = rows + (g * kGroupLanes + i) * stride + 8 * block;
        words[block + i] = _mm256_loadu_si256(reinterpret_cast<const Lanes*>(row));
      }
      transpose(words + block);
    }
    for (int j = 0; j < Size::limbs; ++j) limbs[j].group[g] = extract<Size::bits>(words, Size::words, Size::bits * j);
  }
}

// Canonical limbs to eight rows of bytes.
template <int KeyLen>
XVEC_NOINLINE void store_rows(std::uint8_t* rows, std::size_t stride, const Limb* limbs) noexcept {
  using Size = ProductSize<KeyLen>;
  Lanes words[kGroupLanes];
  for (int g = 0; g < kGroups; ++g) {
    for (int block = 0; block < Size::words; block += kGroupLanes) {
      for (int i = 0; i < kGroupLanes; ++i) {
        const int first = 64 * (block + i) / Size::bits, offset = 64 * (block + i) % Size::bits;
        Lanes word = _mm256_srli_epi64(limbs[first].group[g], offset);
        for (int shift = Size::bits - offset, j = first + 1; shift < 64 && j < Size::limbs;
             shift += Size::bits, ++j) {
          word = _mm256_or_si256(word, _mm256_slli_epi64(limbs[j].group[g], shift));
        }
        words[i] = word;
      }
      transpose(words);
      XVEC_UNROLL for (int i = 0; i < kGroupLanes; ++i) {
        std::uint8_t* row = rows + (g * kGroupLanes + i) * stride + 8 * block;
        _mm256_storeu_si256(reinterpret_cast<Lanes*>(row), words[i]);
      }
    }
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
        strip[k].group[g] = _mm256_add_epi64(strip[k].group[g], _mm256_mul_epu32(factor.group[g], entry));
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
    const Lanes m0 = _mm256_and_si256(_mm256_mul_epu32(_mm256_and_si256(sums[0].group[g], mask), inverse), mask);
    const Lanes column0 = _mm256_add_epi64(sums[0].group[g], _mm256_mul_epu32(m0, n0));
    const Lanes column1 = _mm256_add_epi64(_mm256_add_epi64(sums[1].group[g], _mm256_mul_epu32(m0, n1)),
                                           _mm256_srli_epi64(column0, kBits));
    m[0].group[g] = m0;
    m[1].group[g] = _mm256_and_si256(_mm256_mul_epu32(_mm256_and_si256(column1, mask), inverse), mask);
  }
}

// columns[2 + k], k < limbs, becomes limb k of r < 2N. columns holds strips * kStripWidth limbs; x two more than the
// number's, for m0 and m1.
template <int KeyLen>
XVEC_INLINE void apply_matrix(Limb* columns, Limb* x, const QueryMatrix<KeyLen>& query) {
  using Size = ProductSize<KeyLen>;
  const Lanes mask = broadcast((std::uint64_t{1} << Size::bits) - 1);
  Limb carry{};
  XVEC_ROLLED for (int strip = 0; strip < Size::strips; ++strip) {
    Limb sums[kStripWidth] = {};
    if (strip == 0) {
      add_products(sums, x, query.rows[0], Size::limbs);
      montgomery_quotients(x + Size::limbs, sums, query);
      add_products(sums, x + Size::limbs, query.rows[0] + Size::limbs, 2);
    } else {
      add_products(sums, x, query.rows[strip], Size::limbs + 2);
    }
    XVEC_UNROLL for (int k = 0; k < kStripWidth; ++k) {
      XVEC_UNROLL for (int g = 0; g < kGroups; ++g) {
        const Lanes column = _mm256_add_epi64(sums[k].group[g], carry.group[g]);
        columns[strip * kStripWidth + k].group[g] = _mm256_and_si256(column, mask);
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
  Lanes exceeds = _mm256_setzero_si256();
  for (int g = 0; g < kGroups; ++g) {
    const Lanes top =
        _mm256_or_si256(_mm256_slli_epi64(r[Size::limbs - 1].group[g], Size::bits), r[Size::limbs - 2].group[g]);
    exceeds = _mm256_or_si256(exceeds, _mm256_cmpgt_epi64(top, below));
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
    load_rows<KeyLen>(x, in + i * stride, stride);
    // What the next block reads and this one writes.
    const std::uint8_t* next = in + (i + kRows < count ? i + kRows : i) * stride;
    for (int row = 0; row < kRows; ++row) {
      for (int k = 0; k < 8 * Size::words; k += 64) {
        __builtin_prefetch(next + row * stride + k);
        __builtin_prefetch(out + (i + row) * stride + k, 1);
      }
    }
    apply_matrix<KeyLen>(columns, x, query);
    if (__builtin_expect(may_exceed<KeyLen>(columns + 2, query), 0)) subtract_modulus<KeyLen>(columns + 2, query);
    store_rows<KeyLen>(out + i * stride, stride, columns + 2);
  }
}

}  // namespace

void multiply(const QueryMatrix<1024>& query, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept {
  multiply_rows(query, in, out, stride, count);
}
void multiply(const QueryMatrix<1536>& query, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept {
  multiply_rows(query, in, out, stride, count);
}
void multiply(const QueryMatrix<2048>& query, const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
              std::size_t count) noexcept {
  multiply_rows(query, in, out, stride, count);
}

}  // namespace xvec::avx2
