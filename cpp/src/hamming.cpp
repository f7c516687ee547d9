// Bit vectors <-> plaintexts <-> ciphertexts, over the operations of a kernel.
#include "xvec/hamming.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "batch.h"
#include "hamming_internal.h"
#include "kernel.h"
#include "key_material.h"
#include "mpn.h"
#include "padic.h"
#include "random.h"
#include "secure_memory.h"
#include "sizes.h"

namespace xvec {

namespace {

using detail::KeyMaterial;

constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
constexpr std::size_t kBlock = 32;  // items that a thread takes at a time: a multiple of every lane count
constexpr std::uint64_t kLowBits = 0x5555555555555555;  // the low bit of every 2-bit field

std::size_t limbs_for_bits(std::size_t bits) { return (bits + 63) / 64; }

void keep_least(std::atomic<std::size_t>& least, std::size_t value) {
  std::size_t seen = least.load();
  while (value < seen && !least.compare_exchange_weak(seen, value)) {
  }
}

// The largest sum of two vectors of d bits: 2 (4^d - 1) / 3.
Integer largest_sum(std::size_t d) { return (Integer::power_of_two(2 * d) - Integer(1)) * Integer(2) / Integer(3); }

// How vectors are cut into chunks of at most key_len bits.
struct Layout {
  std::size_t dimensions, chunk_dimensions, chunks, width;

  Layout(const PublicKey& key, std::size_t d) : dimensions(d), width(key.width()) {
    const Integer n = Integer::from_bytes(key.n());
    if (d == 0) throw std::invalid_argument("dimensions: must be at least 1");
    chunk_dimensions = std::min(d, detail::key_len_of(n));
    chunks = (d + chunk_dimensions - 1) / chunk_dimensions;
    if (largest_sum(chunk_dimensions) >= n) {
      throw std::invalid_argument("dimensions: sums of " + std::to_string(chunk_dimensions) +
                                  " fields do not fit this key's modulus; the key is exact up to " +
                                  std::to_string(detail::key_len_of(n) - 1) + " dimensions");
    }
  }

  [[nodiscard]] std::size_t begin(std::size_t chunk) const { return chunk * chunk_dimensions; }
  [[nodiscard]] std::size_t size(std::size_t chunk) const {
    return std::min(chunk_dimensions, dimensions - begin(chunk));
  }
};

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

// limbs = sum of bits_i 4^(count-1-i). Returns the OR of all bytes, to be checked against 1.
std::uint8_t pack_fields(Limb* limbs, std::size_t limb_count, const std::uint8_t* bits, std::size_t count) noexcept {
  std::uint8_t seen = 0;
  const std::uint8_t* last = bits + count;
  for (std::size_t j = 0; j < limb_count; ++j) {
    Limb limb = 0;
    const std::size_t fields = std::min<std::size_t>(32, static_cast<std::size_t>(last - bits));
    last -= fields;
    for (std::size_t i = 0; i < fields; ++i) {
      seen |= last[i];
      limb = limb << 2 | (last[i] & 1u);
    }
    limbs[j] = limb;
  }
  return seen;
}

// x mod p for x of at most 2n limbs, n = limbs(p), by Montgomery products with R² and R³.
class Reducer {
 public:
  Reducer(const PAdic& field, const Integer& p) : field_(field), memory_(3 * field.limbs() * sizeof(Limb)) {
    const std::size_t n = field.limbs();
    const Integer r = Integer::power_of_two(64 * n);
    (r * r % p).to_limbs(memory_.as<Limb>(), n);
    (r * r % p * r % p).to_limbs(memory_.as<Limb>() + n, n);
    memory_.as<Limb>()[2 * n] = 1;
  }
  void run(Limb* out, const Limb* x, std::size_t limbs, PAdic::Scratch& scratch) const noexcept {
    const std::size_t n = field_.limbs();
    Limb half[kMaxPrimeLimbs], high[kMaxPrimeLimbs];
    std::memset(half, 0, n * sizeof(Limb));
    std::memcpy(half, x, std::min(n, limbs) * sizeof(Limb));
    field_.digit_multiply(out, half, memory_.as<Limb>(), scratch);  // low R
    if (limbs > n) {
      std::memset(half, 0, n * sizeof(Limb));
      std::memcpy(half, x + n, (limbs - n) * sizeof(Limb));
      field_.digit_multiply(high, half, memory_.as<Limb>() + n, scratch);  // (high R) R
      field_.digit_add(out, high);
    }
    field_.digit_multiply(out, out, memory_.as<Limb>() + 2 * n, scratch);
  }

