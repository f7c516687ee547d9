// The portable kernel: GMP's mpn layer, one item at a time. It is the specification of the faster ones.
#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "affine_map.h"
#include "kernel.h"
#include "mpn.h"
#include "padic.h"
#include "secure_memory.h"
#include "sizes.h"

namespace xvec {

namespace {

// Bytes <-> limbs; little-endian machines only, which is checked at compile time.
static_assert(std::endian::native == std::endian::little);

void read_limbs(Limb* out, std::size_t limbs, const std::uint8_t* in, std::size_t width) noexcept {
  out[limbs - 1] = 0;
  std::memcpy(out, in, width);
}

// Bits [at, at + count) of a little-endian number, count <= 8; `limbs` bounds the read.
unsigned window(const Limb* x, std::size_t limbs, std::size_t at, unsigned count) noexcept {
  const std::size_t limb = at / 64, shift = at % 64;
  Limb bits = x[limb] >> shift;
  if (shift + count > 64 && limb + 1 < limbs) bits |= x[limb + 1] << (64 - shift);
  return static_cast<unsigned>(bits & ((Limb{1} << count) - 1));
}

// --- Server's product ---------------------------------------------------------------------------------------------

struct PublicModulus {
  static constexpr std::size_t kMaxDigits = (64 * kMaxCipherLimbs + 1 + 58) / 59;

  std::size_t limbs, width;
  Limb n[kMaxCipherLimbs];
  Limb negative_inverse;
  // The same in digits, with a bit to spare.
  unsigned bits;
  std::size_t digits;
  Limb mask;
  Limb n_digits[kMaxDigits];

  PublicModulus(const Integer& modulus, std::size_t width_in) : limbs(modulus.limbs()), width(width_in) {
    modulus.to_limbs(n, limbs);
    negative_inverse = xvec::negative_inverse(n[0]);
    bits = 60;
    digits = (modulus.bits() + bits) / bits;
    if (digits + 4 > std::size_t{1} << (128 - 2 * bits)) {
      --bits;
      digits = (modulus.bits() + bits) / bits;
    }
    digits = std::max<std::size_t>(digits, 2);
    mask = (Limb{1} << bits) - 1;
    modulus.to_digits(n_digits, digits, bits);
  }
};

// in * query = sum of c_j (query * B^j) for the digits c_j of `in`, B = 2^bits: rows T_j = query * B^j * B^2 mod N are
// fixed per query, and two Montgomery digits take B^2 off again. Digits are paired after Winograd,
//     c_0 t_0 + c_1 t_1 = (c_0 + t_1) (c_1 + t_0) - c_0 c_1 - t_0 t_1,
// so that a product modulo N takes a quarter of the multiplications of a general one. Columns are exact modulo 2^128
// on the way and below it in the end, which bounds `bits`.
class PortableProduct final : public Product {
 public:
  PortableProduct(const PublicModulus& modulus, const Integer& query)
      : m_(modulus), pairs_(m_.digits / 2), columns_(m_.digits * 2 * pairs_), last_(m_.digits), offsets_(m_.digits) {
    const std::size_t n = m_.digits;
    const Integer modulus_value = Integer::from_limbs(m_.n, m_.limbs);
    std::vector<Limb> row(n);
    (((query % modulus_value) << (m_.bits * (n + 1))) % modulus_value).to_digits(row.data(), n, m_.bits);
    for (std::size_t j = n; j-- > 0;) {
      for (std::size_t k = 0; k < n; ++k) {
        (j == 2 * pairs_ ? last_[k] : columns_[2 * (k * pairs_ + j / 2) + (1 - j % 2)]) = row[k];
      }
      // T_(j-1) = T_j / B mod N, exactly, and below N (1 + 2 / B).
      const Limb quotient = row[0] * m_.negative_inverse & m_.mask;
      DoubleLimb sum = row[0] + DoubleLimb{quotient} * m_.n_digits[0];
      for (std::size_t k = 1; k < n; ++k) {
        sum = (sum >> m_.bits) + row[k] + DoubleLimb{quotient} * m_.n_digits[k];
        row[k - 1] = static_cast<Limb>(sum) & m_.mask;
      }
      row[n - 1] = static_cast<Limb>(sum >> m_.bits);
    }
    for (std::size_t k = 0; k < n; ++k) {
      const Limb* t = columns_.data() + 2 * k * pairs_;
      for (std::size_t i = 0; i < pairs_; ++i) offsets_[k] += DoubleLimb{t[2 * i]} * t[2 * i + 1];
    }
  }

