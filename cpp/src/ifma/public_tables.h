// The border between kernel_ifma.cpp and the preparation of public-key encryption; see ifma.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace xvec::ifma {

// Limbs of radix 2^52 for a modulus of Bits bits: a multiple of 10, with at least 32 bits to spare.
template <int Bits>
constexpr int kDigitLimbs = (Bits + 32 + 519) / 520 * 10;  // 2048: 40, 3072: 60, 4096: 80

template <int Limbs>
struct DigitModulus {
  std::uint64_t n[Limbs];         // odd, of 52 Limbs - 32 bits at most
  std::uint64_t negated_inverse;  // -n^-1 mod 2^52
  std::uint64_t c[Limbs];  // the multiple n 2^k of n in (R, 2R], R = 2^(52 Limbs); its top limb may have 53 bits
};

// Elements T modulo n² in eight lanes, each as a digit U and a factor: T = U R^-1 (1 + n e) mod n². e is kept as e R
// modulo n; inverse is U^-1 R² mod n.
template <int Limbs>
struct FactoredElements {
  std::uint64_t u[Limbs][8], e[Limbs][8], inverse[Limbs][8];
};

// Products of powers of one base: entry k of window i is the product, over the bits j of k, of
// base^(2^(step (bits i + j))). An entry is U and e of an element, 2 Limbs words.
struct WindowTable {
  std::uint64_t* entries;  // [window][2^bits][2][Limbs], 64-byte aligned, with room for whole multiples of 8 windows
  std::size_t windows;
  unsigned bits;      // at most 8
  unsigned step;      // 1: the index is `bits` bits of a number; 2: the low bits of as many 2-bit fields
  std::size_t words;  // of that number
};

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