 private:
  const PAdic& field_;
  SecureBuffer memory_;  // R² mod p, R³ mod p, 1
};

// Serves random bytes from blocks, so that a small draw costs no system call; wiped at the end.
class BufferedRandom {
 public:
  explicit BufferedRandom(RandomSource& source) : source_(source) {}
  BufferedRandom(const BufferedRandom&) = delete;
  BufferedRandom& operator=(const BufferedRandom&) = delete;
  ~BufferedRandom() { wipe(block_, sizeof block_); }

  // `bits` random bits into `limbs` limbs.
  void draw(Limb* out, std::size_t limbs, std::size_t bits) {
    std::memset(out, 0, limbs * sizeof(Limb));
    auto* bytes = reinterpret_cast<std::uint8_t*>(out);
    for (std::size_t want = (bits + 7) / 8; want > 0;) {
      if (used_ == sizeof block_) {
        source_.fill(block_);
        used_ = 0;
      }
      const std::size_t some = std::min(want, sizeof block_ - used_);
      std::memcpy(bytes, block_ + used_, some);
      used_ += some;
      bytes += some;
      want -= some;
    }
    if (bits % 64 != 0) out[limbs - 1] &= (Limb{1} << bits % 64) - 1;
  }

  // Uniform in [0, bound) by rejection; bound's top limb is not 0.
  void draw_below(Limb* out, const Limb* bound, std::size_t limbs, std::size_t bits) {
    do {
      draw(out, limbs, bits);
    } while (mpn::compare_vartime(out, bound, limbs) >= 0);
  }

 private:
  RandomSource& source_;
  std::uint8_t block_[4096];
  std::size_t used_ = sizeof block_;
};

// Per-slice memory for what a slice draws: secret, so wiped.
class Draws {
 public:
  Draws(std::size_t items, std::size_t limbs)
      : limbs_(limbs), memory_(items * limbs * sizeof(Limb), Locking::if_possible) {}
  [[nodiscard]] Limb* item(std::size_t i) noexcept { return memory_.as<Limb>() + i * limbs_; }
  [[nodiscard]] const Limb* item(std::size_t i) const noexcept { return memory_.as<Limb>() + i * limbs_; }

 private:
  std::size_t limbs_;
  SecureBuffer memory_;
};

}  // namespace

// --- Encryption ---------------------------------------------------------------------------------------------------

// What an encryptor does with a block of packed plaintexts and their random draws. One class for each kind of key.
class BlockEncryptor {
 public:
  virtual ~BlockEncryptor() = default;
  [[nodiscard]] virtual std::size_t draw_limbs() const noexcept = 0;
  virtual void draw(BufferedRandom& random, Limb* out, std::size_t count) const = 0;
  // m: count plaintexts of m_limbs limbs, each < n; draws: count * draw_limbs() limbs as laid out by draw().
  virtual void run(const Limb* m, std::size_t m_limbs, const Limb* draws, std::uint8_t* out, std::size_t width,
                   std::size_t count) const = 0;
};

namespace {

// The exponent (or, for plain keys, base) below a secret bound.
struct Bound {
  explicit Bound(const Integer& bound) : limbs(bound.limbs()), bits(bound.bits()), memory(limbs * sizeof(Limb)) {
    bound.to_limbs(memory.as<Limb>(), limbs);
  }
  void draw(BufferedRandom& random, Limb* out) const { random.draw_below(out, memory.as<Limb>(), limbs, bits); }
  std::size_t limbs, bits;
  SecureBuffer memory;
};

class OwnerBlocks final : public BlockEncryptor {
 public:
  OwnerBlocks(const KeyMaterial& key, const Layout& layout, const Kernel& kernel)
      : bound_p_(key.a_p()),
        bound_q_(key.a_q()),
        field_p_(key.p()),
        field_q_(key.q()),
        reduce_p_(field_p_, key.p()),
        reduce_q_(field_q_, key.q()),
        fits_((largest_sum(layout.chunk_dimensions) >> 1) < key.q()),
        kernel_(make_owner_encryptor(
            kernel, {key.p(), key.q(), key.a_p(), key.a_q(), Integer::from_bytes(key.public_key().g_n()),
                     key.scale_p(), key.scale_q(), layout.width})) {}

