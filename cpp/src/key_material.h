// The secret values of a key, packed into one locked buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "integer.h"
#include "secure_memory.h"
#include "xvec/paillier.h"

namespace xvec::detail {

class KeyMaterial {
 public:
  struct Values {
    Integer p, q;      // p > q, of key_len bits each
    Integer a_p, a_q;  // orders of the noise base; 0 for plain keys
    Integer inverse;   // as stored in contexts, see SecretKey::load
  };

  // Derives the rest from values that were checked to belong together.
  KeyMaterial(PublicKey key, const Values& values);

  [[nodiscard]] const PublicKey& public_key() const noexcept { return public_; }
  [[nodiscard]] std::size_t key_len() const noexcept { return key_len_; }
  [[nodiscard]] std::size_t alpha_len() const noexcept { return alpha_len_; }
  [[nodiscard]] bool has_subgroup() const noexcept { return alpha_len_ != 0; }

  [[nodiscard]] Integer p() const { return get(0); }
  [[nodiscard]] Integer q() const { return get(1); }
  [[nodiscard]] Integer a_p() const { return get(2); }
  [[nodiscard]] Integer a_q() const { return get(3); }
  [[nodiscard]] Integer inverse() const { return get(4); }
  // Exponents of decryption: a_p and a_q, or p - 1 and q - 1 for plain keys.
  [[nodiscard]] Integer exponent_p() const { return has_subgroup() ? a_p() : p() - Integer(1); }
  [[nodiscard]] Integer exponent_q() const { return has_subgroup() ? a_q() : q() - Integer(1); }
  // L_p(g^exponent mod p²)^-1 mod p, always computed from g.
  [[nodiscard]] Integer kappa_p() const { return get(5); }
  [[nodiscard]] Integer kappa_q() const { return get(6); }
  // Messages enter as 1 + p (m * scale): scale = (kappa * exponent)^-1 mod p.
  [[nodiscard]] Integer scale_p() const { return get(7); }
  [[nodiscard]] Integer scale_q() const { return get(8); }

 private:
  static constexpr std::size_t kSlots = 9;
  void put(std::size_t slot, const Integer& value);
  [[nodiscard]] Integer get(std::size_t slot) const;

  PublicKey public_;
  std::size_t key_len_, alpha_len_, slot_limbs_;
  SecureBuffer memory_;
};

// The first rule of docs/security.md for generated keys that these values break, in words; empty if they keep all.
// g_n is looked at for subgroup keys only. Generation ends with it and fails closed.
std::string broken_generation_rule(const KeyMaterial::Values& values, std::size_t key_len, std::size_t alpha_len,
                                   const Integer& g_n);

// Bits of each prime of a modulus of 2 key_len or 2 key_len - 1 bits.
std::size_t key_len_of(const Integer& n);

// The floors of docs/security.md for a modulus of that many bits: bits of each of a_p and a_q.
std::size_t subgroup_floor(std::size_t modulus_bits);
inline constexpr std::size_t kModulusFloor = 2047;

}  // namespace xvec::detail