  void run(const std::uint8_t* in, std::uint8_t* out, std::size_t stride, std::size_t count) const noexcept override {
    const std::size_t limbs = m_.limbs, n = m_.digits;
    Limb plain[kMaxCipherLimbs + 1], r[kMaxCipherLimbs], c[PublicModulus::kMaxDigits + 1];
    for (std::size_t item = 0; item < count; ++item, in += stride, out += stride) {
      read_limbs(plain, limbs, in, m_.width);
      mpn::to_digits(c, n, m_.bits, plain, limbs, 0);
      const Limb alone = n % 2 == 0 ? 0 : c[n - 1];
      DoubleLimb shared = 0;
      for (std::size_t i = 0; i < pairs_; ++i) shared += DoubleLimb{c[2 * i]} * c[2 * i + 1];

      // Column k goes to digit k - 2 of the result.
      Limb quotient[2] = {0, 0}, result[PublicModulus::kMaxDigits];
      DoubleLimb sum = 0;
      for (std::size_t k = 0; k < n; ++k) {
        sum += column(k, c) + DoubleLimb{alone} * last_[k] - shared - offsets_[k];
        if (k > 0) sum += DoubleLimb{quotient[0]} * m_.n_digits[k];
        if (k > 1) sum += DoubleLimb{quotient[1]} * m_.n_digits[k - 1];
        if (k < 2) {
          quotient[k] = static_cast<Limb>(sum) * m_.negative_inverse & m_.mask;
          sum += DoubleLimb{quotient[k]} * m_.n_digits[0];
        } else {
          result[k - 2] = static_cast<Limb>(sum) & m_.mask;
        }
        sum >>= m_.bits;
      }
      sum += DoubleLimb{quotient[1]} * m_.n_digits[n - 1];
      result[n - 2] = static_cast<Limb>(sum) & m_.mask;
      result[n - 1] = static_cast<Limb>(sum >> m_.bits);
      // The result is below N (1 + digits / B).
      mpn::from_digits(plain, limbs + 1, result, n, m_.bits);
      if (plain[limbs] != 0 || mpn::compare_vartime(plain, m_.n, limbs) >= 0) {
        mpn::subtract(r, plain, m_.n, limbs);
        std::memcpy(out, r, m_.width);
      } else {
        std::memcpy(out, plain, m_.width);
      }
    }
  }

 private:
  // Sum of the products of pairs of column k.
  DoubleLimb column(std::size_t k, const Limb* c) const noexcept {
    const Limb* t = columns_.data() + 2 * k * pairs_;
    DoubleLimb even = 0, odd = 0;
    std::size_t i = 0;
    for (; i + 2 <= pairs_; i += 2) {
      even += DoubleLimb{c[2 * i] + t[2 * i]} * (c[2 * i + 1] + t[2 * i + 1]);
      odd += DoubleLimb{c[2 * i + 2] + t[2 * i + 2]} * (c[2 * i + 3] + t[2 * i + 3]);
    }
    if (i < pairs_) even += DoubleLimb{c[2 * i] + t[2 * i]} * (c[2 * i + 1] + t[2 * i + 1]);
    return even + odd;
  }

