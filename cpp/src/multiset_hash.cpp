#include "xvec/multiset_hash.h"

#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>

#include "batch.h"
#include "hamming_internal.h"
#include "kernel.h"
#include "layout.h"
#include "mpn.h"
#include "secure_memory.h"
#include "shake256.h"

namespace xvec {

namespace {

constexpr std::size_t kPrefix = 1 + kMultisetKeySize;  // of every message: the key behind its length
constexpr std::size_t kSumLimbs = kMultisetHashSize / sizeof(Limb);
constexpr std::size_t kLongestMessage = kPrefix + 1 + 255;
constexpr std::size_t kRowsPerBlock = 1024;
constexpr std::size_t kGroup = Keccak::kMaxStates;

}  // namespace

struct MultisetHash::Impl {
  SecureBuffer prefix;
  const Keccak& keccak;
};

namespace detail {

MultisetHash make_multiset_hash(std::span<const std::uint8_t> key, const Kernel& kernel) {
  if (key.size() != kMultisetKeySize) {
    throw std::invalid_argument("key: expected " + std::to_string(kMultisetKeySize) + " bytes");
  }
  SecureBuffer prefix(kPrefix);
  prefix.data()[0] = kMultisetKeySize;
  std::memcpy(prefix.data() + 1, key.data(), key.size());
  return MultisetHash(
      std::make_unique<const MultisetHash::Impl>(MultisetHash::Impl{std::move(prefix), keccak_of(kernel)}));
}

}  // namespace detail

MultisetHash::MultisetHash(std::span<const std::uint8_t> key)
    : MultisetHash(detail::make_multiset_hash(key, active_kernel())) {}
MultisetHash::MultisetHash(std::unique_ptr<const Impl> impl) noexcept : impl_(std::move(impl)) {}
MultisetHash::~MultisetHash() = default;
MultisetHash::MultisetHash(MultisetHash&&) noexcept = default;
MultisetHash& MultisetHash::operator=(MultisetHash&&) noexcept = default;

void MultisetHash::sum(std::span<const std::uint8_t> table, std::size_t rows, std::span<std::uint8_t> sum,
                       const Batch& batch) const {
  const std::size_t width = rows == 0 ? 0 : table.size() / rows;
  require_size(table.size(), rows * width, "table");
  require_size(sum.size(), kMultisetHashSize, "sum");
  const auto length = [&](std::size_t i) { return width == 0 ? std::size_t{0} : table[i * width]; };
  for (std::size_t i = 0; i < rows && width > 0; ++i) {
    if (length(i) >= width) {
      throw std::invalid_argument("table: the record of row " + std::to_string(i) + " is longer than the row");
    }
  }
  WipedArray<Limb, kSumLimbs> total;
  std::memset(total, 0, sizeof total.values);
  std::mutex mutex;  // guards total
  run_batch(rows, kRowsPerBlock, batch, [&](const Block& mine) {
    WipedArray<std::uint8_t, kGroup * kLongestMessage> messages;
    WipedArray<Limb, kGroup * kSumLimbs> values;
    WipedArray<Limb, kSumLimbs> subtotal;
    std::memset(subtotal, 0, sizeof subtotal.values);
    for (std::size_t i = mine.first; i < mine.last;) {
      // As many records of one length as come in a row: mostly all of them.
      const std::size_t record = length(i), size = kPrefix + 1 + record;
      std::size_t count = 0;
      for (; count < kGroup && i < mine.last && length(i) == record; ++count, ++i) {
        std::uint8_t* message = messages + count * size;
        std::memcpy(message, impl_->prefix.data(), kPrefix);
        message[kPrefix] = static_cast<std::uint8_t>(record);
        if (record > 0) std::memcpy(message + kPrefix + 1, table.data() + i * width + 1, record);
      }
      shake256(impl_->keccak, reinterpret_cast<std::uint8_t*>(values.values), kMultisetHashSize, kMultisetHashSize,
               {messages, size, count});
      for (std::size_t k = 0; k < count; ++k) mpn::add(subtotal, subtotal, values + k * kSumLimbs, kSumLimbs);
    }
    const std::lock_guard lock(mutex);
    mpn::add(total, total, subtotal, kSumLimbs);
  });
  std::memcpy(sum.data(), total, kMultisetHashSize);
}

}  // namespace xvec
