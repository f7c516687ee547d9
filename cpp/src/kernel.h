// The seam between what is computed and how: a kernel makes the hot operations for given keys.
//
// An operation object is prepared once per key (or query), is immutable afterwards, and is run on blocks of items by
// several threads at a time. run() is noexcept, allocates nothing, checks nothing: ranges and sizes are the caller's
// business. "Limbs" are 64-bit, little-endian; a ciphertext is `width` little-endian bytes. Objects that hold secrets
// keep them in SecureBuffer memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "integer.h"
#include "modulus.h"
#include "shake256.h"
#include "xvec/hamming.h"  // Schedule

namespace xvec {

// out_i = query * in_i mod N for one fixed query. Public values only.
class Product {
 public:
  virtual ~Product() = default;
  // in and out: count rows, `stride` bytes from one to the next; out may be in. Any input bytes are allowed;
  // output is canonical, in [0, N).
  virtual void run(const std::uint8_t* in, std::uint8_t* out, std::size_t stride,
                   std::size_t count) const noexcept = 0;
};

// A modulus N = n², from which a Product is prepared for every query.
class ProductModulus {
 public:
  virtual ~ProductModulus() = default;
  // query: any integer >= 0.
  [[nodiscard]] virtual std::unique_ptr<Product> fix(const Integer& query) const = 0;
};

// One prime's decryption: m mod p = L_p(c^exponent mod p²) * kappa mod p, L_p(x) = (x - 1) / p.
struct DecryptionKey {
  Integer p;
  Integer exponent;  // a_p, or p - 1 for plain keys
  Integer kappa;     // L_p(g^exponent mod p²)^-1 mod p
  std::size_t width;
  Schedule schedule;
};

class Decryptor {
 public:
  virtual ~Decryptor() = default;
  // in: count ciphertexts < 2^(8 width), stride bytes apart. plain: count * limbs(p) limbs, canonical in [0, p).
  // valid[i] = 1 if c^exponent = 1 (mod p), else 0 (plain is then meaningless).
  virtual void run(const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
                   std::size_t count) const noexcept = 0;
};

// Owner's encryption: c = (1 + m f n) * g_n^r mod n², by CRT from
//   c mod p² = (1 + p * (m * scale_p mod p)) * g_n^(r mod a_p),  scale_p = f * q mod p, and the same for q.
struct OwnerKey {
  Integer p, q;      // p > q, of equal length
  Integer a_p, a_q;  // orders of g_n modulo p² and q²
  Integer g_n;       // modulo n²
  Integer scale_p, scale_q;
  std::size_t width;
};

class OwnerEncryptor {
 public:
  virtual ~OwnerEncryptor() = default;
  // m_p, m_q: count * limbs(p) limbs, the plaintext modulo p and modulo q (each canonical).
  // r_p, r_q: count * limbs(a_p) and count * limbs(a_q) limbs, r_p < a_p, r_q < a_q.
  // out: count ciphertexts of width bytes, stride apart, canonical in [0, n²).
  virtual void run(const std::uint64_t* m_p, const std::uint64_t* m_q, const std::uint64_t* r_p,
                   const std::uint64_t* r_q, std::uint8_t* out, std::size_t stride,
                   std::size_t count) const noexcept = 0;
};

// Public-key encryption: c = g^m * g_n^r mod n² for m = sum of bit_i * 4^(d-1-i), r of r_bits bits.
struct PublicEncryptionKey {
  Integer n;
  Integer g, g_n;          // modulo n²; g = 1 + n makes g^m one multiplication
  std::size_t dimensions;  // d
  std::size_t r_bits;
  std::size_t width;
};

class PublicEncryptor {
 public:
  virtual ~PublicEncryptor() = default;
  // m: count * ceil(2 d / 64) limbs; r: count * ceil(r_bits / 64) limbs.
  virtual void run(const std::uint64_t* m, const std::uint64_t* r, std::uint8_t* out, std::size_t stride,
                   std::size_t count) const noexcept = 0;
};

// y = a x + b f modulo an odd number, for fixed secret a and b: records' scale and masks in one step.
struct AffineMapKey {
  const Modulus& m;
  const std::uint64_t *a, *b;  // < m, of as many limbs
  std::size_t x_limbs;         // any
  std::size_t f_bits;          // 0 for maps without f
};

class AffineMap {
 public:
  // Limbs of a row of f, filled up so that lanes can read it in whole vectors.
  static constexpr std::size_t f_stride(std::size_t f_bits) { return (f_bits + 511) / 512 * 8; }

  virtual ~AffineMap() = default;
  // x: count * x_limbs limbs, any; f: count rows of f_stride() limbs, f < 2^f_bits and zeros above.
  // y: count * limbs(m) limbs, canonical in [0, m); may be x if their rows are of one length.
  virtual void run(std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
                   std::size_t count) const noexcept = 0;
};

// A kernel fills this table. A maker returns null for sizes or operations that it does not speed up; the portable
// kernel then does the work.
struct Kernel {
  const char* name;
  const char* description;
  bool (*runs_here)() noexcept;
  std::unique_ptr<ProductModulus> (*product)(const Integer& modulus, std::size_t width);
  std::unique_ptr<Decryptor> (*decryptor)(const DecryptionKey&);
  std::unique_ptr<OwnerEncryptor> (*owner_encryptor)(const OwnerKey&);
  std::unique_ptr<PublicEncryptor> (*public_encryptor)(const PublicEncryptionKey&);
  std::unique_ptr<AffineMap> (*affine_map)(const AffineMapKey&);
  const Keccak* keccak;  // may be null, too
};

extern const Kernel kPortable;

// Every kernel that was compiled in, fastest first, whether or not it runs here. kPortable is the last.
std::span<const Kernel* const> all_kernels();

// The kernel in use: fixed on first call. Throws KernelUnavailable.
const Kernel& active_kernel();

// Preparations through `kernel`, falling back to kPortable for what it does not make.
std::unique_ptr<ProductModulus> make_product(const Kernel& kernel, const Integer& modulus, std::size_t width);
std::unique_ptr<Decryptor> make_decryptor(const Kernel& kernel, const DecryptionKey& key);
std::unique_ptr<OwnerEncryptor> make_owner_encryptor(const Kernel& kernel, const OwnerKey& key);
std::unique_ptr<PublicEncryptor> make_public_encryptor(const Kernel& kernel, const PublicEncryptionKey& key);
std::unique_ptr<AffineMap> make_affine_map(const Kernel& kernel, const AffineMapKey& key);
const Keccak& keccak_of(const Kernel& kernel);

}  // namespace xvec
