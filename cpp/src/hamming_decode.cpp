// Decoding of products to distances, and decryption to plaintexts.
#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
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
#include "record_masks.h"
#include "secure_memory.h"
#include "sizes.h"
#include "xvec/hamming.h"

namespace xvec {

namespace {

using detail::KeyMaterial;

constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
constexpr std::uint64_t kLowBits = 0x5555555555555555;  // the low bit of every 2-bit field

void keep_least(std::atomic<std::size_t>& least, std::size_t value) {
  std::size_t seen = least.load();
  while (value < seen && !least.compare_exchange_weak(seen, value)) {
  }
}

}  // namespace

struct HammingDecoder::Impl {
  Impl(const KeyMaterial& key, std::size_t dimensions, Schedule schedule, const Kernel& kernel)
      : layout(key.public_key(), dimensions),
        plain_width(key.public_key().n().size()),
        block(key.has_subgroup() ? kBlock : kBlock / 4),
        one_side(largest_sum(layout.chunk_dimensions) < key.p()),
        n(Integer::from_bytes(key.public_key().n())),
        m(one_side ? key.p() : Integer::from_bytes(key.public_key().n())),
        field(key.p()),
        n_squared(limbs_for_bits(8 * layout.width)),
        q_memory((field.plain_limbs() + field.limbs()) * sizeof(Limb)),
        side_p(make_decryptor(kernel, {key.p(), key.exponent_p(), key.kappa_p(), layout.width, schedule})),
        side_q(make_decryptor(kernel, {key.q(), key.exponent_q(), key.kappa_q(), layout.width, schedule})) {
    Integer::from_bytes(key.public_key().n_squared()).to_limbs(n_squared.data(), n_squared.size());
    const std::size_t limbs = field.plain_limbs();
    key.q().to_limbs(q_memory.as<Limb>(), limbs);
    field.to_digit(q_memory.as<Limb>() + limbs, inverse(key.q(), key.p()) * field.radix(1) % key.p());
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
    const std::size_t n = field.plain_limbs();
    const Limb *q = q_memory.as<Limb>(), *q_inverse = q + n;
    WipedArray<Limb, kMaxPrimeLimbs> h, mask;
    WipedArray<Limb, PAdic::kMaxDigitLimbs> digit;
    const Limb borrow = mpn::subtract(h, m_p, m_q, n);  // m_q < q < p
    for (std::size_t i = 0; i < n; ++i) mask[i] = field.p()[i] & (0 - borrow);
    mpn::add(h, h, mask, n);
    field.digit_enter(digit, h);
    field.digit_multiply(digit, digit, q_inverse, scratch);
    field.digit_leave(h, digit, scratch);
    mpn::multiply(plain, h, q, n, scratch.multiply);
    mpn::add_limb(plain + n, n, mpn::add(plain, plain, m_q, n));
  }

