// Four items side by side: vectors of four 64-bit lanes, and the way between rows of bytes and vertical numbers. As
// in ifma/lanes.h, which tells why, everything in this folder but avx2.h has internal linkage.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#define XVEC_INLINE inline __attribute__((always_inline))
#define XVEC_NOINLINE __attribute__((noinline))
#define XVEC_UNROLL _Pragma("GCC unroll 64")
#define XVEC_ROLLED _Pragma("GCC unroll 1")

namespace xvec::avx2 {
namespace {

using Lanes = __m256i;

constexpr int kLanes = 4;

XVEC_INLINE Lanes zero() { return _mm256_setzero_si256(); }
XVEC_INLINE Lanes broadcast(std::uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
// For factors only, whose upper half is ignored: one load instruction fills both halves.
XVEC_INLINE Lanes broadcast_factor(std::uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
XVEC_INLINE Lanes add(Lanes a, Lanes b) { return _mm256_add_epi64(a, b); }
XVEC_INLINE Lanes sub(Lanes a, Lanes b) { return _mm256_sub_epi64(a, b); }
XVEC_INLINE Lanes bit_and(Lanes a, Lanes b) { return _mm256_and_si256(a, b); }
XVEC_INLINE Lanes bit_or(Lanes a, Lanes b) { return _mm256_or_si256(a, b); }
// The product of the low 32 bits of a and b.
XVEC_INLINE Lanes product(Lanes a, Lanes b) { return _mm256_mul_epu32(a, b); }

// Calls f(Index<First>{}), ..., f(Index<Last - 1>{}): unrolled loops whose index is a constant expression.
template <int I>
struct Index {
  constexpr operator int() const { return I; }
};
template <int First, int Last, class F>
XVEC_INLINE void for_each_index(F f) {
  if constexpr (First < Last) {
    f(Index<First>{});
    for_each_index<First + 1, Last>(f);
  }
}

// Transposes a 4x4 matrix of 64-bit elements in place.
XVEC_INLINE void transpose(Lanes* rows) {
  const Lanes a = _mm256_unpacklo_epi64(rows[0], rows[1]), b = _mm256_unpackhi_epi64(rows[0], rows[1]);
  const Lanes c = _mm256_unpacklo_epi64(rows[2], rows[3]), d = _mm256_unpackhi_epi64(rows[2], rows[3]);
  rows[0] = _mm256_permute2x128_si256(a, c, 0x20);
  rows[1] = _mm256_permute2x128_si256(b, d, 0x20);
  rows[2] = _mm256_permute2x128_si256(a, c, 0x31);
  rows[3] = _mm256_permute2x128_si256(b, d, 0x31);
}

// Four rows of Words 64-bit words, stride bytes apart, as vertical words. Words is a multiple of 4; any alignment.
template <int Words>
XVEC_INLINE void load_rows(Lanes* words, const void* rows, std::size_t stride) {
  static_assert(Words % 4 == 0);
  const auto* bytes = static_cast<const std::uint8_t*>(rows);
  for (int block = 0; block < Words; block += kLanes) {
    XVEC_UNROLL for (int i = 0; i < kLanes; ++i) {
      words[block + i] = _mm256_loadu_si256(reinterpret_cast<const Lanes*>(bytes + i * stride + 8 * block));
    }
    transpose(words + block);
  }
}

// The way back; destroys words.
template <int Words>
XVEC_INLINE void store_rows(void* rows, std::size_t stride, Lanes* words) {
  static_assert(Words % 4 == 0);
  auto* bytes = static_cast<std::uint8_t*>(rows);
  for (int block = 0; block < Words; block += kLanes) {
    transpose(words + block);
    XVEC_UNROLL for (int i = 0; i < kLanes; ++i) {
      _mm256_storeu_si256(reinterpret_cast<Lanes*>(bytes + i * stride + 8 * block), words[block + i]);
    }
  }
}

// Limb `at` of radix 2^Bits, Bits <= 32, of vertical words.
template <int Bits>
XVEC_INLINE Lanes limb_of_words(const Lanes* words, int word_count, int at) {
  const int word = Bits * at / 64, shift = Bits * at % 64;
  Lanes limb = _mm256_srli_epi64(words[word], shift);
  if (shift + Bits > 64 && word + 1 < word_count) {
    limb = bit_or(limb, _mm256_slli_epi64(words[word + 1], 64 - shift));
  }
  return bit_and(limb, broadcast((std::uint64_t{1} << Bits) - 1));
}

// Word `at` of canonical limbs of radix 2^Bits; limb(j) is limb j.
template <int Bits, class Limb>
XVEC_INLINE Lanes word_of_limbs(Limb limb, int limb_count, int at) {
  int j = 64 * at / Bits;
  const int offset = 64 * at % Bits;
  Lanes word = _mm256_srli_epi64(limb(j), offset);
  for (int shift = Bits - offset; shift < 64 && ++j < limb_count; shift += Bits) {
    word = bit_or(word, _mm256_slli_epi64(limb(j), shift));
  }
  return word;
}

// Overwrites working memory that told about secrets; the compiler may not leave it out.
XVEC_INLINE void wipe_frame(void* frame, std::size_t size) {
  __builtin_memset(frame, 0, size);
  __asm__ __volatile__("" : : "r"(frame) : "memory");  // the zeros are read
}

}  // namespace
}  // namespace xvec::avx2