  PublicModulus m_;
  std::size_t pairs_;
  std::vector<Limb> columns_;        // [column][pair]: the digits of rows 2i + 1 and 2i
  std::vector<Limb> last_;           // of the row without a partner, if the number of digits is odd
  std::vector<DoubleLimb> offsets_;  // sums of the products of a column's pairs
};

class PortableProductModulus final : public ProductModulus {
 public:
  PortableProductModulus(const Integer& modulus, std::size_t width) : modulus_(modulus, width) {}
  [[nodiscard]] std::unique_ptr<Product> fix(const Integer& query) const override {
    return std::make_unique<PortableProduct>(modulus_, query);
  }

 private:
  PublicModulus modulus_;
};

// --- Decryption ---------------------------------------------------------------------------------------------------

class PortableDecryptor final : public Decryptor {
 public:
  explicit PortableDecryptor(const DecryptionKey& key)
      : field_(key.p),
        width_(key.width),
        vartime_(key.schedule == Schedule::vartime),
        digits_((key.exponent.bits() + kWindow - 1) / kWindow),
        memory_(field_.limbs() * sizeof(Limb) + digits_) {
    kappa_ = memory_.as<Limb>();
    field_.to_digit(kappa_, key.kappa * field_.radix(1) % key.p);
    exponent_ = memory_.data() + field_.limbs() * sizeof(Limb);
    for (std::size_t i = 0; i < digits_; ++i) {  // most significant first
      std::uint8_t digit = 0;
      for (unsigned b = kWindow; b-- > 0;) {
        digit = static_cast<std::uint8_t>(2 * digit + (key.exponent.bit((digits_ - 1 - i) * kWindow + b) ? 1 : 0));
      }
      exponent_[i] = digit;
    }
  }

  void run(const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
           std::size_t count) const noexcept override {
    const std::size_t cipher_limbs = (width_ + 7) / 8;
    PAdic::Scratch scratch;
    Limb c[kMaxCipherLimbs];
    WipedArray<Limb, 2 * PAdic::kMaxDigitLimbs> x;
    WipedArray<Limb, PAdic::kMaxDigitLimbs> digit;
    WipedArray<Limb, kEntries * 2 * PAdic::kMaxDigitLimbs> table;
    for (std::size_t i = 0; i < count; ++i, in += stride, plain += field_.plain_limbs()) {
      read_limbs(c, cipher_limbs, in, width_);
      field_.enter(x, c, cipher_limbs, scratch);
      raise(x, table, scratch);
      valid[i] = field_.leave_one_plus(digit, x, scratch) ? 1 : 0;
      field_.digit_multiply(digit, digit, kappa_, scratch);
      field_.digit_leave(plain, digit, scratch);
    }
  }

 private:
  static constexpr unsigned kWindow = 4;
  static constexpr std::size_t kEntries = std::size_t{1} << kWindow;

  // x = x^exponent by fixed windows; every entry of the table is read for every digit.
  void raise(Limb* x, Limb* table, PAdic::Scratch& scratch) const noexcept {
    const std::size_t size = 2 * field_.limbs(), bytes = size * sizeof(Limb);
    std::memcpy(table, field_.one(), bytes);
    std::memcpy(table + size, x, bytes);
    for (std::size_t e = 2; e < kEntries; ++e) {
      Limb* entry = table + e * size;
      std::memcpy(entry, table + (e % 2 == 0 ? e / 2 : e - 1) * size, bytes);
      if (e % 2 == 0) {
        field_.square(entry, scratch);
      } else {
        field_.multiply(entry, x, scratch);
      }
    }
    WipedArray<Limb, 2 * PAdic::kMaxDigitLimbs> factor;
    mpn::select(x, table, size, kEntries, exponent_[0]);
    for (std::size_t i = 1; i < digits_; ++i) {
      for (unsigned s = 0; s < kWindow; ++s) field_.square(x, scratch);
      if (vartime_) {
        if (exponent_[i] != 0) field_.multiply(x, table + exponent_[i] * size, scratch);
      } else {
        mpn::select(factor, table, size, kEntries, exponent_[i]);
        field_.multiply(x, factor, scratch);
      }
    }
  }

