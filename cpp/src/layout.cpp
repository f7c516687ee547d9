#include "layout.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "key_material.h"

namespace xvec {

namespace {

std::uint64_t load_word(const std::uint8_t* bytes) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

// Eight bytes 0 or 1 -> eight 2-bit fields, the first byte most significant.
std::uint64_t pack_word(const std::uint8_t* bits) noexcept {
  std::uint64_t x = __builtin_bswap64(load_word(bits));
  x = (x | x >> 6) & 0x0005000500050005;
  x = (x | x >> 12) & 0x0000005500000055;
  return (x | x >> 24) & 0x5555;
}

}  // namespace

Integer largest_sum(std::size_t d) { return (Integer::power_of_two(2 * d) - Integer(1)) * Integer(2) / Integer(3); }

Layout::Layout(const PublicKey& key, std::size_t d) : dimensions(d), width(key.width()) {
  const Integer n = Integer::from_bytes(key.n());
  constexpr std::size_t kMost = std::numeric_limits<std::int32_t>::max();  // a distance is an int32
  if (d == 0 || d > kMost) throw std::invalid_argument("dimensions: must be from 1 to " + std::to_string(kMost));
  chunk_dimensions = std::min(d, detail::key_len_of(n));
  chunks = (d + chunk_dimensions - 1) / chunk_dimensions;
  if (largest_sum(chunk_dimensions) >= n) {
    throw std::invalid_argument("dimensions: sums of " + std::to_string(chunk_dimensions) +
                                " fields do not fit this key's modulus; the key is exact up to " +
                                std::to_string(detail::key_len_of(n) - 1) + " dimensions");
  }
}

std::size_t first_non_bit(std::span<const std::uint8_t> bits) noexcept {
  std::size_t i = 0;
  while (i + 8 <= bits.size() && (load_word(bits.data() + i) & ~std::uint64_t{0x0101010101010101}) == 0) i += 8;
  while (i < bits.size() && bits[i] <= 1) ++i;
  return i;
}

void pack_fields(Limb* limbs, std::size_t limb_count, const std::uint8_t* bits, std::size_t count) noexcept {
  const std::uint8_t* last = bits + count;
  for (std::size_t j = 0; j < limb_count; ++j) {
    const std::size_t fields = std::min<std::size_t>(32, static_cast<std::size_t>(last - bits));
    last -= fields;
    Limb limb = 0;
    if (fields == 32) {
      limb = pack_word(last) << 48 | pack_word(last + 8) << 32 | pack_word(last + 16) << 16 | pack_word(last + 24);
    } else {
      for (std::size_t i = 0; i < fields; ++i) limb = limb << 2 | last[i];
    }
    limbs[j] = limb;
  }
}

void require_size(std::size_t have, std::size_t want, const char* what) {
  if (have != want) {
    throw std::invalid_argument(std::string(what) + ": " + std::to_string(have) + " bytes, expected " +
                                std::to_string(want));
  }
}

std::size_t whole_rows(std::size_t bytes, std::size_t row, const char* what) {
  if (bytes % row != 0) {
    throw std::invalid_argument(std::string(what) + ": " + std::to_string(bytes) + " bytes are not rows of " +
                                std::to_string(row));
  }
  return bytes / row;
}

}  // namespace xvec