  [[nodiscard]] std::size_t draw_limbs() const noexcept override { return bound_p_.limbs + bound_q_.limbs; }

  void draw(BufferedRandom& random, Limb* out, std::size_t count) const override {
    for (std::size_t i = 0; i < count; ++i, out += draw_limbs()) {
      bound_p_.draw(random, out);
      bound_q_.draw(random, out + bound_p_.limbs);
    }
  }

  void run(const Limb* m, std::size_t m_limbs, const Limb* draws, std::uint8_t* out, std::size_t width,
           std::size_t count) const override {
    const std::size_t n = field_p_.limbs();
    Limb m_p[kBlock * kMaxPrimeLimbs], m_q[kBlock * kMaxPrimeLimbs];
    Limb r_p[kBlock * kMaxPrimeLimbs], r_q[kBlock * kMaxPrimeLimbs];
    PAdic::Scratch scratch;
    for (std::size_t i = 0; i < count; ++i) {
      if (fits_) {  // P(v) < q < p is its own residue
        std::memset(m_p + i * n, 0, n * sizeof(Limb));
        std::memcpy(m_p + i * n, m + i * m_limbs, std::min(n, m_limbs) * sizeof(Limb));
      } else {
        reduce_p_.run(m_p + i * n, m + i * m_limbs, m_limbs, scratch);
        reduce_q_.run(m_q + i * n, m + i * m_limbs, m_limbs, scratch);
      }
      const Limb* r = draws + i * draw_limbs();
      std::memcpy(r_p + i * bound_p_.limbs, r, bound_p_.limbs * sizeof(Limb));
      std::memcpy(r_q + i * bound_q_.limbs, r + bound_p_.limbs, bound_q_.limbs * sizeof(Limb));
    }
    kernel_->run(m_p, fits_ ? m_p : m_q, r_p, r_q, out, width, count);
    wipe(r_p, count * bound_p_.limbs * sizeof(Limb));
    wipe(r_q, count * bound_q_.limbs * sizeof(Limb));
  }

 private:
  Bound bound_p_, bound_q_;
  PAdic field_p_, field_q_;
  Reducer reduce_p_, reduce_q_;
  bool fits_;
  std::unique_ptr<OwnerEncryptor> kernel_;
};

class PublicBlocks final : public BlockEncryptor {
 public:
  // 128 bits more than alpha has make r uniform modulo alpha to within 2^-128.
  PublicBlocks(const PublicKey& key, const Layout& layout, std::size_t alpha_len, const Kernel& kernel)
      : r_bits_((alpha_len == 0 ? detail::key_len_of(Integer::from_bytes(key.n())) : alpha_len) + 128),
        kernel_(make_public_encryptor(
            kernel, {Integer::from_bytes(key.n()), Integer::from_bytes(key.g()), Integer::from_bytes(key.g_n()),
                     layout.chunk_dimensions, r_bits_, layout.width})) {}

  [[nodiscard]] std::size_t draw_limbs() const noexcept override { return limbs_for_bits(r_bits_); }
  void draw(BufferedRandom& random, Limb* out, std::size_t count) const override {
    for (std::size_t i = 0; i < count; ++i) random.draw(out + i * draw_limbs(), draw_limbs(), r_bits_);
  }
  void run(const Limb* m, std::size_t, const Limb* draws, std::uint8_t* out, std::size_t width,
           std::size_t count) const override {
    kernel_->run(m, draws, out, width, count);
  }