  PAdic field_;
  std::size_t width_;
  bool vartime_;
  std::size_t digits_;
  SecureBuffer memory_;
  Limb* kappa_;  // Montgomery form
  std::uint8_t* exponent_;
};

// --- Owner's encryption -------------------------------------------------------------------------------------------

// Fixed-base windows modulo p². A table element T = g_n^(d 2^(w i)) is kept as the digit u that stands for T up to a
// factor 1 + p mu, and mu: products then cost two half products instead of three, and the mu are only added up.
class OwnerSide {
 public:
  OwnerSide(const Integer& p, const Integer& order, const Integer& base, const Integer& scale)
      : field_(p),
        windows_((order.bits() + kWindow - 1) / kWindow),
        exponent_limbs_(order.limbs()),
        scale_memory_(field_.limbs() * sizeof(Limb)),
        table_(windows_ * kEntries * 2 * field_.limbs() * sizeof(Limb), Locking::if_possible) {
    field_.to_digit(scale_memory_.as<Limb>(), scale * field_.radix(2) % p);
    build(p, base);
  }

  [[nodiscard]] const PAdic& field() const noexcept { return field_; }
  [[nodiscard]] std::size_t exponent_limbs() const noexcept { return exponent_limbs_; }

  // plain[0..2 plain_limbs) = (1 + p (m scale)) * base^r mod p², in [0, p²).
  void encrypt(Limb* plain, const Limb* m, const Limb* r, PAdic::Scratch& scratch) const noexcept {
    const std::size_t n = field_.limbs(), size = 2 * n;
    WipedArray<Limb, 2 * PAdic::kMaxDigitLimbs> x, entry;
    WipedArray<Limb, PAdic::kMaxDigitLimbs> sum, factor, product;
    std::memset(sum, 0, n * sizeof(Limb));
    for (std::size_t w = 0; w < windows_; ++w) {
      mpn::select(entry, table_.as<Limb>() + w * kEntries * size, size, kEntries,
                  window(r, exponent_limbs_, w * kWindow, kWindow));
      if (w == 0) {
        std::memcpy(x, entry, n * sizeof(Limb));
        std::memset(x + n, 0, n * sizeof(Limb));
      } else {
        field_.multiply_digit(x, entry, scratch);
      }
      field_.digit_add(sum, entry + n);
    }
    // The mu were stored times R², so that one reduction of their sum leaves it times R.
    field_.digit_reduce(factor, sum, scratch);
    field_.digit_enter(product, m);
    field_.digit_multiply(product, product, scale_memory_.as<Limb>(), scratch);
    field_.digit_add(factor, product);
    field_.digit_multiply(product, x, factor, scratch);  // x (1 + p s) = u + p (v + u s)
    field_.digit_add(x + n, product);
    field_.leave(plain, x, scratch);
  }

 private:
  static constexpr unsigned kWindow = 5;
  static constexpr std::size_t kEntries = std::size_t{1} << kWindow;

