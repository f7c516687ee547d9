// Encryption of bit vectors: packing, fresh randomness, and a kernel's encryptor or, for plain keys, GMP.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "affine_map.h"
#include "batch.h"
#include "declassify.h"
#include "hamming_internal.h"
#include "kernel.h"
#include "key_material.h"
#include "layout.h"
#include "mpn.h"
#include "padic.h"
#include "random.h"
#include "record_masks.h"
#include "secure_memory.h"
#include "sizes.h"
#include "xvec/hamming.h"

namespace xvec {

namespace {

using detail::KeyMaterial;

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
    } while (!declassified(mpn::below(out, bound, limbs)));
  }

 private:
  RandomSource& source_;
  std::uint8_t block_[4096];
  std::size_t used_ = sizeof block_;
};

}  // namespace

// What an encryptor does with a block of packed plaintexts and their random draws. One class for each kind of key.
class BlockEncryptor {
 public:
  virtual ~BlockEncryptor() = default;
  // At most kBlock.
  [[nodiscard]] virtual std::size_t items_per_block() const noexcept { return kBlock; }
  [[nodiscard]] virtual std::size_t draw_limbs() const noexcept = 0;
  // Into items_per_block() * draw_limbs() limbs; what it draws for one item after the other does not depend on count.
  virtual void draw(BufferedRandom& random, Limb* out, std::size_t count) const = 0;
  // Limbs that run() wants of plaintexts that need that many.
  [[nodiscard]] virtual std::size_t message_limbs(std::size_t needed) const noexcept { return needed; }
  // What run() wants any plaintext modulo, one after the other; none if it takes those of vectors only.
  [[nodiscard]] virtual std::span<const Modulus> moduli() const noexcept = 0;
  // m: count plaintexts of m_limbs limbs: of vectors or, if `any`, residues by moduli(); draws: as draw() left them.
  virtual void run(const Limb* m, std::size_t m_limbs, bool any, const Limb* draws, std::uint8_t* out,
                   std::size_t width, std::size_t count) const = 0;
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
      : moduli_{Modulus(key.p()), Modulus(key.q())},
        bound_p_(key.a_p()),
        bound_q_(key.a_q()),
        field_p_(key.p()),
        field_q_(key.q()),
        fits_((largest_sum(layout.chunk_dimensions) >> 1) < key.q()),
        kernel_(make_owner_encryptor(
            kernel, {key.p(), key.q(), key.a_p(), key.a_q(), Integer::from_bytes(key.public_key().g_n()),
                     key.scale_p(), key.scale_q(), layout.width})) {}

  [[nodiscard]] std::size_t draw_limbs() const noexcept override { return bound_p_.limbs + bound_q_.limbs; }

  void draw(BufferedRandom& random, Limb* out, std::size_t count) const override {
    for (std::size_t i = 0; i < count; ++i) {
      bound_p_.draw(random, out + i * bound_p_.limbs);
      bound_q_.draw(random, out + kBlock * bound_p_.limbs + i * bound_q_.limbs);
    }
  }

  [[nodiscard]] std::span<const Modulus> moduli() const noexcept override { return moduli_; }
  void run(const Limb* m, std::size_t m_limbs, bool any, const Limb* draws, std::uint8_t* out, std::size_t width,
           std::size_t count) const override {
    const std::size_t n = field_p_.plain_limbs();
    Limb m_p[kBlock * kMaxPrimeLimbs], m_q[kBlock * kMaxPrimeLimbs];
    const bool fits = fits_ && !any;  // P(v) < q < p is its own residue
    if (any || fits) {
      for (std::size_t i = 0; i < count; ++i) {
        const Limb* item = m + i * m_limbs;
        std::memset(m_p + i * n, 0, n * sizeof(Limb));
        std::memcpy(m_p + i * n, item, std::min(n, m_limbs) * sizeof(Limb));
        if (any) std::memcpy(m_q + i * n, item + n, n * sizeof(Limb));
      }
    } else {
      PAdic::Scratch scratch;
      for (std::size_t i = 0; i < count; ++i) {
        field_p_.residue(m_p + i * n, m + i * m_limbs, m_limbs, scratch);
        field_q_.residue(m_q + i * n, m + i * m_limbs, m_limbs, scratch);
      }
    }
    kernel_->run(m_p, fits ? m_p : m_q, draws, draws + kBlock * bound_p_.limbs, out, width, count);
  }

