#include "shake256.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "keccak.h"
#include "secure_memory.h"

namespace xvec {

namespace {

constexpr std::size_t kRate = 136;  // bytes absorbed or squeezed between permutations, for 512 bits of capacity

struct OneState {
  using Word = std::uint64_t;
  static Word all(Word x) { return x; }
  static Word exclusive_or(Word a, Word b) { return a ^ b; }
  static Word exclusive_or(Word a, Word b, Word c) { return a ^ b ^ c; }
  static Word choose(Word a, Word b, Word c) { return a ^ (~b & c); }
  template <int Bits>
  static Word rotate(Word a) {
    return std::rotl(a, Bits);
  }
};

void permute(std::uint64_t* at) noexcept {
  WipedArray<std::uint64_t, kKeccakWords> state;
  std::memcpy(state, at, sizeof state.values);
  keccak<OneState>(state);
  std::memcpy(at, state, sizeof state.values);
}

// At most keccak.states messages.
void shake_group(const Keccak& keccak, std::uint8_t* out, std::size_t size, std::size_t stride,
                 const Messages& messages) noexcept {
  alignas(64) WipedArray<std::uint64_t, kKeccakWords * Keccak::kMaxStates> states;
  WipedArray<std::uint64_t, kRate / 8> block;
  const std::size_t lanes = keccak.states;
  std::memset(states, 0, kKeccakWords * lanes * sizeof(std::uint64_t));
  for (std::size_t at = 0;; at += kRate) {
    const std::size_t some = std::min(kRate, messages.size - at);
    for (std::size_t i = 0; i < messages.count; ++i) {
      if (some < kRate) {
        auto* bytes = reinterpret_cast<std::uint8_t*>(block.values);
        std::memset(bytes, 0, kRate);
        bytes[some] = 0x1f;
        bytes[kRate - 1] |= 0x80;
      }
      if (some > 0) std::memcpy(block, messages.data + i * messages.size + at, some);
      for (std::size_t k = 0; k < kRate / 8; ++k) states[k * lanes + i] ^= block[k];
    }
    keccak.permute(states);
    if (some < kRate) break;
  }
  for (std::size_t at = 0;;) {
    const std::size_t some = std::min(kRate, size - at);
    for (std::size_t i = 0; i < messages.count; ++i) {
      for (std::size_t k = 0; k < kRate / 8; ++k) block[k] = states[k * lanes + i];
      if (some > 0) std::memcpy(out + i * stride + at, block, some);
    }
    at += some;
    if (at == size) return;
    keccak.permute(states);
  }
}

}  // namespace

constinit const Keccak kPortableKeccak{1, permute};

void shake256(const Keccak& keccak, std::uint8_t* out, std::size_t size, std::size_t stride,
              const Messages& messages) noexcept {
  for (std::size_t i = 0; i < messages.count; i += keccak.states) {
    shake_group(keccak, out + i * stride, size, stride,
                {messages.data + i * messages.size, messages.size, std::min(keccak.states, messages.count - i)});
  }
}

void shake256(std::span<std::uint8_t> out, std::span<const std::uint8_t> in) noexcept {
  shake256(kPortableKeccak, out.data(), out.size(), 0, {in.data(), in.size(), 1});
}

}  // namespace xvec
