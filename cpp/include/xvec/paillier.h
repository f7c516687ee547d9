// Paillier keys: generation, loading, and the rules that a key must keep.
//
// Numbers cross this interface as unsigned little-endian bytes (Number). Notation as in docs/cryptography.md: p and q
// are primes of key_len bits, n = pq, a_p | p-1 and a_q | q-1 secret primes, alpha = a_p * a_q.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

namespace xvec {

using Number = std::vector<std::uint8_t>;

// Overwrites the bytes of a secret in a way that the compiler may not remove.
void wipe(std::span<std::uint8_t> bytes) noexcept;

// A key breaks a security rule; what() names the rule and the way to opt in.
class WeakKey : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// Values that should form one key do not belong together.
class KeyMismatch : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// A ciphertext is out of range or not well formed under the key. row() is its index in the batch.
class InvalidCiphertext : public std::invalid_argument {
 public:
  InvalidCiphertext(const std::string& what, std::size_t row) : std::invalid_argument(what), row_(row) {}
  [[nodiscard]] std::size_t row() const noexcept { return row_; }

 private:
  std::size_t row_;
};

// The key was closed and its values are wiped.
class KeyClosed : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

class PublicKey {
 public:
  // n odd and > 1; 0 < g < n²; g_n = g^n mod n² for keys with a secret subgroup, empty for plain Paillier keys.
  // Throws std::invalid_argument naming the value that is out of range.
  PublicKey(Number n, Number g, Number g_n = {});

  [[nodiscard]] const Number& n() const noexcept { return n_; }
  [[nodiscard]] const Number& g() const noexcept { return g_; }
  [[nodiscard]] const Number& g_n() const noexcept { return g_n_; }
  [[nodiscard]] const Number& n_squared() const noexcept { return n_squared_; }
  [[nodiscard]] bool has_subgroup() const noexcept { return !g_n_.empty(); }
  // Bytes of one ciphertext: ceil(bits(n²) / 8).
  [[nodiscard]] std::size_t width() const noexcept { return n_squared_.size(); }

 private:
  Number n_, g_, g_n_, n_squared_;
};

namespace detail {
class KeyMaterial;
}

// Whether keys under the floors of docs/security.md are refused or, by explicit choice, accepted.
enum class Floors { enforced, waived };

// A key pair. Secret values live in locked memory that is wiped by close() and by the last owner's destructor.
// Movable, not copyable; safe to use from several threads, except close().
class SecretKey {
 public:
  // A key with a secret subgroup. key_len: bits of each prime, at least 1024. alpha_len: bits of a_p * a_q, even;
  // 0 takes the default of the security level (448, 512 or 768). Throws WeakKey, std::invalid_argument.
  static SecretKey generate(std::size_t key_len, std::size_t alpha_len = 0, Floors floors = Floors::enforced);
  // A plain Paillier key, g = 1 + n.
  static SecretKey generate_plain(std::size_t key_len, Floors floors = Floors::enforced);

  // From stored values. Subgroup keys: inverse = L(g^a mod n²)^-1 mod n. Plain keys: a empty, inverse = phi^-1 mod n.
  // Throws KeyMismatch when the values do not belong together, WeakKey below the loading floors.
  static SecretKey load(const PublicKey& key, std::span<const std::uint8_t> phi,
                        std::span<const std::uint8_t> inverse, std::span<const std::uint8_t> a = {},
                        Floors floors = Floors::enforced);

  SecretKey(SecretKey&&) noexcept;
  SecretKey& operator=(SecretKey&&) noexcept;
  ~SecretKey();

  [[nodiscard]] const PublicKey& public_key() const;
  [[nodiscard]] std::size_t key_len() const;
  [[nodiscard]] std::size_t alpha_len() const;  // 0 for plain keys
  // The values that a stored context holds. The caller owns (and wipes) the copy.
  [[nodiscard]] Number phi() const;
  [[nodiscard]] Number a() const;  // lcm(a_p, a_q); empty for plain keys
  [[nodiscard]] Number inverse() const;

  // Wipe the key, or leave that to the last of its shares. Encryptors and decoders made from it keep working on their
  // own locked copies.
  void close() noexcept;

  // Internal: throw KeyClosed after close(). A share outlives the key that it was taken from, so that another thread
  // may close that meanwhile.
  [[nodiscard]] const detail::KeyMaterial& material() const;
  [[nodiscard]] SecretKey share() const;

 private:
  explicit SecretKey(std::shared_ptr<const detail::KeyMaterial> material);
  std::shared_ptr<const detail::KeyMaterial> material_;
};

}  // namespace xvec
