// The fingerprint of a multiset of records: SHAKE256 of every record, added up.
#include "xvec/multiset_hash.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "hamming_internal.h"
#include "kernel_test.h"
#include "shake256.h"

namespace xvec {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes key_of(std::uint8_t start) {
  Bytes key(kMultisetKeySize);
  for (auto& byte : key) byte = start++;
  return key;
}

// Record i: `length(i)` bytes, in rows of `width` bytes.
template <class Length>
Bytes table_of(std::size_t rows, std::size_t width, const Length& length) {
  Bytes table(rows * width);
  for (std::size_t i = 0; i < rows; ++i) {
    table[i * width] = static_cast<std::uint8_t>(length(i));
    for (std::size_t k = 1; k <= length(i); ++k) table[i * width + k] = static_cast<std::uint8_t>(i * 31 + k * k);
  }
  return table;
}

Integer sum_of(const MultisetHash& hash, const Bytes& table, std::size_t rows, int threads = 1) {
  Bytes sum(kMultisetHashSize);
  hash.sum(table, rows, sum, {threads, {}});
  return Integer::from_bytes(sum);
}

// One function value at a time.
Integer expected(const Bytes& key, const Bytes& table, std::size_t rows) {
  const Integer modulus = Integer::power_of_two(256);
  Integer total;
  for (std::size_t i = 0; i < rows; ++i) {
    const auto row = table.begin() + static_cast<std::ptrdiff_t>(i * (table.size() / rows));
    Bytes message{32}, value(32);
    message.insert(message.end(), key.begin(), key.end());
    message.insert(message.end(), row, row + 1 + *row);
    shake256(value, message);
    total = (total + Integer::from_bytes(value)) % modulus;
  }
  return total;
}

// From Python's hashlib: shake_256(bytes([32]) + bytes(range(32)) + b"\x03abc").digest(32).
TEST(MultisetHash, KnownAnswer) {
  Bytes sum(kMultisetHashSize);
  MultisetHash(key_of(0)).sum(Bytes{3, 'a', 'b', 'c', 0, 0}, 1, sum);
  std::string text;
  for (const std::uint8_t byte : sum) {
    for (const unsigned digit : {byte / 16u, byte % 16u}) text += "0123456789abcdef"[digit];
  }
  EXPECT_EQ(text, "3cb58e277b5975042bcf452140ea7d7c9a8f8dd00d0af71e3015761070665e3f");
}

class KernelsMultisetHash : public testing::TestWithParam<const Kernel*> {};

TEST_P(KernelsMultisetHash, AddsUpRecordsOfAnyLengthOnAnyNumberOfThreads) {
  const Bytes key = key_of(7);
  const MultisetHash hash = detail::make_multiset_hash(key, *GetParam());
  for (const std::size_t rows : {1u, 7u, 8u, 9u, 300u, 5000u}) {
    const Bytes equal = table_of(rows, 120, [](std::size_t) { return 107u; });
    const Bytes mixed = table_of(rows, 256, [](std::size_t i) { return i / 3 * 37 % 256; });
    for (const int threads : {1, 3}) {
      EXPECT_EQ(sum_of(hash, equal, rows, threads), expected(key, equal, rows));
      EXPECT_EQ(sum_of(hash, mixed, rows, threads), expected(key, mixed, rows));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, KernelsMultisetHash, testing::ValuesIn(test::kernels_here()), test::name_of);

TEST(MultisetHash, TakesRowsWithoutBytesForEmptyRecords) {
  const Bytes key = key_of(1);
  const MultisetHash hash(key);
  EXPECT_EQ(sum_of(hash, {}, 0), Integer(0));
  EXPECT_EQ(sum_of(hash, {}, 3), expected(key, Bytes(3), 3));
}

TEST(MultisetHash, ChecksArguments) {
  EXPECT_THROW(MultisetHash(Bytes(31)), std::invalid_argument);
  EXPECT_THROW(MultisetHash(Bytes(33)), std::invalid_argument);
  const MultisetHash hash(key_of(1));
  Bytes sum(kMultisetHashSize), small(kMultisetHashSize - 1);
  EXPECT_THROW(hash.sum(Bytes(6), 2, small), std::invalid_argument);
  EXPECT_THROW(hash.sum(Bytes(7), 2, sum), std::invalid_argument);
  hash.sum(Bytes{0, 0, 0, 2, 1, 1}, 2, sum);
  EXPECT_THROW(hash.sum(Bytes{0, 0, 0, 3, 1, 1}, 2, sum), std::invalid_argument);
}

}  // namespace
}  // namespace xvec
