// The border between kernel_ifma.cpp and the preparation of the owner's encryption; see ifma.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "decrypt_tables.h"
#include "ifma.h"

namespace xvec::ifma {

template <int KeyLen>
struct OwnerSize {
  static constexpr bool woven = KeyLen == 1024;
  // Tables are built in radix 2^52; a woven entry has its digits in radix 2^50.
  static constexpr int table_limbs = PadicSize<KeyLen>::limbs;
  static constexpr int digit_limbs = woven ? WovenModulus::limbs : table_limbs;
  static constexpr int digit_bits = woven ? WovenModulus::bits : 52;
  static constexpr int entry_words = (2 * digit_limbs + 7) / 8 * 8;
  // A digit as the matrix takes it, whose rows need limbs below 2^51.
  static constexpr int row_bits = woven ? 50 : 51;
  static constexpr int row_limbs = woven ? digit_limbs : (KeyLen + 2 + row_bits - 1) / row_bits;  // 21, 31, 41
  static constexpr int rows = 4 * row_limbs;
};

// One prime's half. R' = 2^(52 table_limbs), R = 2^(digit_bits digit_limbs).
template <int KeyLen>
struct OwnerSide {
  using Size = OwnerSize<KeyLen>;
  std::conditional_t<Size::woven, WovenModulus, DigitModulus<Size::digit_limbs>> modulus;  // p
  std::uint64_t scale[Size::digit_limbs];                                                  // scale_p R' R mod p
  // Of g_n modulo p², at least two windows; e is kept as e R' mod p. Windows that only fill up a block of eight have
  // an entry 0 that stands for 1 in products that divide by R: (U + 0 p) (1 + p e) = R mod p².
  WindowTable noise;
};

// The digits u, v of p and u, v of q to the ciphertext: [0, row_limbs) takes u of p, and so on.
template <int KeyLen>
struct OwnerTables {
  OwnerSide<KeyLen> p, q;
  MatrixModulus<4 * KeyLen> n_squared;
  Matrix<4 * KeyLen, OwnerSize<KeyLen>::rows> combine;
};

// Items to encrypt, one after the other in each array (see OwnerEncryptor); r_p has noise.words words each.
struct OwnerItems {
  const std::uint64_t *m_p, *m_q, *r_p, *r_q;
  std::size_t count;  // > 0
};

void build_windows(const DigitModulus<20>&, const WindowTable& table, const FactoredElements<20>& one,
                   const FactoredElements<20>& start) noexcept;
void build_windows(const DigitModulus<30>&, const WindowTable& table, const FactoredElements<30>& one,
                   const FactoredElements<30>& start) noexcept;
void build_windows(const DigitModulus<40>&, const WindowTable& table, const FactoredElements<40>& one,
                   const FactoredElements<40>& start) noexcept;

// Any count; rows of 4 key_len / 8 bytes, stride apart. The tables are looked up by r: time depends on which
// entries the caches hold.
void encrypt_owner_vartime(const OwnerTables<1024>&, const OwnerItems&, std::uint8_t* out,
                           std::size_t stride) noexcept;
void encrypt_owner_vartime(const OwnerTables<1536>&, const OwnerItems&, std::uint8_t* out,
                           std::size_t stride) noexcept;
void encrypt_owner_vartime(const OwnerTables<2048>&, const OwnerItems&, std::uint8_t* out,
                           std::size_t stride) noexcept;

}  // namespace xvec::ifma
