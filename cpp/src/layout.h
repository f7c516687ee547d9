// How vectors become items: chunk sizes, packing, and the checks of batch arguments that all operations share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "integer.h"
#include "mpn.h"
#include "xvec/paillier.h"

namespace xvec {

inline constexpr std::size_t kBlock = 32;  // items that a thread takes at a time: a multiple of every lane count

inline std::size_t limbs_for_bits(std::size_t bits) { return (bits + 63) / 64; }

// The largest sum of two vectors of d bits: 2 (4^d - 1) / 3.
Integer largest_sum(std::size_t d);

// How vectors are cut into chunks of at most key_len bits.
struct Layout {
  std::size_t dimensions, chunk_dimensions, chunks, width;

  // Throws std::invalid_argument for 0 or 2^31 dimensions, and when sums of a chunk do not fit n.
  Layout(const PublicKey& key, std::size_t dimensions);

  [[nodiscard]] std::size_t begin(std::size_t chunk) const { return chunk * chunk_dimensions; }
  [[nodiscard]] std::size_t size(std::size_t chunk) const {
    return dimensions - begin(chunk) < chunk_dimensions ? dimensions - begin(chunk) : chunk_dimensions;
  }
};

// Index of the first byte that is neither 0 nor 1; bits.size() if there is none.
std::size_t first_non_bit(std::span<const std::uint8_t> bits) noexcept;

// limbs = sum of bits_i 4^(count-1-i), bits 0 or 1, zero-padded to limb_count limbs.
void pack_fields(Limb* limbs, std::size_t limb_count, const std::uint8_t* bits, std::size_t count) noexcept;

// Throw std::invalid_argument naming `what`.
void require_size(std::size_t have, std::size_t want, const char* what);
std::size_t whole_rows(std::size_t bytes, std::size_t row, const char* what);

}  // namespace xvec
