// Eight items side by side: vectors of eight 64-bit lanes, one item in each, and the way between rows of bytes and
// vertical numbers (vector k holds limb k of all eight).
//
// Only kernel_ifma.cpp includes this. Everything in this folder but ifma.h has internal linkage: an inline function
// with external linkage would be emitted for AVX-512 under a name that other files share, and the linker might keep
// that copy for processors that cannot run it.
#pragma once

#include <cstddef>
#include <cstdint>

// gcc 12 takes the undefined pass-through operand of unmasked intrinsics for a use of uninitialised memory.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#define XVEC_INLINE inline __attribute__((always_inline))
// Keeps a kernel apart from its caller: merged, they spill registers (measured: 30 % slower).
#define XVEC_NOINLINE __attribute__((noinline))
#define XVEC_UNROLL _Pragma("GCC unroll 128")
#define XVEC_ROLLED _Pragma("GCC unroll 1")

namespace xvec::ifma {
namespace {

using Lanes = __m512i;

constexpr int kLanes = 8;

XVEC_INLINE Lanes zero() { return _mm512_setzero_si512(); }
XVEC_INLINE Lanes broadcast(std::uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
XVEC_INLINE Lanes add(Lanes a, Lanes b) { return _mm512_add_epi64(a, b); }
XVEC_INLINE Lanes sub(Lanes a, Lanes b) { return _mm512_sub_epi64(a, b); }
XVEC_INLINE Lanes bit_and(Lanes a, Lanes b) { return _mm512_and_si512(a, b); }
XVEC_INLINE Lanes bit_or(Lanes a, Lanes b) { return _mm512_or_si512(a, b); }
// Arithmetic: rounds towards minus infinity, so that signed columns carry correctly.
template <int Bits>
XVEC_INLINE Lanes shift_right(Lanes a) {
  return _mm512_srai_epi64(a, Bits);
}
XVEC_INLINE Lanes shift_left_1(Lanes a) { return add(a, a); }
// accumulator + the low, or the high, 52 bits of the product of the low 52 bits of a and b. Bits 52 and up of a and b
// are ignored without notice: every sum that becomes a factor needs a bound.
XVEC_INLINE Lanes madd_lo(Lanes accumulator, Lanes a, Lanes b) { return _mm512_madd52lo_epu64(accumulator, a, b); }
XVEC_INLINE Lanes madd_hi(Lanes accumulator, Lanes a, Lanes b) { return _mm512_madd52hi_epu64(accumulator, a, b); }

// Any alignment. Lanes are read and written through these, never through a pointer to uint64_t (gcc 12 miscompiles
// that aliasing).
XVEC_INLINE Lanes load(const void* from) { return _mm512_loadu_si512(from); }
XVEC_INLINE void store(void* to, Lanes a) { _mm512_storeu_si512(to, a); }

// Calls f(Index<First>{}), ..., f(Index<Last - 1>{}): unrolled loops whose index is a constant expression, as shifts
// by an immediate need it.
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

template <int Count>
XVEC_INLINE void copy(Lanes* to, const Lanes* from) {
  for (int k = 0; k < Count; ++k) to[k] = from[k];
}

// Overwrites working memory that told about secrets; the compiler may not leave it out.
XVEC_INLINE void wipe_frame(void* frame, std::size_t size) {
  __builtin_memset(frame, 0, size);
  __asm__ __volatile__("" : : "r"(frame) : "memory");  // the zeros are read
}

// Transposes an 8x8 matrix of 64-bit elements in place; rows[i] is row i.
XVEC_INLINE void transpose(Lanes* rows) {
  Lanes pairs[8];
  XVEC_UNROLL for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm512_unpacklo_epi64(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi64(rows[i], rows[i + 1]);
  }
  XVEC_UNROLL for (int odd = 0; odd < 2; ++odd) {
    const Lanes a = _mm512_shuffle_i64x2(pairs[odd], pairs[2 + odd], 0x88);
    const Lanes b = _mm512_shuffle_i64x2(pairs[odd], pairs[2 + odd], 0xdd);
    const Lanes c = _mm512_shuffle_i64x2(pairs[4 + odd], pairs[6 + odd], 0x88);
    const Lanes d = _mm512_shuffle_i64x2(pairs[4 + odd], pairs[6 + odd], 0xdd);
    rows[odd] = _mm512_shuffle_i64x2(a, c, 0x88);
    rows[odd + 4] = _mm512_shuffle_i64x2(a, c, 0xdd);
    rows[odd + 2] = _mm512_shuffle_i64x2(b, d, 0x88);
    rows[odd + 6] = _mm512_shuffle_i64x2(b, d, 0xdd);
  }
}

// Eight rows of Words 64-bit words, stride bytes apart, as vertical words. Words is a multiple of 8; any alignment.
template <int Words>
XVEC_INLINE void load_rows(Lanes* words, const void* rows, std::size_t stride) {
  static_assert(Words % 8 == 0);
  const std::uint8_t* row = static_cast<const std::uint8_t*>(rows);
  for (int block = 0; block < Words; block += 8) {
    Lanes square[8];
    XVEC_UNROLL for (int i = 0; i < 8; ++i) square[i] = load(row + i * stride + 8 * block);
    transpose(square);
    XVEC_UNROLL for (int i = 0; i < 8; ++i) words[block + i] = square[i];
  }
}

// The way back.
template <int Words>
XVEC_INLINE void store_rows(void* rows, std::size_t stride, const Lanes* words) {
  static_assert(Words % 8 == 0);
  std::uint8_t* row = static_cast<std::uint8_t*>(rows);
  for (int block = 0; block < Words; block += 8) {
    Lanes square[8];
    XVEC_UNROLL for (int i = 0; i < 8; ++i) square[i] = words[block + i];
    transpose(square);
    XVEC_UNROLL for (int i = 0; i < 8; ++i) store(row + i * stride + 8 * block, square[i]);
  }
}

// Vertical words to limbs of radix 2^Bits, 32 < Bits < 64. Limbs beyond the words' bits are zero.
template <int Bits, int Words, int Limbs>
XVEC_INLINE void words_to_limbs(Lanes* limbs, const Lanes* words) {
  static_assert(32 < Bits && Bits < 64 && Words > 0);
  const Lanes mask = broadcast((std::uint64_t{1} << Bits) - 1);
  for_each_index<0, Limbs>([&](auto j) __attribute__((always_inline)) {
    constexpr int first = Bits * j / 64;
    constexpr int shift = Bits * j % 64;
    if constexpr (first >= Words) {
      limbs[j] = zero();
    } else if constexpr (first + 1 == Words || shift + Bits <= 64) {
      limbs[j] = bit_and(_mm512_srli_epi64(words[first], shift), mask);
    } else {
      limbs[j] = bit_and(_mm512_shrdi_epi64(words[first], words[first + 1], shift), mask);
    }
  });
}

// Canonical limbs (each < 2^Bits), 32 < Bits < 64, to vertical words; the value's bits beyond the words are dropped.
template <int Bits, int Limbs, int Words>
XVEC_INLINE void limbs_to_words(Lanes* words, const Lanes* limbs) {
  static_assert(32 < Bits && Bits < 64);
  for_each_index<0, Words>([&](auto i) __attribute__((always_inline)) {
    constexpr int first = 64 * i / Bits;
    constexpr int shift = 64 * i % Bits;
    Lanes word = zero();
    if constexpr (first < Limbs) word = shift == 0 ? limbs[first] : _mm512_srli_epi64(limbs[first], shift);
    if constexpr (first + 1 < Limbs) word = bit_or(word, _mm512_slli_epi64(limbs[first + 1], Bits - shift));
    if constexpr (2 * Bits - shift < 64 && first + 2 < Limbs) {
      word = bit_or(word, _mm512_slli_epi64(limbs[first + 2], 2 * Bits - shift));
    }
    words[i] = word;
  });
}

}  // namespace
}  // namespace xvec::ifma