 private:
  std::size_t r_bits_;
  std::unique_ptr<PublicEncryptor> kernel_;
};

// Plain Paillier keys have no subgroup of short order, so noise costs a full exponentiation and no table helps.
class PlainOwnerBlocks final : public BlockEncryptor {
 public:
  explicit PlainOwnerBlocks(const KeyMaterial& key)
      : bound_p_(key.p()), bound_q_(key.q()), scale_(2 * bound_p_.limbs * sizeof(Limb)) {
    key.scale_p().to_limbs(scale_.as<Limb>(), bound_p_.limbs);
    key.scale_q().to_limbs(scale_.as<Limb>() + bound_p_.limbs, bound_q_.limbs);
  }

  [[nodiscard]] std::size_t draw_limbs() const noexcept override { return bound_p_.limbs + bound_q_.limbs; }
  void draw(BufferedRandom& random, Limb* out, std::size_t count) const override {
    const auto draw_unit = [&](const Bound& bound, Limb* to) {
      do {
        bound.draw(random, to);
      } while (std::all_of(to, to + bound.limbs, [](Limb x) { return x == 0; }));
    };
    for (std::size_t i = 0; i < count; ++i, out += draw_limbs()) {
      draw_unit(bound_p_, out);
      draw_unit(bound_q_, out + bound_p_.limbs);
    }
  }
  void run(const Limb* m, std::size_t m_limbs, const Limb* draws, std::uint8_t* out, std::size_t width,
           std::size_t count) const override {
    const std::size_t limbs = bound_p_.limbs;
    const Integer p = Integer::from_limbs(bound_p_.memory.as<Limb>(), limbs);
    const Integer q = Integer::from_limbs(bound_q_.memory.as<Limb>(), limbs);
    const Integer p2 = p * p, q2 = q * q, q2_inverse = inverse(q2, p2);
    for (std::size_t i = 0; i < count; ++i, draws += draw_limbs(), out += width) {
      const Integer value = Integer::from_limbs(m + i * m_limbs, m_limbs);
      const Integer x_p = side(value, p, p2, Integer::from_limbs(scale_.as<Limb>(), limbs), draws);
      const Integer x_q = side(value, q, q2, Integer::from_limbs(scale_.as<Limb>() + limbs, limbs), draws + limbs);
      (x_q + q2 * ((x_p + p2 - x_q % p2) * q2_inverse % p2)).to_bytes({out, width});
    }
  }

 private:
  static Integer side(const Integer& m, const Integer& p, const Integer& p2, const Integer& scale, const Limb* draw) {
    const Integer noise = pow(Integer::from_limbs(draw, p.limbs()), p, p2);
    return (Integer(1) + p * (m % p * scale % p)) * noise % p2;
  }

  Bound bound_p_, bound_q_;
  SecureBuffer scale_;
};

class PlainPublicBlocks final : public BlockEncryptor {
 public:
  explicit PlainPublicBlocks(const PublicKey& key) : bound_(Integer::from_bytes(key.n())), g_(key.g()) {}

  [[nodiscard]] std::size_t draw_limbs() const noexcept override { return bound_.limbs; }
  void draw(BufferedRandom& random, Limb* out, std::size_t count) const override {
    for (std::size_t i = 0; i < count; ++i) bound_.draw(random, out + i * bound_.limbs);
  }
  void run(const Limb* m, std::size_t m_limbs, const Limb* draws, std::uint8_t* out, std::size_t width,
           std::size_t count) const override {
    const Integer n = Integer::from_limbs(bound_.memory.as<Limb>(), bound_.limbs), n2 = n * n;
    const Integer g = Integer::from_bytes(g_);
    for (std::size_t i = 0; i < count; ++i, out += width) {
      const Integer value = Integer::from_limbs(m + i * m_limbs, m_limbs);
      const Integer message = g == n + Integer(1) ? Integer(1) + value * n : pow(g, value, n2);
      const Integer noise = pow(Integer::from_limbs(draws + i * bound_.limbs, bound_.limbs), n, n2);
      (message * noise % n2).to_bytes({out, width});
    }
  }