  void build(const Integer& p, const Integer& base) {
    const std::size_t n = field_.limbs(), size = 2 * n, bytes = size * sizeof(Limb);
    const std::size_t entries = windows_ * kEntries;
    PAdic::Scratch scratch;
    Limb* table = table_.as<Limb>();
    SecureBuffer step_memory(bytes);
    Limb* step = step_memory.as<Limb>();
    field_.enter(step, base);
    for (std::size_t w = 0; w < windows_; ++w) {
      Limb* entry = table + w * kEntries * size;
      std::memcpy(entry, field_.one(), bytes);
      for (std::size_t d = 1; d < kEntries; ++d) {
        std::memcpy(entry + d * size, entry + (d - 1) * size, bytes);
        field_.multiply(entry + d * size, step, scratch);
      }
      WipedArray<Limb, 2 * PAdic::kMaxDigitLimbs> next;
      std::memcpy(next, entry + (kEntries - 1) * size, bytes);
      field_.multiply(next, step, scratch);
      std::memcpy(step, next, bytes);
    }
    // mu = v / u for all entries with one inversion (Montgomery's trick): prefix products, then back.
    SecureBuffer prefix_memory(entries * n * sizeof(Limb), Locking::if_possible);
    Limb* prefix = prefix_memory.as<Limb>();
    std::memcpy(prefix, table, n * sizeof(Limb));
    for (std::size_t i = 1; i < entries; ++i) {
      field_.digit_multiply(prefix + i * n, prefix + (i - 1) * n, table + i * size, scratch);
    }
    SecureBuffer running_memory(3 * n * sizeof(Limb));
    Limb *running = running_memory.as<Limb>(), *inverse = running + n, *r2 = inverse + n;
    const Integer radix2 = field_.radix(2);
    field_.to_digit(r2, radix2);
    WipedArray<Limb, kMaxPrimeLimbs> last;
    field_.digit_leave(last, prefix + (entries - 1) * n, scratch);
    const Integer last_inverse = pow(Integer::from_limbs(last, field_.plain_limbs()), p - Integer(2), p);
    field_.to_digit(running, last_inverse * radix2 % p);
    for (std::size_t i = entries; i-- > 0;) {
      Limb* entry = table + i * size;
      if (i == 0) {
        std::memcpy(inverse, running, n * sizeof(Limb));
      } else {
        field_.digit_multiply(inverse, running, prefix + (i - 1) * n, scratch);
        field_.digit_multiply(running, running, entry, scratch);
      }
      field_.digit_multiply(entry + n, entry + n, inverse, scratch);
      field_.digit_multiply(entry + n, entry + n, r2, scratch);
    }
  }

  PAdic field_;
  std::size_t windows_, exponent_limbs_;
  SecureBuffer scale_memory_;  // scale R² mod p
  SecureBuffer table_;
};

class PortableOwnerEncryptor final : public OwnerEncryptor {
 public:
  explicit PortableOwnerEncryptor(const OwnerKey& key)
      : p_(key.p, key.a_p, key.g_n % (key.p * key.p), key.scale_p),
        q_(key.q, key.a_q, key.g_n % (key.q * key.q), key.scale_q),
        width_(key.width),
        memory_((3 * 2 * p_.field().plain_limbs() + 1) * sizeof(Limb)) {
    const std::size_t size = 2 * p_.field().plain_limbs();
    const Integer p2 = key.p * key.p, q2 = key.q * key.q;
    p2_ = memory_.as<Limb>();
    q2_ = p2_ + size;
    q2_inverse_ = q2_ + size;
    p2_inverse_ = q2_inverse_ + size;
    p2.to_limbs(p2_, size);
    q2.to_limbs(q2_, size);
    (inverse(q2, p2) * Integer::power_of_two(64 * size) % p2).to_limbs(q2_inverse_, size);
    *p2_inverse_ = 0 - negative_inverse(p2_[0]);
  }

  void run(const std::uint64_t* m_p, const std::uint64_t* m_q, const std::uint64_t* r_p, const std::uint64_t* r_q,
           std::uint8_t* out, std::size_t stride, std::size_t count) const noexcept override {
    const std::size_t n = p_.field().plain_limbs();
    PAdic::Scratch scratch;
    WipedArray<Limb, 2 * kMaxPrimeLimbs> x_p, x_q;
    Limb c[4 * kMaxPrimeLimbs];
    for (std::size_t i = 0; i < count; ++i, out += stride) {
      p_.encrypt(x_p, m_p + i * n, r_p + i * p_.exponent_limbs(), scratch);
      q_.encrypt(x_q, m_q + i * n, r_q + i * q_.exponent_limbs(), scratch);
      combine(c, x_p, x_q);
      std::memcpy(out, c, width_);
    }
  }

