// Decryption of blocks of eight ciphertexts: c -> L_p(c^exponent mod p²) kappa mod p.
//
// The exponent is the key's, so all lanes run one sequence of squarings and multiplications.
#pragma once

#include "ifma.h"
#include "lanes.h"

namespace xvec::ifma {
namespace {

// Working memory of one call. It holds powers of ciphertexts that tell about the exponent, so it is wiped.
template <class Arithmetic>
struct DecryptionFrame {
  Lanes words[Arithmetic::kCipherWords];
  typename Arithmetic::Element x, entry;
  typename Arithmetic::Element table[16];
};

// entry = table[digit] of sixteen, reading all of the table: no address depends on the digit.
template <class Element>
XVEC_NOINLINE void scan_table(Element& entry, const Element* table, std::uint64_t digit) noexcept {
  constexpr int kVectors = sizeof(Element) / sizeof(Lanes);
  constexpr int kPass = 5;  // masks that fit the mask registers
  Lanes* to = reinterpret_cast<Lanes*>(&entry);
  const Lanes* from = reinterpret_cast<const Lanes*>(table);
  copy<kVectors>(to, from);
  XVEC_ROLLED for (int first = 1; first < 16; first += kPass) {
    __mmask8 is[kPass];
    XVEC_UNROLL for (int i = 0; i < kPass; ++i) {
      is[i] = _mm512_cmpeq_epi64_mask(broadcast(digit), broadcast(static_cast<std::uint64_t>(first + i)));
    }
    XVEC_ROLLED for (int k = 0; k < kVectors; ++k) {
      Lanes chosen = to[k];
      XVEC_UNROLL for (int i = 0; i < kPass; ++i) {
        chosen = _mm512_mask_mov_epi64(chosen, is[i], from[(first + i) * kVectors + k]);
      }
      to[k] = chosen;
    }
  }
}

inline void wipe_frame(void* frame, std::size_t size) {
  __builtin_memset(frame, 0, size);
  __asm__ __volatile__("" : : "r"(frame) : "memory");  // the zeros are read
}

// x = x^exponent by fixed windows of four bits: the instructions and addresses are the same for all exponents of one
// length.
template <class Arithmetic>
XVEC_INLINE void power(const Arithmetic& arithmetic, DecryptionFrame<Arithmetic>& frame,
                       const ExponentSchedule& exponent) {
  auto* table = frame.table;
  arithmetic.one(table[0]);
  table[1] = frame.x;
  XVEC_ROLLED for (int i = 2; i < 16; i += 2) {
    table[i] = table[i / 2];
    arithmetic.square(table[i]);
    table[i + 1] = table[i];
    arithmetic.multiply(table[i + 1], table[1]);
  }
  scan_table(frame.x, table, exponent.steps[0]);
  for (std::size_t i = 1; i < exponent.count; ++i) {
    XVEC_ROLLED for (int k = 0; k < 4; ++k) arithmetic.square(frame.x);
    scan_table(frame.entry, table, exponent.steps[i]);
    arithmetic.multiply(frame.x, frame.entry);
  }
}

// The same by sliding windows: the sequence depends on the exponent, never on the data.
template <class Arithmetic>
XVEC_INLINE void power_vartime(const Arithmetic& arithmetic, DecryptionFrame<Arithmetic>& frame,
                               const ExponentSchedule& exponent) {
  auto* odd = frame.table;  // x, x^3, ..., x^15
  odd[0] = frame.x;
  arithmetic.square(frame.x);
  XVEC_ROLLED for (int i = 1; i < 8; ++i) {
    odd[i] = odd[i - 1];
    arithmetic.multiply(odd[i], frame.x);
  }
  frame.x = odd[exponent.steps[0] / 2];
  for (std::size_t i = 1; i < exponent.count; ++i) {
    if (exponent.steps[i] == 0) {
      arithmetic.square(frame.x);
    } else {
      arithmetic.multiply(frame.x, odd[exponent.steps[i] / 2]);
    }
  }
}

template <class Arithmetic>
XVEC_INLINE void decrypt_rows(const typename Arithmetic::Tables& tables, const ExponentSchedule& exponent,
                              const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
                              std::size_t count) {
  const Arithmetic arithmetic(tables);
  DecryptionFrame<Arithmetic> frame;
  for (std::size_t i = 0; i < count; i += kLanes) {
    load_rows<Arithmetic::kCipherWords>(frame.words, in + i * stride, stride);
    arithmetic.enter(frame.x, frame.words);
    if (exponent.constant) {
      power(arithmetic, frame, exponent);
    } else {
      power_vartime(arithmetic, frame, exponent);
    }
    const __mmask8 good = arithmetic.leave(frame.words, frame.x);
    store_rows<Arithmetic::kPlainWords>(plain + i * Arithmetic::kPlainWords, 8 * Arithmetic::kPlainWords,
                                        frame.words);
    for (int lane = 0; lane < kLanes; ++lane) valid[i + lane] = good >> lane & 1;
  }
  wipe_frame(&frame, sizeof frame);
}

}  // namespace
}  // namespace xvec::ifma