 private:
  Bound bound_;
  Number g_;
};

}  // namespace

struct HammingEncryptor::Impl {
  Impl(const Layout& layout_in, std::unique_ptr<BlockEncryptor> blocks_in)
      : layout(layout_in), blocks(std::move(blocks_in)) {}
  Layout layout;
  std::unique_ptr<BlockEncryptor> blocks;
};

namespace detail {

HammingEncryptor make_encryptor(const SecretKey& key, std::size_t dimensions, const Kernel& kernel) {
  using Impl = HammingEncryptor::Impl;
  const KeyMaterial& material = key.material();
  const Layout layout(material.public_key(), dimensions);
  std::unique_ptr<BlockEncryptor> blocks;
  if (material.has_subgroup()) {
    blocks = std::make_unique<OwnerBlocks>(material, layout, kernel);
  } else {
    blocks = std::make_unique<PlainOwnerBlocks>(material);
  }
  return HammingEncryptor(std::make_unique<Impl>(layout, std::move(blocks)));
}

HammingEncryptor make_encryptor(const PublicKey& key, std::size_t dimensions, std::size_t alpha_len,
                                const Kernel& kernel) {
  using Impl = HammingEncryptor::Impl;
  const Layout layout(key, dimensions);
  std::unique_ptr<BlockEncryptor> blocks;
  if (key.has_subgroup()) {
    blocks = std::make_unique<PublicBlocks>(key, layout, alpha_len, kernel);
  } else {
    blocks = std::make_unique<PlainPublicBlocks>(key);
  }
  return HammingEncryptor(std::make_unique<Impl>(layout, std::move(blocks)));
}

void encrypt(const HammingEncryptor& encryptor, std::span<const std::uint8_t> bits, std::span<std::uint8_t> out,
             const Batch& batch, RandomSource& source) {
  const HammingEncryptor::Impl& impl = encryptor.impl();
  const Layout& layout = impl.layout;
  const std::size_t rows = whole_rows(bits.size(), layout.dimensions, "bits");
  const std::size_t items = rows * layout.chunks;
  require_size(out.size(), items * layout.width, "out");
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (bits[i] > 1) {
      throw std::invalid_argument("bits: row " + std::to_string(i / layout.dimensions) + " holds " +
                                  std::to_string(bits[i]) + ", only 0 and 1 are bits");
    }
  }
  const std::size_t m_limbs = limbs_for_bits(2 * layout.chunk_dimensions);
  const std::size_t draw_limbs = impl.blocks->draw_limbs();
  BufferedRandom random(source);
  std::size_t slice_begin = 0;
  std::unique_ptr<Draws> draws;
  Batch by_item{batch.threads, {}};
  if (batch.progress) {
    by_item.progress = [&](std::size_t done, std::size_t) { return batch.progress(done / layout.chunks, rows); };
  }
  run_batch(
      items, kBlock, by_item,
      [&](std::size_t first, std::size_t last) {
        Limb m[kBlock * 2 * kMaxPrimeLimbs];
        for (std::size_t item = first; item < last; ++item) {
          const std::size_t row = item / layout.chunks, chunk = item % layout.chunks;
          pack_fields(m + (item - first) * m_limbs, m_limbs,
                      bits.data() + row * layout.dimensions + layout.begin(chunk), layout.size(chunk));
        }
        impl.blocks->run(m, m_limbs, draws->item(first - slice_begin), out.data() + first * layout.width,
                         layout.width, last - first);
      },
      [&](std::size_t first, std::size_t last) {
        slice_begin = first;
        draws = std::make_unique<Draws>(last - first, draw_limbs);
        impl.blocks->draw(random, draws->item(0), last - first);
      });
}

}  // namespace detail

