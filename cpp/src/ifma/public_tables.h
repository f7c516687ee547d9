// The border between kernel_ifma.cpp and the preparation of public-key encryption; see ifma.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "digit_tables.h"

namespace xvec::ifma {

// Limbs of radix 2^52 for a modulus of Bits bits: a multiple of 10, with at least 32 bits to spare.
template <int Bits>
constexpr int kDigitLimbs = (Bits + 32 + 519) / 520 * 10;  // 2048: 40, 3072: 60, 4096: 80

template <int KeyLen>
struct PublicTables {
  static constexpr int limbs = kDigitLimbs<2 * KeyLen>;
  DigitModulus<limbs> modulus;     // n
  std::uint64_t r_squared[limbs];  // R² mod n
  WindowTable noise;               // of g_n, indexed by r
  WindowTable message;             // of g, indexed by m; no windows if g = 1 + n
};

// Fills `table`, eight windows at a time: lane l makes windows l * per_lane and on, per_lane = windows / 8 rounded
// up, from base^(2^(step bits l per_lane)) in lane l of `start`. one: T = 1 in every lane.
template <int KeyLen>
using PublicElements = FactoredElements<PublicTables<KeyLen>::limbs>;

void build_windows(const PublicTables<1024>&, const WindowTable& table, const PublicElements<1024>& one,
                   const PublicElements<1024>& start) noexcept;
void build_windows(const PublicTables<1536>&, const WindowTable& table, const PublicElements<1536>& one,
                   const PublicElements<1536>& start) noexcept;
void build_windows(const PublicTables<2048>&, const WindowTable& table, const PublicElements<2048>& one,
                   const PublicElements<2048>& start) noexcept;

// Eight encryptions: see PublicEncryptor. m and r point to one item for each lane; out has eight rows of 4 key_len /
// 8 bytes, stride apart. The tables are looked up by r and m: time depends on which entries the caches hold.
void encrypt_public_vartime(const PublicTables<1024>&, const std::uint64_t* const* m, const std::uint64_t* const* r,
                            std::uint8_t* out, std::size_t stride) noexcept;
void encrypt_public_vartime(const PublicTables<1536>&, const std::uint64_t* const* m, const std::uint64_t* const* r,
                            std::uint8_t* out, std::size_t stride) noexcept;
void encrypt_public_vartime(const PublicTables<2048>&, const std::uint64_t* const* m, const std::uint64_t* const* r,
                            std::uint8_t* out, std::size_t stride) noexcept;

}  // namespace xvec::ifma