  // Decrypts items [first, last) and gives each plaintext's limbs to consume(item, limbs, count). `bad` keeps the
  // least item that is out of range or malformed.
  template <class Consume>
  void decrypt_block(const std::uint8_t* in, std::size_t first, std::size_t last, bool both,
                     std::atomic<std::size_t>& bad, const Consume& consume) const noexcept {
    const std::size_t n = field.plain_limbs(), width = layout.width, count = last - first;
    Limb m_p[kBlock * kMaxPrimeLimbs], m_q[kBlock * kMaxPrimeLimbs], plain[2 * kMaxPrimeLimbs];
    std::uint8_t valid_p[kBlock], valid_q[kBlock];
    PAdic::Scratch scratch;
    side_p->run(in + first * width, width, m_p, valid_p, count);
    if (both) side_q->run(in + first * width, width, m_q, valid_q, count);
    for (std::size_t i = 0; i < count; ++i) {
      const bool valid = (valid_p[i] & (both ? valid_q[i] : 1)) != 0;
      if (!declassified(valid) || !in_range(in + (first + i) * width)) {
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
  std::size_t block;  // items at a time; plain keys take long for each, and interruption is to be prompt
  bool one_side;
  Modulus n, m;  // m: what plaintexts are known by, the larger prime or n
  PAdic field;   // modulo the larger prime
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
  const std::size_t rows_per_block = std::max<std::size_t>(1, impl_->block / layout.chunks);
  run_batch(count, rows_per_block, batch, [&](const Block& mine) {
    const auto [first, last, worker] = mine;
    std::fill(distances.begin() + static_cast<std::ptrdiff_t>(first),
              distances.begin() + static_cast<std::ptrdiff_t>(last), 0);
    for (std::size_t item = first * layout.chunks; item < last * layout.chunks; item += impl_->block) {
      const std::size_t end = std::min(item + impl_->block, last * layout.chunks);
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

namespace {

constexpr Limb kZero[2 * kMaxPrimeLimbs] = {}, kOne[2 * kMaxPrimeLimbs] = {1};

// What is known of a query: its plaintexts as they are in a sum, and as bits.
struct KnownQuery {
  // A_q / s mod m, and P(q), each of as many limbs as m, chunk by chunk.
  KnownQuery(const HammingDecoder::Query& query, const Layout& layout, const Modulus& n, const Modulus& m,
             const Limb* scale_inverse)
      : limbs(m.limbs()), memory(2 * layout.chunks * limbs * sizeof(Limb)) {
    const RecordMasks masks(query.key, n, layout.dimensions, MaskUse::query);
    const AffineMap encode(n, masks.scale(), kOne, masks.limbs()), rescale(m, kZero, scale_inverse, n.limbs());
    WipedArray<Limb, kMaxMaskLimbs> mask;
    WipedArray<Limb, 2 * kMaxPrimeLimbs> plain;
    Modulus::Scratch scratch;
    for (std::size_t chunk = 0; chunk < layout.chunks; ++chunk) {
      Limb* to = memory.as<Limb>() + 2 * chunk * limbs;
      pack_fields(plain, n.limbs(), query.bits.data() + layout.begin(chunk), layout.size(chunk));
      std::memcpy(to + limbs, plain, limbs * sizeof(Limb));
      masks.mask(mask, chunk, query.nonce.data());
      encode.run(plain, plain, mask, scratch);
      rescale.run(to, kZero, plain, scratch);
    }
  }
  [[nodiscard]] const Limb* scaled(std::size_t chunk) const { return memory.as<Limb>() + 2 * chunk * limbs; }
  [[nodiscard]] const Limb* packed(std::size_t chunk) const { return scaled(chunk) + limbs; }

  std::size_t limbs;
  SecureBuffer memory;
};

// The bits that no P(v) of `fields` fields has; 0 if y is a P(v).
Limb foreign_bits(const Limb* y, std::size_t limbs, std::size_t fields) noexcept {
  Limb found = 0;
  for (std::size_t j = 0; j < limbs; ++j) {
    const std::size_t here = fields > 32 * j ? std::min<std::size_t>(32, fields - 32 * j) : 0;
    found |= y[j] & ~(here == 0 ? 0 : kLowBits >> 2 * (32 - here));
  }
  return found;
}

// What undoes the masks of one writer's records in one epoch: (Dec - F) / s mod m.
struct Unmasking {
  Unmasking(const HammingDecoder::Impl& impl, const RecordKey& key)
      : masks(key, impl.n, impl.layout.dimensions, MaskUse::record),
        inverses(make_inverses(masks, impl.n, impl.m)),
        map(impl.m, scale_inverse(), scale_inverse() + impl.m.limbs(), masks.limbs()) {}

  [[nodiscard]] const Limb* scale_inverse() const { return inverses.as<Limb>(); }

  RecordMasks masks;
  SecureBuffer inverses;  // 1 / s and -1 / s mod m
  AffineMap map;

 private:
  static SecureBuffer make_inverses(const RecordMasks& masks, const Modulus& n, const Modulus& m) {
    SecureBuffer inverses(2 * m.limbs() * sizeof(Limb));
    Modulus::Scratch scratch;
    WipedArray<Limb, 2 * kMaxPrimeLimbs> scale;
    AffineMap(m, kZero, kOne, n.limbs()).run(scale, kZero, masks.scale(), scratch);
    Limb* to = inverses.as<Limb>();
    if (!declassified(m.invert(to, scale, scratch))) {
      throw std::runtime_error("the scale of a writer shares a factor with n");
    }
    m.subtract(to + m.limbs(), to, scratch);
    return inverses;
  }
};

// Gives what is under the mask of each ciphertext to consume(row, chunk, y, scratch), which returns the bits that
// should not be there. Whether there were none, and all were ciphertexts; everything is worked on in any case.
template <class Consume>
bool unmask(const HammingDecoder::Impl& impl, const Unmasking& by, std::span<const std::uint8_t> rows,
            std::span<const std::uint8_t> nonces, const Batch& batch, const Consume& consume) {
  const Layout& layout = impl.layout;
  std::atomic<std::size_t> bad{kNone};
  std::atomic<Limb> foreign{0};
  const std::size_t rows_per_block = std::max<std::size_t>(1, impl.block / layout.chunks);
  run_batch(nonces.size() / kNonceSize, rows_per_block, batch, [&](const Block& mine) {
    const auto [first, last, worker] = mine;
    WipedArray<Limb, kMaxMaskLimbs> mask;
    WipedArray<Limb, 2 * kMaxPrimeLimbs> y;
    Modulus::Scratch scratch;
    Limb found = 0;
    for (std::size_t item = first * layout.chunks; item < last * layout.chunks; item += impl.block) {
      const std::size_t end = std::min(item + impl.block, last * layout.chunks);
      impl.decrypt_block(rows.data(), item, end, !impl.one_side, bad,
                         [&](std::size_t i, const Limb* plain, std::size_t) {
                           const std::size_t row = i / layout.chunks, chunk = i % layout.chunks;
                           by.masks.mask(mask, chunk, nonces.data() + row * kNonceSize);
                           by.map.run(y, plain, mask, scratch);
                           found |= consume(row, chunk, y, scratch);
                         });
    }
    foreign |= found;
  });
  return declassified(bad == kNone && foreign == 0);
}

}  // namespace

void HammingDecoder::decode_records(std::span<const std::uint8_t> rows, std::span<const std::uint8_t> nonces,
                                    const RecordKey& key, const Query& query, std::span<std::int32_t> distances,
                                    const Batch& batch) const {
  const Layout& layout = impl_->layout;
  const std::size_t count = whole_rows(rows.size(), layout.chunks * layout.width, "rows");
  require_size(distances.size(), count, "distances");
  require_size(nonces.size(), count * kNonceSize, "nonces");
  require_size(query.bits.size(), layout.dimensions, "query");
  require_size(query.nonce.size(), kNonceSize, "query nonce");
  if (first_non_bit(query.bits) < query.bits.size()) {
    throw std::invalid_argument("query: only 0 and 1 are bits");
  }
  const Unmasking by(*impl_, key);
  const KnownQuery known(query, layout, impl_->n, impl_->m, by.scale_inverse());
  std::ranges::fill(distances, 0);
  const bool sound = unmask(*impl_, by, rows, nonces, batch,
                            [&](std::size_t row, std::size_t chunk, Limb* y, Modulus::Scratch& scratch) {
                              impl_->m.subtract(y, known.scaled(chunk), scratch);
                              int ones = 0;
                              for (std::size_t j = 0; j < known.limbs; ++j) {
                                ones += std::popcount(y[j] ^ known.packed(chunk)[j]);
                              }
                              distances[row] += ones;
                              return foreign_bits(y, known.limbs, layout.size(chunk));
                            });
  if (!sound) {
    std::ranges::fill(distances, 0);
    throw NotAuthentic();
  }
}

void HammingDecoder::open_records(std::span<const std::uint8_t> rows, std::span<const std::uint8_t> nonces,
                                  const RecordKey& key, std::span<std::uint8_t> bits, const Batch& batch) const {
  const Layout& layout = impl_->layout;
  const std::size_t count = whole_rows(rows.size(), layout.chunks * layout.width, "rows");
  require_size(nonces.size(), count * kNonceSize, "nonces");
  require_size(bits.size(), count * layout.dimensions, "bits");
  const Unmasking by(*impl_, key);
  const std::size_t limbs = impl_->m.limbs();
  const bool sound = unmask(*impl_, by, rows, nonces, batch,
                            [&](std::size_t row, std::size_t chunk, const Limb* y, Modulus::Scratch&) {
                              const std::size_t fields = layout.size(chunk);
                              std::uint8_t* to = bits.data() + row * layout.dimensions + layout.begin(chunk);
                              for (std::size_t i = 0; i < fields; ++i) {
                                const std::size_t k = fields - 1 - i;
                                to[i] = k / 32 < limbs ? static_cast<std::uint8_t>(y[k / 32] >> 2 * (k % 32) & 1) : 0;
                              }
                              return foreign_bits(y, limbs, fields);
                            });
  if (!sound) {
    std::ranges::fill(bits, std::uint8_t{0});
    throw NotAuthentic();
  }
}

void HammingDecoder::decrypt(std::span<const std::uint8_t> rows, std::span<std::uint8_t> plaintexts,
                             const Batch& batch) const {
  const std::size_t width = impl_->layout.width, count = whole_rows(rows.size(), width, "rows");
  const std::size_t plain_width = plaintext_width();
  require_size(plaintexts.size(), count * plain_width, "plaintexts");
  std::atomic<std::size_t> bad{kNone};
  run_batch(count, impl_->block, batch, [&](const Block& mine) {
    impl_->decrypt_block(rows.data(), mine.first, mine.last, true, bad,
                         [&](std::size_t i, const Limb* plain, std::size_t) {
                           std::memcpy(plaintexts.data() + i * plain_width, plain, plain_width);
                         });
  });
  if (bad != kNone) impl_->reject(bad, rows.data() + bad * width);
}

}  // namespace xvec
