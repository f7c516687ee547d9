// Keccak-f[1600] (FIPS 202, 3.2-3.3), once for every kind of word: 64 bits of one state, or a vector with a word of
// each of several states.
//
// Compiled for one instruction set each by the files that include this, so everything has internal linkage: see
// ifma/lanes.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace xvec {
namespace {

constexpr int kKeccakWords = 25;

// Iota's constants and rho's rotations along the cycle of pi, from their definitions.
struct KeccakTables {
  std::uint64_t iota[24] = {};
  int rho[24] = {};
  int pi[24] = {};
  constexpr KeccakTables() {
    unsigned lfsr = 1;  // x^8 + x^6 + x^5 + x^4 + 1
    for (auto& constant : iota) {
      for (int j = 0; j < 7; ++j) {
        if ((lfsr & 1) != 0) constant |= std::uint64_t{1} << ((1 << j) - 1);
        lfsr = lfsr << 1 ^ ((lfsr & 0x80) != 0 ? 0x171 : 0);
      }
    }
    for (int t = 0, x = 1, y = 0; t < 24; ++t) {
      rho[t] = (t + 1) * (t + 2) / 2 % 64;
      const int next = (2 * x + 3 * y) % 5;
      x = y;
      y = next;
      pi[t] = x + 5 * y;
    }
  }
};
constexpr KeccakTables kKeccak;

template <int... I, class F>
inline __attribute__((always_inline)) void keccak_each(std::integer_sequence<int, I...>, F f) {
  (f(std::integral_constant<int, I>{}), ...);
}
template <int Count, class F>
inline __attribute__((always_inline)) void keccak_each(F f) {
  keccak_each(std::make_integer_sequence<int, Count>{}, f);
}

// Words: the type `Word`, and static functions
//   all(uint64_t)        the word in every state
//   exclusive_or(a, b), exclusive_or(a, b, c)
//   choose(a, b, c)      a xor (not b and c)
//   rotate<Bits>(a)      to the left, 0 < Bits < 64
template <class Words>
inline __attribute__((always_inline)) void keccak(typename Words::Word* a) {
  using Word = typename Words::Word;
  for (const std::uint64_t constant : kKeccak.iota) {
    Word c[5], d[5];
    keccak_each<5>([&](auto x) __attribute__((always_inline)) {
      c[x] = Words::exclusive_or(Words::exclusive_or(a[x], a[x + 5], a[x + 10]), a[x + 15], a[x + 20]);
    });
    keccak_each<5>([&](auto x) __attribute__((always_inline)) {
      d[x] = Words::exclusive_or(c[(x + 4) % 5], Words::template rotate<1>(c[(x + 1) % 5]));
    });
    Word moved = Words::exclusive_or(a[1], d[1]);
    a[0] = Words::exclusive_or(a[0], d[0]);
    keccak_each<24>([&](auto t) __attribute__((always_inline)) {
      constexpr int to = kKeccak.pi[t];
      const Word here = Words::exclusive_or(a[to], d[to % 5]);
      a[to] = Words::template rotate<kKeccak.rho[t]>(moved);
      moved = here;
    });
    keccak_each<5>([&](auto row) __attribute__((always_inline)) {
      constexpr int y = 5 * row;
      for (int x = 0; x < 5; ++x) c[x] = a[y + x];
      keccak_each<5>([&](auto x) __attribute__((always_inline)) {
        a[y + x] = Words::choose(c[x], c[(x + 1) % 5], c[(x + 2) % 5]);
      });
    });
    a[0] = Words::exclusive_or(a[0], Words::all(constant));
  }
}

}  // namespace
}  // namespace xvec
