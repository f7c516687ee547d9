// Scale and masks of a RecordKey under one modulus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel.h"
#include "modulus.h"
#include "mpn.h"
#include "secure_memory.h"
#include "sizes.h"
#include "xvec/records.h"

namespace xvec {

enum class MaskUse { record, query };

// Items with a mask each: chunk i % chunks of row i / chunks, whose nonce is nonces[row].
struct MaskedItems {
  std::size_t first, count, chunks;
  const std::uint8_t* nonces;  // kNonceSize bytes a row
};

class RecordMasks {
 public:
  RecordMasks(const RecordKey& key, const Modulus& n, std::size_t dimensions, MaskUse use, const Keccak& keccak);

  // Masks as they leave the pseudorandom function: 128 bits longer than n, so that they are uniform modulo n to
  // 2^-128.
  [[nodiscard]] std::size_t bits() const noexcept { return 8 * size_; }
  // out: rows of AffineMap::f_stride(bits() + 1) limbs, filled up with zeros.
  void masks(Limb* out, const MaskedItems& items) const noexcept;

  // Uniform modulo n, of as many limbs; a unit, but for a chance of about 2^(1 - key_len).
  [[nodiscard]] const Limb* scale() const noexcept { return scale_memory_.as<Limb>(); }

 private:
  const Keccak& keccak_;
  std::size_t size_;    // bytes of a mask
  std::size_t length_;  // bytes of the function's input
  SecureBuffer input_;  // with room for chunk and nonce at its end
  SecureBuffer scale_memory_;
};

// Items whose masks are best made at a time, and the limbs of the longest row.
inline constexpr std::size_t kMaskGroup = Keccak::kMaxStates;
inline constexpr std::size_t kMaxMaskLimbs = AffineMap::f_stride(2 * kMaxKeyLen + 128 + 1);

}  // namespace xvec
