// Binary vectors under Paillier encryption: encrypt them, let a server multiply them by a query, decode distances.
//
// A vector of d bits is cut into chunks of at most key_len bits; chunk values are P(v) = sum of v_i * 4^(d-1-i),
// so that the sum of two has fields 0, 1 or 2 and the Hamming distance is the number of fields equal to 1.
// Batches are contiguous: bits (count, d) of bytes 0 and 1; ciphertexts (count, chunks, width) little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "xvec/paillier.h"
#include "xvec/records.h"

namespace xvec {

// Options of one call on a batch.
struct Batch {
  int threads = 0;  // 0: max_threads()
  // Called by the calling thread between slices with (rows done, rows in all); returning false stops the call,
  // which then throws Interrupted. Output rows are unspecified after that.
  std::function<bool(std::size_t, std::size_t)> progress = {};
};

class Interrupted : public std::runtime_error {
 public:
  Interrupted() : std::runtime_error("interrupted") {}
};

// Encrypts with the secret key (owner's path, by CRT) or with the public key alone.
class HammingEncryptor {
 public:
  // Throws std::invalid_argument for dimensions = 0, or above 2^31 - 1.
  HammingEncryptor(const SecretKey& key, std::size_t dimensions);
  // alpha_len: a bound of the bits of the secret subgroup's order, if it is known; exponents have 128 bits more. It is
  // not taken for less than keys have by default, since it may come from a configuration that nobody vouches for.
  // 0 assumes key_len, the largest that is generated, and is slower.
  HammingEncryptor(const PublicKey& key, std::size_t dimensions, std::size_t alpha_len = 0);
  ~HammingEncryptor();
  HammingEncryptor(HammingEncryptor&&) noexcept;
  HammingEncryptor& operator=(HammingEncryptor&&) noexcept;

  [[nodiscard]] std::size_t dimensions() const noexcept;
  [[nodiscard]] std::size_t chunks() const noexcept;
  [[nodiscard]] std::size_t width() const noexcept;

  // bits: count * dimensions bytes; out: count * chunks * width bytes.
  // Throws std::invalid_argument naming the first row that holds anything but 0 and 1.
  void encrypt(std::span<const std::uint8_t> bits, std::span<std::uint8_t> out, const Batch& batch = {}) const;

  // In the authenticated encoding; nonces: count * kNonceSize bytes, each fresh. With a public key its g must be 1 + n:
  // only then any plaintext is as quick as a vector's.
  void encrypt_records(std::span<const std::uint8_t> bits, std::span<const std::uint8_t> nonces, const RecordKey& key,
                       std::span<std::uint8_t> out, const Batch& batch = {}) const;
  // One query, likewise.
  void encrypt_query(std::span<const std::uint8_t> bits, std::span<const std::uint8_t> nonce, const RecordKey& key,
                     std::span<std::uint8_t> out) const;

  // Internal.
  struct Impl;
  explicit HammingEncryptor(std::unique_ptr<Impl> impl) noexcept;
  [[nodiscard]] const Impl& impl() const noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// Whether exponentiations run a fixed schedule, or one that depends on the key (never on the data).
enum class Schedule { constant, vartime };

class HammingDecoder {
 public:
  // Throws std::invalid_argument when sums of that many fields do not fit the key's modulus.
  HammingDecoder(const SecretKey& key, std::size_t dimensions, Schedule schedule = Schedule::constant);
  ~HammingDecoder();
  HammingDecoder(HammingDecoder&&) noexcept;
  HammingDecoder& operator=(HammingDecoder&&) noexcept;

  [[nodiscard]] std::size_t dimensions() const noexcept;
  [[nodiscard]] std::size_t chunks() const noexcept;
  [[nodiscard]] std::size_t width() const noexcept;
  // 1 when the larger prime alone decides the plaintext, 2 when both and CRT are needed.
  [[nodiscard]] int sides() const noexcept;

  // rows: count * chunks * width bytes; distances: count. Throws InvalidCiphertext.
  void decode(std::span<const std::uint8_t> rows, std::span<std::int32_t> distances, const Batch& batch = {}) const;

  // Products of records of one writer and epoch with one query, given as its bits, nonce and key, to distances. Throws
  // NotAuthentic, whatever is wrong and with how many rows, and after the same work.
  struct Query {
    std::span<const std::uint8_t> bits, nonce;
    const RecordKey& key;
  };
  void decode_records(std::span<const std::uint8_t> rows, std::span<const std::uint8_t> nonces, const RecordKey& key,
                      const Query& query, std::span<std::int32_t> distances, const Batch& batch = {}) const;

  // Records of one writer and epoch as they are stored, to their vectors: count * dimensions() bits. Throws as
  // decode_records.
  void open_records(std::span<const std::uint8_t> rows, std::span<const std::uint8_t> nonces, const RecordKey& key,
                    std::span<std::uint8_t> bits, const Batch& batch = {}) const;

  // rows: count * width bytes; plaintexts: count * plaintext_width() bytes, modulo n. Throws InvalidCiphertext.
  void decrypt(std::span<const std::uint8_t> rows, std::span<std::uint8_t> plaintexts, const Batch& batch = {}) const;
  [[nodiscard]] std::size_t plaintext_width() const noexcept;

  // Internal.
  struct Impl;
  explicit HammingDecoder(std::unique_ptr<Impl> impl) noexcept;

 private:
  std::unique_ptr<Impl> impl_;
};

// The server's only operation; holds public values only.
class Multiplier {
 public:
  // n_squared odd and > 1, else std::invalid_argument.
  explicit Multiplier(const Number& n_squared);
  ~Multiplier();
  Multiplier(Multiplier&&) noexcept;
  Multiplier& operator=(Multiplier&&) noexcept;

  [[nodiscard]] std::size_t width() const noexcept;

  // query: chunks * width bytes; rows and out: count * chunks * width bytes, and may be the same memory.
  // out[i][j] = rows[i][j] * query[j] mod n². Any bytes are accepted and taken modulo n².
  void products(std::span<const std::uint8_t> query, std::span<const std::uint8_t> rows, std::span<std::uint8_t> out,
                const Batch& batch = {}) const;

  // Index of the first of the width-byte values that is 0 or >= n²; -1 if all are in range.
  [[nodiscard]] std::ptrdiff_t out_of_range(std::span<const std::uint8_t> values) const noexcept;

  // Internal.
  struct Impl;
  explicit Multiplier(std::unique_ptr<Impl> impl) noexcept;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace xvec