 private:
  Modulus moduli_[2];
  Bound bound_p_, bound_q_;
  PAdic field_p_, field_q_;
  bool fits_;
  std::unique_ptr<OwnerEncryptor> kernel_;
};

// 128 bits more than alpha has make r uniform modulo alpha to within 2^-128.
std::size_t public_exponent_bits(const PublicKey& key, std::size_t alpha_len) {
  const Integer n = Integer::from_bytes(key.n());
  const std::size_t key_len = detail::key_len_of(n);
  const std::size_t least = std::min(2 * detail::subgroup_floor(n.bits()), key_len);
  return (alpha_len == 0 ? key_len : std::clamp(alpha_len, least, 2 * key_len)) + 128;
}

class PublicBlocks final : public BlockEncryptor {
 public:
  PublicBlocks(const PublicKey& key, const Layout& layout, std::size_t alpha_len, const Kernel& kernel)
      : PublicBlocks(Integer::from_bytes(key.n()), key, layout, alpha_len, kernel) {}

  // One block of lanes, so that interruption is prompt under long keys too.
  [[nodiscard]] std::size_t items_per_block() const noexcept override { return kBlock / 4; }
  [[nodiscard]] std::size_t draw_limbs() const noexcept override { return limbs_for_bits(r_bits_); }
  void draw(BufferedRandom& random, Limb* out, std::size_t count) const override {
    for (std::size_t i = 0; i < count; ++i) random.draw(out + i * draw_limbs(), draw_limbs(), r_bits_);
  }
  [[nodiscard]] std::size_t message_limbs(std::size_t) const noexcept override {
    return limbs_for_bits(2 * message_fields_);
  }
  [[nodiscard]] std::span<const Modulus> moduli() const noexcept override {
    return direct_ ? std::span(&n_, 1) : std::span<const Modulus>();
  }
  void run(const Limb* m, std::size_t, bool, const Limb* draws, std::uint8_t* out, std::size_t width,
           std::size_t count) const override {
    kernel_->run(m, draws, out, width, count);
  }

 private:
  PublicBlocks(const Integer& n, const PublicKey& key, const Layout& layout, std::size_t alpha_len,
               const Kernel& kernel)
      : n_(n),
        r_bits_(public_exponent_bits(key, alpha_len)),
        direct_(Integer::from_bytes(key.g()) == n + Integer(1)),
        message_fields_(direct_ ? detail::key_len_of(n) : layout.chunk_dimensions),
        kernel_(make_public_encryptor(kernel, {n, Integer::from_bytes(key.g()), Integer::from_bytes(key.g_n()),
                                               message_fields_, r_bits_, layout.width})) {}

  Modulus n_;
  std::size_t r_bits_;
  bool direct_;                 // g = 1 + n: the message is one factor, and may be anything below n
  std::size_t message_fields_;  // bits of vectors, or half the bits of n
  std::unique_ptr<PublicEncryptor> kernel_;
};

// Plain Paillier keys have no subgroup of short order, so noise costs a full exponentiation and no table helps.
class PlainOwnerBlocks final : public BlockEncryptor {
 public:
  explicit PlainOwnerBlocks(const KeyMaterial& key)
      : n_(Integer::from_bytes(key.public_key().n())),
        bound_p_(key.p()),
        bound_q_(key.q()),
        scale_(2 * bound_p_.limbs * sizeof(Limb)) {
    key.scale_p().to_limbs(scale_.as<Limb>(), bound_p_.limbs);
    key.scale_q().to_limbs(scale_.as<Limb>() + bound_p_.limbs, bound_q_.limbs);
  }

  [[nodiscard]] std::span<const Modulus> moduli() const noexcept override { return {&n_, 1}; }
  // Milliseconds an item: small blocks keep progress and interruption prompt.
  [[nodiscard]] std::size_t items_per_block() const noexcept override { return 4; }
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
  void run(const Limb* m, std::size_t m_limbs, bool, const Limb* draws, std::uint8_t* out, std::size_t width,
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

  Modulus n_;
  Bound bound_p_, bound_q_;
  SecureBuffer scale_;
};

class PlainPublicBlocks final : public BlockEncryptor {
 public:
  explicit PlainPublicBlocks(const PublicKey& key)
      : n_(Integer::from_bytes(key.n())), bound_(Integer::from_bytes(key.n())), g_(key.g()) {}

