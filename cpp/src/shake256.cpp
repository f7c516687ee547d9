#include "shake256.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "secure_memory.h"

namespace xvec {

namespace {

constexpr std::size_t kRate = 136;  // bytes absorbed or squeezed between permutations, for 512 bits of capacity

// Iota's constants and rho's rotations along the cycle of pi, from their definitions (FIPS 202, 3.2).
struct Tables {
  std::uint64_t iota[24] = {};
  int rho[24] = {};
  int pi[24] = {};
  constexpr Tables() {
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
constexpr Tables kTables;

void permute(std::uint64_t* a) noexcept {
  for (const std::uint64_t constant : kTables.iota) {
    std::uint64_t c[5], d;
    for (int x = 0; x < 5; ++x) c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
    for (int x = 0; x < 5; ++x) {
      d = c[(x + 4) % 5] ^ std::rotl(c[(x + 1) % 5], 1);
      for (int y = 0; y < 25; y += 5) a[y + x] ^= d;
    }
    std::uint64_t moved = a[1];
#pragma GCC unroll 24
    for (int t = 0; t < 24; ++t) {
      const std::uint64_t here = a[kTables.pi[t]];
      a[kTables.pi[t]] = std::rotl(moved, kTables.rho[t]);
      moved = here;
    }
    for (int y = 0; y < 25; y += 5) {
      for (int x = 0; x < 5; ++x) c[x] = a[y + x];
      for (int x = 0; x < 5; ++x) a[y + x] = c[x] ^ (~c[(x + 1) % 5] & c[(x + 2) % 5]);
    }
    a[0] ^= constant;
  }
}

void add_block(std::uint64_t* state, const std::uint8_t* bytes) noexcept {
  for (std::size_t i = 0; i < kRate / 8; ++i) {
    std::uint64_t word;  // an array of them would stay on the stack
    std::memcpy(&word, bytes + 8 * i, sizeof word);
    state[i] ^= word;
  }
}

}  // namespace

void shake256(std::span<std::uint8_t> out, std::span<const std::uint8_t> in) noexcept {
  WipedArray<std::uint64_t, 25> state;
  WipedArray<std::uint8_t, kRate> last;
  std::memset(state, 0, sizeof state.values);
  for (; in.size() >= kRate; in = in.subspan(kRate)) {
    add_block(state, in.data());
    permute(state);
  }
  std::memset(last, 0, kRate);
  if (!in.empty()) std::memcpy(last, in.data(), in.size());
  last.values[in.size()] ^= 0x1f;
  last.values[kRate - 1] ^= 0x80;
  add_block(state, last);
  for (;;) {
    permute(state);
    const std::size_t some = std::min(kRate, out.size());
    if (some > 0) std::memcpy(out.data(), state, some);
    out = out.subspan(some);
    if (out.empty()) return;
  }
}

}  // namespace xvec
