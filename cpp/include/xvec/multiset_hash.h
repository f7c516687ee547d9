// A fingerprint of a set of records in which a record may be several times: MSet-Add-Hash of Clarke, Devadas, van Dijk,
// Gassend and Suh, "Incremental Multiset Hash Functions" (ASIACRYPT 2003), with a pseudorandom function of a secret key.
//
//   sum over the records of F(record)  mod 2^256
//   F(record) = the little-endian number SHAKE256(32 || key || length of record || record)[0..32), lengths in one byte
//
// Sums of parts add up to the sum of the whole, so that it follows insertion and deletion. That nobody finds other
// records of the same sum holds as long as the sums are secret, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "xvec/hamming.h"  // Batch

namespace xvec {

inline constexpr std::size_t kMultisetKeySize = 32;
inline constexpr std::size_t kMultisetHashSize = 32;

class MultisetHash {
 public:
  // key: kMultisetKeySize bytes, kept in locked memory. Throws std::invalid_argument.
  explicit MultisetHash(std::span<const std::uint8_t> key);
  ~MultisetHash();
  MultisetHash(MultisetHash&&) noexcept;
  MultisetHash& operator=(MultisetHash&&) noexcept;

  // sum: kMultisetHashSize bytes, the little-endian sum over the records of `table`: `rows` rows of equal size, each a
  // record's length in one byte, the record, and anything; rows of no bytes are empty records. Throws
  // std::invalid_argument naming the first row whose record is longer than the row.
  void sum(std::span<const std::uint8_t> table, std::size_t rows, std::span<std::uint8_t> sum,
           const Batch& batch = {}) const;

  // Internal.
  struct Impl;
  explicit MultisetHash(std::unique_ptr<const Impl> impl) noexcept;

 private:
  std::unique_ptr<const Impl> impl_;
};

}  // namespace xvec