 private:
  // Garner's CRT: c = x_q + q² ((x_p - x_q) / q² mod p²).
  void combine(Limb* c, Limb* x_p, const Limb* x_q) const noexcept {
    const std::size_t size = 2 * p_.field().plain_limbs();
    WipedArray<Limb, 4 * kMaxPrimeLimbs> t;
    WipedArray<Limb, 2 * kMaxPrimeLimbs> h;
    WipedArray<Limb, 8 * kMaxPrimeLimbs> multiply;
    const Limb borrow = mpn::subtract(x_p, x_p, x_q, size);  // x_q < q² < p²
    for (std::size_t i = 0; i < size; ++i) h[i] = p2_[i] & (0 - borrow);
    mpn::add(x_p, x_p, h, size);
    mpn::multiply(t, x_p, q2_inverse_, size, multiply);
    montgomery_reduce(h, nullptr, t, 0, p2_, *p2_inverse_, size, 0);
    mpn::multiply(c, h, q2_, size, multiply);
    const Limb carry = mpn::add(c, c, x_q, size);
    mpn::add_limb(c + size, size, carry);
  }

  OwnerSide p_, q_;
  std::size_t width_;
  SecureBuffer memory_;
  Limb *p2_, *q2_, *q2_inverse_;  // q^-2 R mod p²
  Limb* p2_inverse_;              // p^-2 mod 2^64
};

// --- Public-key encryption ----------------------------------------------------------------------------------------

// Fixed-base windows modulo n², in Montgomery form. Public values.
class PublicTable {
 public:
  // Entry d of window i is base^(digit_value(d) * 2^(stride_bits * i)).
  PublicTable(const PublicModulus& m, const Integer& base, std::size_t windows, unsigned index_bits,
              unsigned stride_bits, const std::vector<unsigned>& digit_values)
      : m_(m), windows_(windows), entries_(std::size_t{1} << index_bits), table_(windows * entries_ * m.limbs) {
    const Integer n = Integer::from_limbs(m.n, m.limbs), r = Integer::power_of_two(64 * m.limbs) % n;
    Integer step = base % n;
    for (std::size_t w = 0; w < windows; ++w) {
      // Powers of step up to the largest digit value, by chained multiplications.
      Integer power = r;
      unsigned exponent = 0;
      for (std::size_t d = 0; d < entries_; ++d) {
        for (; exponent < digit_values[d]; ++exponent) power = power * step % n;
        power.to_limbs(table_.data() + (w * entries_ + d) * m.limbs, m.limbs);
      }
      for (unsigned s = 0; s < stride_bits; ++s) step = step * step % n;
    }
  }

  [[nodiscard]] std::size_t windows() const noexcept { return windows_; }
  void select(Limb* out, std::size_t window, std::size_t index) const noexcept {
    mpn::select(out, table_.data() + window * entries_ * m_.limbs, m_.limbs, entries_, index);
  }

 private:
  const PublicModulus& m_;
  std::size_t windows_, entries_;
  std::vector<Limb> table_;
};

class PortablePublicEncryptor final : public PublicEncryptor {
 public:
  explicit PortablePublicEncryptor(const PublicEncryptionKey& key)
      : m_(key.n * key.n, key.width),
        direct_(key.g == key.n + Integer(1)),
        message_limbs_((2 * key.dimensions + 63) / 64),
        r_limbs_((key.r_bits + 63) / 64),
        n_(key.n.limbs()),
        noise_(m_, key.g_n, (key.r_bits + kNoiseWindow - 1) / kNoiseWindow, kNoiseWindow, kNoiseWindow, all_values()),
        message_(m_, key.g, direct_ ? 0 : (key.dimensions + kFields - 1) / kFields, kFields, 2 * kFields,
                 field_values()) {
    key.n.to_limbs(n_.data(), n_.size());
  }