  [[nodiscard]] std::span<const Modulus> moduli() const noexcept override { return {&n_, 1}; }
  // Milliseconds an item: small blocks keep progress and interruption prompt.
  [[nodiscard]] std::size_t items_per_block() const noexcept override { return 4; }
  [[nodiscard]] std::size_t draw_limbs() const noexcept override { return bound_.limbs; }
  void draw(BufferedRandom& random, Limb* out, std::size_t count) const override {
    for (std::size_t i = 0; i < count; ++i) bound_.draw(random, out + i * bound_.limbs);
  }
  void run(const Limb* m, std::size_t m_limbs, bool, const Limb* draws, std::uint8_t* out, std::size_t width,
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
  Modulus n_;
  Bound bound_;
  Number g_;
};

}  // namespace

struct HammingEncryptor::Impl {
  Impl(const PublicKey& key, const Layout& layout_in, std::unique_ptr<BlockEncryptor> blocks_in,
       const Kernel& kernel_in)
      : n(Integer::from_bytes(key.n())), layout(layout_in), kernel(kernel_in), blocks(std::move(blocks_in)) {}
  Modulus n;
  Layout layout;
  const Kernel& kernel;
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
  return HammingEncryptor(std::make_unique<Impl>(material.public_key(), layout, std::move(blocks), kernel));
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
  return HammingEncryptor(std::make_unique<Impl>(key, layout, std::move(blocks), kernel));
}

namespace {

// Secret working memory for each of a batch's threads.
std::vector<SecureBuffer> workspaces(std::size_t threads, std::size_t limbs) {
  std::vector<SecureBuffer> all;
  for (; threads > 0; --threads) all.emplace_back(limbs * sizeof(Limb), Locking::if_possible);
  return all;
}

// Encrypts every chunk of every row; pack(m, items) writes the plaintexts of a block of items.
template <class Pack>
void encrypt_items(const HammingEncryptor::Impl& impl, std::span<const std::uint8_t> bits, std::size_t m_limbs,
                   bool any, std::span<std::uint8_t> out, const Batch& batch, RandomSource& source,
                   const Pack& pack) {
  const Layout& layout = impl.layout;
  const std::size_t rows = whole_rows(bits.size(), layout.dimensions, "bits");
  const std::size_t items = rows * layout.chunks;
  require_size(out.size(), items * layout.width, "out");
  if (const std::size_t i = first_non_bit(bits); i < bits.size()) {
    throw std::invalid_argument("bits: row " + std::to_string(i / layout.dimensions) + " holds " +
                                std::to_string(bits[i]) + ", only 0 and 1 are bits");
  }
  const std::size_t draw_limbs = impl.blocks->draw_limbs();
  const std::size_t block = impl.blocks->items_per_block();
  BufferedRandom random(source);
  std::vector<SecureBuffer> draws = workspaces(batch_workers(items, block, batch), block * draw_limbs);
  Batch by_item{batch.threads, {}};
  if (batch.progress) {
    by_item.progress = [&](std::size_t done, std::size_t) { return batch.progress(done / layout.chunks, rows); };
  }
  run_batch(
      items, block, by_item,
      [&](const Block& mine) {
        Limb m[kBlock * 2 * kMaxPrimeLimbs];
        pack(m, mine);
        impl.blocks->run(m, m_limbs, any, draws[mine.worker].as<Limb>(), out.data() + mine.first * layout.width,
                         layout.width, mine.last - mine.first);
      },
      // In the order of the items, so that the bytes do not depend on which thread takes which block.
      [&](const Block& mine) { impl.blocks->draw(random, draws[mine.worker].as<Limb>(), mine.last - mine.first); });
}

void pack_item(Limb* m, std::size_t m_limbs, const Layout& layout, const std::uint8_t* bits, std::size_t item) {
  const std::size_t row = item / layout.chunks, chunk = item % layout.chunks;
  pack_fields(m, m_limbs, bits + row * layout.dimensions + layout.begin(chunk), layout.size(chunk));
}

}  // namespace

void encrypt(const HammingEncryptor& encryptor, std::span<const std::uint8_t> bits, std::span<std::uint8_t> out,
             const Batch& batch, RandomSource& source) {
  const HammingEncryptor::Impl& impl = encryptor.impl();
  const std::size_t m_limbs = impl.blocks->message_limbs(limbs_for_bits(2 * impl.layout.chunk_dimensions));
  encrypt_items(impl, bits, m_limbs, false, out, batch, source, [&](Limb* m, const Block& items) {
    for (std::size_t item = items.first; item < items.last; ++item, m += m_limbs) {
      pack_item(m, m_limbs, impl.layout, bits.data(), item);
    }
  });
}

void encrypt_records(const HammingEncryptor& encryptor, std::span<const std::uint8_t> bits,
                     std::span<const std::uint8_t> nonces, const RecordKey& key, MaskUse use,
                     std::span<std::uint8_t> out, const Batch& batch, RandomSource& source) {
  const HammingEncryptor::Impl& impl = encryptor.impl();
  const Layout& layout = impl.layout;
  require_size(nonces.size(), whole_rows(bits.size(), layout.dimensions, "bits") * kNonceSize, "nonces");
  const std::span<const Modulus> moduli = impl.blocks->moduli();
  if (moduli.empty()) {
    throw std::invalid_argument("key: records are encrypted with g = 1 + n, or with the secret key");
  }
  const RecordMasks masks(key, impl.n, layout.dimensions, use, keccak_of(impl.kernel));
  const std::size_t fields = limbs_for_bits(2 * layout.chunk_dimensions), limbs = moduli[0].limbs();
  const std::size_t x_limbs = (fields + limbs - 1) / limbs * limbs;  // whole pieces, as kernels take them
  const Limb one[2 * kMaxPrimeLimbs] = {1};
  WipedArray<Limb, 2 * kMaxPrimeLimbs> scale;
  std::vector<std::unique_ptr<AffineMap>> maps;
  for (const Modulus& m : moduli) {
    reduce(scale, masks.scale(), impl.n.limbs(), m);
    maps.push_back(make_affine_map(impl.kernel, {m, scale, one, x_limbs, masks.bits() + 1}));
  }
  const std::size_t m_limbs = impl.blocks->message_limbs(limbs * maps.size());
  const std::size_t f_limbs = AffineMap::f_stride(masks.bits() + 1);
  const std::size_t workers =
      batch_workers(bits.size() / layout.dimensions * layout.chunks, impl.blocks->items_per_block(), batch);
  std::vector<SecureBuffer> work = workspaces(workers, kMaskGroup * (x_limbs + f_limbs + limbs));
  encrypt_items(impl, bits, m_limbs, true, out, batch, source, [&](Limb* m, const Block& items) {
    auto* const plain = work[items.worker].as<Limb>();
    Limb *const mask = plain + kMaskGroup * x_limbs, *const residue = mask + kMaskGroup * f_limbs;
    for (std::size_t first = items.first; first < items.last; first += kMaskGroup, m += kMaskGroup * m_limbs) {
      const std::size_t count = std::min(kMaskGroup, items.last - first);
      for (std::size_t i = 0; i < count; ++i) {
        pack_item(plain + i * x_limbs, x_limbs, layout, bits.data(), first + i);
        std::fill_n(m + i * m_limbs, m_limbs, 0);
      }
      masks.masks(mask, {first, count, layout.chunks, nonces.data()});
      for (std::size_t k = 0; k < maps.size(); ++k) {
        maps[k]->run(residue, plain, mask, count);
        for (std::size_t i = 0; i < count; ++i) {
          std::memcpy(m + i * m_limbs + k * limbs, residue + i * limbs, limbs * sizeof(Limb));
        }
      }
    }
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

void HammingEncryptor::encrypt_records(std::span<const std::uint8_t> bits, std::span<const std::uint8_t> nonces,
                                       const RecordKey& key, std::span<std::uint8_t> out, const Batch& batch) const {
  detail::encrypt_records(*this, bits, nonces, key, MaskUse::record, out, batch, system_random());
}

void HammingEncryptor::encrypt_query(std::span<const std::uint8_t> bits, std::span<const std::uint8_t> nonce,
                                     const RecordKey& key, std::span<std::uint8_t> out) const {
  require_size(bits.size(), dimensions(), "bits");
  detail::encrypt_records(*this, bits, nonce, key, MaskUse::query, out, Batch{1, {}}, system_random());
}

}  // namespace xvec
