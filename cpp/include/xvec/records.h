// The authenticated encoding: vectors whose sums a server cannot alter without being noticed (docs/security.md).
//
//   record  A_j = s P(x_j) + F("vec", chunk, nonce)  mod n       s and F of the record's writer and key epoch
//   query   A_q = s P(q)  + F("qry", chunk, nonce)  mod n        s and F of the one who asks
//
// The sum of both, less A_q and F("vec"), divided by s, is P(x_j), and hardly ever has that form if anybody changed it.
// s is a unit modulo n, F the masks; both come from one secret of a writer in an epoch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string_view>

namespace xvec {

inline constexpr std::size_t kNonceSize = 24;
inline constexpr std::size_t kRecordSecretSize = 32;
inline constexpr std::size_t kMaxWriterSize = 64;

// An answer was altered; deliberately without saying where.
class NotAuthentic : public std::invalid_argument {
 public:
  NotAuthentic() : std::invalid_argument("the answer is not made from this context's records and this query") {}
};

// The secret of one writer in one key epoch, in locked memory.
class RecordKey {
 public:
  // secret: kRecordSecretSize bytes; writer: at most kMaxWriterSize bytes. Throws std::invalid_argument.
  RecordKey(std::span<const std::uint8_t> secret, std::uint32_t epoch, std::string_view writer);
  ~RecordKey();
  RecordKey(RecordKey&&) noexcept;
  RecordKey& operator=(RecordKey&&) noexcept;

  // Internal.
  struct Impl;
  [[nodiscard]] const Impl& impl() const noexcept { return *impl_; }

 private:
  std::unique_ptr<const Impl> impl_;
};

}  // namespace xvec
