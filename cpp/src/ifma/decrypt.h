// Decryption of blocks of eight ciphertexts: c -> L_p(c^exponent mod p²) kappa mod p.
//
// The exponent is the key's, so all lanes run one sequence of squarings and multiplications.
#pragma once

#include "decrypt_tables.h"
#include "lanes.h"
#include "scan.h"

namespace xvec::ifma {
namespace {

// Working memory of one call. It holds powers of ciphertexts that tell about the exponent, so it is wiped.
template <class Padic>
struct DecryptionFrame {
  explicit DecryptionFrame(const typename Padic::Tables& tables) : padic(tables.modulus) {}
  Padic padic;
  Lanes words[Padic::kCipherWords];
  typename Padic::Element x, entry;
  typename Padic::Element table[16];
};

// x = x^exponent by fixed windows of four bits: the instructions and addresses are the same for all exponents of one
// length. The table is scanned while squarings run.
template <class Padic>
XVEC_INLINE void power(DecryptionFrame<Padic>& frame, const typename Padic::Tables& tables,
                       const ExponentSchedule& exponent) {
  Padic& padic = frame.padic;
  auto* table = frame.table;
  padic.one(table[0], tables);
  table[1] = frame.x;
  padic.start(table[1]);
  XVEC_ROLLED for (int i = 2; i < 16; i += 2) {
    padic.square();
    padic.then_multiply(table[1]);
    padic.get(table[i]);
    padic.multiply(table[1]);
    padic.then_restart(table[i + 1], table[i / 2 + 1]);
  }
  XVEC_ROLLED for (int pass = 0; pass < kScanPasses; ++pass) {
    run_scan(scan_pass(pass, table, frame.entry, exponent.steps[0]));
  }
  padic.start(frame.entry);
  for (std::size_t i = 1; i < exponent.count; ++i) {
    XVEC_ROLLED for (int pass = 0; pass < kScanPasses; ++pass) {
      padic.square();
      padic.then_square(scan_pass(pass, table, frame.entry, exponent.steps[i]));
    }
    padic.square();
    padic.then_multiply(frame.entry);
    padic.multiply(frame.entry);
    padic.then_square();
  }
  padic.get(frame.x);
}

// The same by sliding windows: the sequence depends on the exponent, never on the data.
template <class Padic>
XVEC_INLINE void power_vartime(DecryptionFrame<Padic>& frame, const ExponentSchedule& exponent) {
  Padic& padic = frame.padic;
  auto* odd = frame.table;  // x, x^3, ..., x^15
  odd[0] = frame.x;
  padic.start(odd[0]);
  padic.square();
  padic.then_multiply(odd[0]);
  padic.get(frame.entry);  // x²
  padic.multiply(odd[0]);
  XVEC_ROLLED for (int i = 1; i < 7; ++i) {
    padic.then_multiply(frame.entry);
    padic.get(odd[i]);
    padic.multiply(frame.entry);
  }
  padic.then_square();
  padic.get(odd[7]);
  padic.start(odd[exponent.steps[0] / 2]);
  for (std::size_t i = 1; i < exponent.count; ++i) {
    const unsigned digit = exponent.steps[i];
    if (digit == 0) {
      padic.square();
    } else {
      padic.multiply(odd[digit / 2]);
    }
    const unsigned next = i + 1 < exponent.count ? exponent.steps[i + 1] : 0;
    if (next == 0) {
      padic.then_square();
    } else {
      padic.then_multiply(odd[next / 2]);
    }
  }
  padic.get(frame.x);
}

template <class Padic>
XVEC_INLINE void decrypt_rows(const typename Padic::Tables& tables, const ExponentSchedule& exponent,
                              const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
                              std::size_t count) {
  DecryptionFrame<Padic> frame(tables);
  for (std::size_t i = 0; i < count; i += kLanes) {
    load_rows<Padic::kCipherWords>(frame.words, in + i * stride, stride);
    frame.padic.enter(frame.x, frame.words, tables);
    if (exponent.constant) {
      power(frame, tables, exponent);
    } else {
      power_vartime(frame, exponent);
    }
    const __mmask8 good = frame.padic.leave(frame.words, frame.x, tables);
    store_rows<Padic::kPlainWords>(plain + i * Padic::kPlainWords, 8 * Padic::kPlainWords, frame.words);
    for (int lane = 0; lane < kLanes; ++lane) valid[i + lane] = good >> lane & 1;
  }
  wipe_frame(&frame, sizeof frame);
}

}  // namespace
}  // namespace xvec::ifma