HammingEncryptor::HammingEncryptor(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
HammingEncryptor::HammingEncryptor(const SecretKey& key, std::size_t dimensions)
    : HammingEncryptor(detail::make_encryptor(key, dimensions, active_kernel())) {}
HammingEncryptor::HammingEncryptor(const PublicKey& key, std::size_t dimensions, std::size_t alpha_len)
    : HammingEncryptor(detail::make_encryptor(key, dimensions, alpha_len, active_kernel())) {}
HammingEncryptor::~HammingEncryptor() = default;
HammingEncryptor::HammingEncryptor(HammingEncryptor&&) noexcept = default;
HammingEncryptor& HammingEncryptor::operator=(HammingEncryptor&&) noexcept = default;
std::size_t HammingEncryptor::dimensions() const noexcept { return impl_->layout.dimensions; }
std::size_t HammingEncryptor::chunks() const noexcept { return impl_->layout.chunks; }
std::size_t HammingEncryptor::width() const noexcept { return impl_->layout.width; }

void HammingEncryptor::encrypt(std::span<const std::uint8_t> bits, std::span<std::uint8_t> out,
                               const Batch& batch) const {
  detail::encrypt(*this, bits, out, batch, system_random());
}

// --- Decoding -----------------------------------------------------------------------------------------------------

struct HammingDecoder::Impl {
  Impl(const KeyMaterial& key, std::size_t dimensions, Schedule schedule, const Kernel& kernel)
      : layout(key.public_key(), dimensions),
        plain_width(key.public_key().n().size()),
        one_side(largest_sum(layout.chunk_dimensions) < key.p()),
        field(key.p()),
        n_squared(limbs_for_bits(8 * layout.width)),
        q_memory(2 * field.limbs() * sizeof(Limb)),
        side_p(make_decryptor(kernel, {key.p(), key.exponent_p(), key.kappa_p(), layout.width, schedule})),
        side_q(make_decryptor(kernel, {key.q(), key.exponent_q(), key.kappa_q(), layout.width, schedule})) {
    Integer::from_bytes(key.public_key().n_squared()).to_limbs(n_squared.data(), n_squared.size());
    const std::size_t n = field.limbs();
    key.q().to_limbs(q_memory.as<Limb>(), n);
    (inverse(key.q(), key.p()) * Integer::power_of_two(64 * n) % key.p()).to_limbs(q_memory.as<Limb>() + n, n);
  }

  [[nodiscard]] bool in_range(const std::uint8_t* c) const noexcept {
    std::vector<Limb>::size_type i = n_squared.size();
    Limb limb[kMaxCipherLimbs];
    limb[i - 1] = 0;
    std::memcpy(limb, c, layout.width);
    if (mpn::compare_vartime(limb, n_squared.data(), i) >= 0) return false;
    return std::any_of(limb, limb + i, [](Limb x) { return x != 0; });
  }

  // plain[0..2n) = the x in [0, n) with x = m_p mod p, x = m_q mod q (Garner).
  void combine(Limb* plain, const Limb* m_p, const Limb* m_q, PAdic::Scratch& scratch) const noexcept {
    const std::size_t n = field.limbs();
    const Limb *q = q_memory.as<Limb>(), *q_inverse = q + n;
    Limb h[kMaxPrimeLimbs], mask[kMaxPrimeLimbs];
    const Limb borrow = mpn::subtract(h, m_p, m_q, n);  // m_q < q < p
    for (std::size_t i = 0; i < n; ++i) mask[i] = field.p()[i] & (0 - borrow);
    mpn::add(h, h, mask, n);
    field.digit_multiply(h, h, q_inverse, scratch);
    mpn::multiply(plain, h, q, n, scratch.multiply);
    mpn::add_limb(plain + n, n, mpn::add(plain, plain, m_q, n));
  }

  // Decrypts items [first, last) and gives each plaintext's limbs to consume(item, limbs, count). `bad` keeps the
  // least item that is out of range or malformed.
  template <class Consume>
  void decrypt_block(const std::uint8_t* in, std::size_t first, std::size_t last, bool both,
                     std::atomic<std::size_t>& bad, const Consume& consume) const noexcept {
    const std::size_t n = field.limbs(), width = layout.width, count = last - first;
    Limb m_p[kBlock * kMaxPrimeLimbs], m_q[kBlock * kMaxPrimeLimbs], plain[2 * kMaxPrimeLimbs];
    std::uint8_t valid_p[kBlock], valid_q[kBlock];
    PAdic::Scratch scratch;
    side_p->run(in + first * width, width, m_p, valid_p, count);
    if (both) side_q->run(in + first * width, width, m_q, valid_q, count);
    for (std::size_t i = 0; i < count; ++i) {
      if (valid_p[i] == 0 || (both && valid_q[i] == 0) || !in_range(in + (first + i) * width)) {
        keep_least(bad, first + i);
      }
      if (both) {
        combine(plain, m_p + i * n, m_q + i * n, scratch);
        consume(first + i, plain, 2 * n);
      } else {
        consume(first + i, m_p + i * n, n);
      }
    }
  }

  [[noreturn]] void reject(std::size_t row, const std::uint8_t* c) const {
    const char* why = in_range(c) ? " is not a ciphertext under this key" : " is not in the range from 1 to n^2 - 1";
    throw InvalidCiphertext("rows: ciphertext of row " + std::to_string(row) + why, row);
  }

  Layout layout;
  std::size_t plain_width;
  bool one_side;
  PAdic field;  // modulo the larger prime
  std::vector<Limb> n_squared;
  SecureBuffer q_memory;  // q, and q^-1 R mod p
  std::unique_ptr<Decryptor> side_p, side_q;
};

namespace detail {

HammingDecoder make_decoder(const SecretKey& key, std::size_t dimensions, Schedule schedule, const Kernel& kernel) {
  return HammingDecoder(std::make_unique<HammingDecoder::Impl>(key.material(), dimensions, schedule, kernel));
}

}  // namespace detail

HammingDecoder::HammingDecoder(const SecretKey& key, std::size_t dimensions, Schedule schedule)
    : HammingDecoder(detail::make_decoder(key, dimensions, schedule, active_kernel())) {}
HammingDecoder::HammingDecoder(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
HammingDecoder::~HammingDecoder() = default;
HammingDecoder::HammingDecoder(HammingDecoder&&) noexcept = default;
HammingDecoder& HammingDecoder::operator=(HammingDecoder&&) noexcept = default;
std::size_t HammingDecoder::dimensions() const noexcept { return impl_->layout.dimensions; }
std::size_t HammingDecoder::chunks() const noexcept { return impl_->layout.chunks; }
std::size_t HammingDecoder::width() const noexcept { return impl_->layout.width; }
int HammingDecoder::sides() const noexcept { return impl_->one_side ? 1 : 2; }
std::size_t HammingDecoder::plaintext_width() const noexcept { return impl_->plain_width; }

void HammingDecoder::decode(std::span<const std::uint8_t> rows, std::span<std::int32_t> distances,
                            const Batch& batch) const {
  const Layout& layout = impl_->layout;
  const std::size_t count = whole_rows(rows.size(), layout.chunks * layout.width, "rows");
  require_size(distances.size(), count, "distances");
  std::atomic<std::size_t> bad{kNone};
  // Rows, not items, are handed out: a distance is the sum over a row's chunks.
  const std::size_t rows_per_block = std::max<std::size_t>(1, kBlock / layout.chunks);
  run_batch(count, rows_per_block, batch, [&](std::size_t first, std::size_t last) {
    std::fill(distances.begin() + static_cast<std::ptrdiff_t>(first),
              distances.begin() + static_cast<std::ptrdiff_t>(last), 0);
    for (std::size_t item = first * layout.chunks; item < last * layout.chunks; item += kBlock) {
      const std::size_t end = std::min(item + kBlock, last * layout.chunks);
      impl_->decrypt_block(rows.data(), item, end, !impl_->one_side, bad,
                           [&](std::size_t i, const Limb* plain, std::size_t limbs) {
                             int ones = 0;
                             for (std::size_t j = 0; j < limbs; ++j) ones += std::popcount(plain[j] & kLowBits);
                             distances[i / layout.chunks] += ones;
                           });
    }
  });
  if (bad != kNone) impl_->reject(bad / layout.chunks, rows.data() + bad * layout.width);
}

void HammingDecoder::decrypt(std::span<const std::uint8_t> rows, std::span<std::uint8_t> plaintexts,
                             const Batch& batch) const {
  const std::size_t width = impl_->layout.width, count = whole_rows(rows.size(), width, "rows");
  const std::size_t plain_width = plaintext_width();
  require_size(plaintexts.size(), count * plain_width, "plaintexts");
  std::atomic<std::size_t> bad{kNone};
  run_batch(count, kBlock, batch, [&](std::size_t first, std::size_t last) {
    impl_->decrypt_block(rows.data(), first, last, true, bad, [&](std::size_t i, const Limb* plain, std::size_t) {
      std::memcpy(plaintexts.data() + i * plain_width, plain, plain_width);
    });
  });
  if (bad != kNone) impl_->reject(bad, rows.data() + bad * width);
}

// --- The server's product -----------------------------------------------------------------------------------------

struct Multiplier::Impl {
  Impl(const Integer& modulus, std::size_t width_in, const Kernel& kernel)
      : width(width_in), n_squared(modulus.limbs()), product(make_product(kernel, modulus, width_in)) {
    modulus.to_limbs(n_squared.data(), n_squared.size());
  }
  std::size_t width;
  std::vector<Limb> n_squared;
  std::unique_ptr<ProductModulus> product;
};

namespace detail {

Multiplier make_multiplier(const Number& n_squared, const Kernel& kernel) {
  const Integer modulus = Integer::from_bytes(n_squared);
  if (!modulus.is_odd() || modulus == Integer(1)) throw std::invalid_argument("n_squared: must be odd and > 1");
  if (modulus.limbs() > kMaxCipherLimbs) throw std::invalid_argument("n_squared: larger than this library supports");
  return Multiplier(std::make_unique<Multiplier::Impl>(modulus, (modulus.bits() + 7) / 8, kernel));
}

}  // namespace detail

Multiplier::Multiplier(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Multiplier::Multiplier(const Number& n_squared) : Multiplier(detail::make_multiplier(n_squared, active_kernel())) {}
Multiplier::~Multiplier() = default;
Multiplier::Multiplier(Multiplier&&) noexcept = default;
Multiplier& Multiplier::operator=(Multiplier&&) noexcept = default;
std::size_t Multiplier::width() const noexcept { return impl_->width; }

void Multiplier::products(std::span<const std::uint8_t> query, std::span<const std::uint8_t> rows,
                          std::span<std::uint8_t> out, const Batch& batch) const {
  const std::size_t width = impl_->width, chunks = whole_rows(query.size(), width, "query");
  if (chunks == 0) throw std::invalid_argument("query: is empty");
  const std::size_t stride = chunks * width, count = whole_rows(rows.size(), stride, "rows");
  require_size(out.size(), rows.size(), "out");
  std::vector<std::unique_ptr<Product>> fixed;
  for (std::size_t j = 0; j < chunks; ++j) {
    fixed.push_back(impl_->product->fix(Integer::from_bytes(query.subspan(j * width, width))));
  }
  run_batch(count, 8 * kBlock, batch, [&](std::size_t first, std::size_t last) {
    for (std::size_t j = 0; j < chunks; ++j) {
      const std::size_t at = first * stride + j * width;
      fixed[j]->run(rows.data() + at, out.data() + at, stride, last - first);
    }
  });
}

std::ptrdiff_t Multiplier::out_of_range(std::span<const std::uint8_t> values) const noexcept {
  const std::size_t width = impl_->width, limbs = impl_->n_squared.size();
  for (std::size_t i = 0; (i + 1) * width <= values.size(); ++i) {
    Limb value[kMaxCipherLimbs];
    value[limbs - 1] = 0;
    std::memcpy(value, values.data() + i * width, width);
    if (mpn::compare_vartime(value, impl_->n_squared.data(), limbs) >= 0 ||
        std::all_of(value, value + limbs, [](Limb x) { return x == 0; })) {
      return static_cast<std::ptrdiff_t>(i);
    }
  }
  return -1;
}

}  // namespace xvec