  void run(const std::uint64_t* m, const std::uint64_t* r, std::uint8_t* out, std::size_t stride,
           std::size_t count) const noexcept override {
    const std::size_t limbs = m_.limbs;
    Limb x[kMaxCipherLimbs], entry[kMaxCipherLimbs];
    for (std::size_t i = 0; i < count; ++i, out += stride, m += message_limbs_, r += r_limbs_) {
      for (std::size_t w = 0; w < noise_.windows(); ++w) {
        noise_.select(w == 0 ? x : entry, w, window(r, r_limbs_, w * kNoiseWindow, kNoiseWindow));
        if (w != 0) multiply(x, entry);
      }
      for (std::size_t w = 0; w < message_.windows(); ++w) {
        const unsigned fields = window(m, message_limbs_, w * 2 * kFields, 2 * kFields);
        message_.select(entry, w, compress(fields));
        multiply(x, entry);
      }
      // A plain factor takes the Montgomery form off.
      std::memset(entry, 0, sizeof entry);
      if (direct_) {
        // 1 + m n < n², for m < 4^dimensions / 3 < n / 2
        for (std::size_t j = 0; j < message_limbs_ && j < limbs; ++j) {
          const std::size_t room = std::min(n_.size(), limbs - j);
          const Limb carry = mpn::add_multiple(entry + j, n_.data(), room, m[j]);
          if (j + room < limbs) entry[j + room] = carry;
        }
        mpn::add_limb(entry, limbs, 1);
      } else {
        entry[0] = 1;
      }
      multiply(x, entry);
      std::memcpy(out, x, m_.width);
    }
  }

 private:
  static constexpr unsigned kNoiseWindow = 6;
  static constexpr unsigned kFields = 4;  // 2-bit fields of value 0 or 1 per window of the message

  static unsigned compress(unsigned fields) noexcept {
    return (fields & 1) | (fields >> 1 & 2) | (fields >> 2 & 4) | (fields >> 3 & 8);
  }
  static std::vector<unsigned> all_values() {
    std::vector<unsigned> values(std::size_t{1} << kNoiseWindow);
    for (unsigned i = 0; i < values.size(); ++i) values[i] = i;
    return values;
  }
  static std::vector<unsigned> field_values() {
    std::vector<unsigned> values(std::size_t{1} << kFields);
    for (unsigned i = 0; i < values.size(); ++i) values[i] = (i & 1) | (i & 2) << 1 | (i & 4) << 2 | (i & 8) << 3;
    return values;
  }

  // x = x y / R mod n²
  void multiply(Limb* x, const Limb* y) const noexcept {
    Limb t[2 * kMaxCipherLimbs], scratch[4 * kMaxCipherLimbs];
    mpn::multiply(t, x, y, m_.limbs, scratch);
    montgomery_reduce(x, nullptr, t, 0, m_.n, 0 - m_.negative_inverse, m_.limbs, 0);
  }

  PublicModulus m_;
  bool direct_;
  std::size_t message_limbs_, r_limbs_;
  std::vector<Limb> n_;
  PublicTable noise_, message_;
};

bool runs_everywhere() noexcept { return true; }

std::unique_ptr<ProductModulus> product(const Integer& modulus, std::size_t width) {
  return std::make_unique<PortableProductModulus>(modulus, width);
}
std::unique_ptr<Decryptor> decryptor(const DecryptionKey& key) { return std::make_unique<PortableDecryptor>(key); }
std::unique_ptr<OwnerEncryptor> owner_encryptor(const OwnerKey& key) {
  return std::make_unique<PortableOwnerEncryptor>(key);
}
std::unique_ptr<PublicEncryptor> public_encryptor(const PublicEncryptionKey& key) {
  return std::make_unique<PortablePublicEncryptor>(key);
}

}  // namespace

constinit const Kernel kPortable{
    "portable",       "GMP's mpn layer, any 64-bit machine",
    runs_everywhere,  product,
    decryptor,        owner_encryptor,
    public_encryptor, make_portable_affine_map,
    &kPortableKeccak,
};

}  // namespace xvec
