// Keccak-f[1600] of eight states.
#pragma once

#include "../keccak.h"
#include "lanes.h"

namespace xvec::ifma {
namespace {

struct KeccakLanes {
  using Word = Lanes;
  static XVEC_INLINE Lanes all(std::uint64_t x) { return broadcast(x); }
  static XVEC_INLINE Lanes exclusive_or(Lanes a, Lanes b) { return _mm512_xor_si512(a, b); }
  // The immediate is the result's truth table, a counting 4, b 2 and c 1.
  static XVEC_INLINE Lanes exclusive_or(Lanes a, Lanes b, Lanes c) {
    return _mm512_ternarylogic_epi64(a, b, c, 0x96);
  }
  static XVEC_INLINE Lanes choose(Lanes a, Lanes b, Lanes c) { return _mm512_ternarylogic_epi64(a, b, c, 0xd2); }
  template <int Bits>
  static XVEC_INLINE Lanes rotate(Lanes a) {
    return _mm512_rol_epi64(a, Bits);
  }
};

XVEC_INLINE void permute_states(std::uint64_t* states) {
  Lanes a[kKeccakWords];
  XVEC_UNROLL for (int k = 0; k < kKeccakWords; ++k) a[k] = load(states + kLanes * k);
  keccak<KeccakLanes>(a);
  XVEC_UNROLL for (int k = 0; k < kKeccakWords; ++k) store(states + kLanes * k, a[k]);
}

}  // namespace
}  // namespace xvec::ifma
