// Keccak-f[1600] of four states.
#pragma once

#include "../keccak.h"
#include "lanes.h"

namespace xvec::avx2 {
namespace {

struct KeccakLanes {
  using Word = Lanes;
  static XVEC_INLINE Lanes all(std::uint64_t x) { return broadcast(x); }
  static XVEC_INLINE Lanes exclusive_or(Lanes a, Lanes b) { return _mm256_xor_si256(a, b); }
  static XVEC_INLINE Lanes exclusive_or(Lanes a, Lanes b, Lanes c) { return exclusive_or(exclusive_or(a, b), c); }
  static XVEC_INLINE Lanes choose(Lanes a, Lanes b, Lanes c) { return exclusive_or(a, _mm256_andnot_si256(b, c)); }
  template <int Bits>
  static XVEC_INLINE Lanes rotate(Lanes a) {
    return bit_or(_mm256_slli_epi64(a, Bits), _mm256_srli_epi64(a, 64 - Bits));
  }
};

XVEC_INLINE void permute_states(std::uint64_t* states) {
  Lanes a[kKeccakWords];
  auto* const at = reinterpret_cast<Lanes*>(states);
  XVEC_UNROLL for (int k = 0; k < kKeccakWords; ++k) a[k] = _mm256_loadu_si256(at + k);
  keccak<KeccakLanes>(a);
  XVEC_UNROLL for (int k = 0; k < kKeccakWords; ++k) _mm256_storeu_si256(at + k, a[k]);
}

}  // namespace
}  // namespace xvec::avx2
