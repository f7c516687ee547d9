// Scale and masks of a RecordKey under one modulus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "affine_map.h"
#include "mpn.h"
#include "secure_memory.h"
#include "sizes.h"
#include "xvec/records.h"

namespace xvec {

enum class MaskUse { record, query };

class RecordMasks {
 public:
  RecordMasks(const RecordKey& key, const Modulus& n, std::size_t dimensions, MaskUse use);

  // A mask as it leaves the pseudorandom function: 128 bits longer than n, so that it is uniform modulo n to 2^-128.
  [[nodiscard]] std::size_t limbs() const noexcept { return (size_ + 7) / 8; }
  void mask(Limb* out, std::size_t chunk, const std::uint8_t* nonce) const noexcept;

  // Uniform modulo n, of as many limbs; a unit, but for a chance of about 2^(1 - key_len).
  [[nodiscard]] const Limb* scale() const noexcept { return scale_memory_.as<Limb>(); }

 private:
  std::size_t size_;    // bytes of a mask
  std::size_t length_;  // bytes of the function's input
  SecureBuffer input_;  // with room for chunk and nonce at its end
  SecureBuffer scale_memory_;
};

inline constexpr std::size_t kMaxMaskLimbs = 2 * kMaxPrimeLimbs + 2;

}  // namespace xvec
