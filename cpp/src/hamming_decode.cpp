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
      : kernel(kernel),
        layout(key.public_key(), dimensions),
        plain_width(key.public_key().n().size()),
        block(key.has_subgroup() ? kBlock : kBlock / 4),
        one_side(largest_sum(layout.chunk_dimensions) < key.p()),
        n(Integer::from_bytes(key.public_key().n())),
        p(key.p()),
        q(key.q()),
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

  // Decrypts items [first, last) and gives each plaintext's limbs to consume(item, limbs, count). Before that,
  // change(first, count, m_p, m_q) may replace the residues of all, m_q being null unless `both`. `bad` keeps the least
  // item that is out of range or malformed.
  template <class Change, class Consume>
  void decrypt_block(const std::uint8_t* in, std::size_t first, std::size_t last, bool both,
                     std::atomic<std::size_t>& bad, const Change& change, const Consume& consume) const noexcept {
    const std::size_t n = field.plain_limbs(), width = layout.width, count = last - first;
    Limb m_p[kBlock * kMaxPrimeLimbs], m_q[kBlock * kMaxPrimeLimbs], plain[2 * kMaxPrimeLimbs];
    std::uint8_t valid_p[kBlock], valid_q[kBlock];
    PAdic::Scratch scratch;
    side_p->run(in + first * width, width, m_p, valid_p, count);
    if (both) side_q->run(in + first * width, width, m_q, valid_q, count);
    change(first, count, m_p, both ? m_q : nullptr);
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

  const Kernel& kernel;
  Layout layout;
  std::size_t plain_width;
  std::size_t block;  // items at a time; plain keys take long for each, and interruption is to be prompt
  bool one_side;
  Modulus n, p, q;
  PAdic field;  // modulo the larger prime
  std::vector<Limb> n_squared;
  SecureBuffer q_memory;  // q, and q^-1 R mod p
  std::unique_ptr<Decryptor> side_p, side_q;
};

// For decrypt_block(): residues stay as they are.
constexpr auto kUnchanged = [](std::size_t, std::size_t, Limb*, Limb*) {};

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
      impl_->decrypt_block(rows.data(), item, end, !impl_->one_side, bad, kUnchanged,
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

constexpr Limb kOne[2 * kMaxPrimeLimbs] = {1};

// What is known of a query, chunk by chunk: its plaintext A_q modulo n, and P(q), both of as many limbs as n.
struct KnownQuery {
  KnownQuery(const HammingDecoder::Query& query, const HammingDecoder::Impl& impl)
      : limbs(impl.n.limbs()), memory(2 * impl.layout.chunks * limbs * sizeof(Limb)) {
    const Layout& layout = impl.layout;
    const RecordMasks masks(query.key, impl.n, layout.dimensions, MaskUse::query, kPortableKeccak);
    const auto encode = make_portable_affine_map({impl.n, masks.scale(), kOne, limbs, masks.bits()});
    WipedArray<Limb, kMaxMaskLimbs> mask;
    for (std::size_t chunk = 0; chunk < layout.chunks; ++chunk) {
      Limb *plain_to = memory.as<Limb>() + 2 * chunk * limbs, *packed_to = plain_to + limbs;
      pack_fields(packed_to, limbs, query.bits.data() + layout.begin(chunk), layout.size(chunk));
      masks.masks(mask, {chunk, 1, layout.chunks, query.nonce.data()});
      encode->run(plain_to, packed_to, mask, 1);
    }
  }
  [[nodiscard]] const Limb* plain(std::size_t chunk) const { return memory.as<Limb>() + 2 * chunk * limbs; }
  [[nodiscard]] const Limb* packed(std::size_t chunk) const { return plain(chunk) + limbs; }

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

// Replaces the plaintexts of one writer's records in one epoch, or their sums with a query, by what is under the masks:
// (Dec - F - A_q) / s modulo each prime.
class Unmasking {
 public:
  Unmasking(const HammingDecoder::Impl& impl, const RecordKey& key)
      : layout_(impl.layout),
        limbs_(impl.field.plain_limbs()),
        masks_(key, impl.n, impl.layout.dimensions, MaskUse::record, keccak_of(impl.kernel)),
        stride_(AffineMap::f_stride(masks_.bits() + 1)),
        map_p_(make_map(impl, impl.p)),
        map_q_(impl.one_side ? nullptr : make_map(impl, impl.q)) {}

  // Limbs of working memory that run() wants.
  [[nodiscard]] std::size_t work_limbs() const noexcept { return kMaskGroup * stride_; }

  // As decrypt_block() wants it; query may be null.
  void run(std::size_t first, std::size_t count, Limb* m_p, Limb* m_q, const std::uint8_t* nonces,
           const KnownQuery* query, Limb* group) const noexcept {
    for (std::size_t done = 0; done < count; done += kMaskGroup) {
      const std::size_t some = std::min(kMaskGroup, count - done);
      masks_.masks(group, {first + done, some, layout_.chunks, nonces});
      for (std::size_t i = 0; i < some && query != nullptr; ++i) {
        Limb* f = group + i * stride_;
        const Limb* plain = query->plain((first + done + i) % layout_.chunks);
        mpn::add_limb(f + query->limbs, stride_ - query->limbs, mpn::add(f, f, plain, query->limbs));
      }
      map_p_->run(m_p + done * limbs_, m_p + done * limbs_, group, some);
      if (m_q != nullptr) map_q_->run(m_q + done * limbs_, m_q + done * limbs_, group, some);
    }
  }

 private:
  [[nodiscard]] std::unique_ptr<AffineMap> make_map(const HammingDecoder::Impl& impl, const Modulus& m) const {
    Modulus::Scratch scratch;
    WipedArray<Limb, kMaxPrimeLimbs> scale, inverse, negated;
    reduce(scale, masks_.scale(), impl.n.limbs(), m);
    if (!declassified(m.invert(inverse, scale, scratch))) {
      throw std::runtime_error("the scale of a writer shares a factor with n");
    }
    std::memset(negated, 0, sizeof negated.values);
    m.subtract(negated, inverse, scratch);
    return make_affine_map(impl.kernel, {m, inverse, negated, limbs_, masks_.bits() + 1});
  }

  const Layout& layout_;
  std::size_t limbs_;
  RecordMasks masks_;
  std::size_t stride_;
  std::unique_ptr<AffineMap> map_p_, map_q_;
};

// Gives what is under the mask of each ciphertext to consume(row, chunk, y, limbs), which returns the bits that should
// not be there. Whether there were none, and all were ciphertexts; everything is worked on in any case.
template <class Consume>
bool unmask(const HammingDecoder::Impl& impl, const Unmasking& by, const KnownQuery* query,
            std::span<const std::uint8_t> rows, std::span<const std::uint8_t> nonces, const Batch& batch,
            const Consume& consume) {
  const Layout& layout = impl.layout;
  std::atomic<std::size_t> bad{kNone};
  std::atomic<Limb> foreign{0};
  const std::size_t count = nonces.size() / kNonceSize;
  const std::size_t rows_per_block = std::max<std::size_t>(1, impl.block / layout.chunks);
  std::vector<SecureBuffer> work;  // one for each thread
  for (std::size_t i = batch_workers(count, rows_per_block, batch); i-- > 0;) {
    work.emplace_back(by.work_limbs() * sizeof(Limb), Locking::if_possible);
  }
  run_batch(count, rows_per_block, batch, [&](const Block& mine) {
    const auto [first, last, worker] = mine;
    auto* const group = work[worker].as<Limb>();
    Limb found = 0;
    for (std::size_t item = first * layout.chunks; item < last * layout.chunks; item += impl.block) {
      const std::size_t end = std::min(item + impl.block, last * layout.chunks);
      impl.decrypt_block(
          rows.data(), item, end, !impl.one_side, bad,
          [&](std::size_t from, std::size_t some, Limb* m_p, Limb* m_q) {
            by.run(from, some, m_p, m_q, nonces.data(), query, group);
          },
          [&](std::size_t i, const Limb* y, std::size_t limbs) {
            found |= consume(i / layout.chunks, i % layout.chunks, y, limbs);
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
  const KnownQuery known(query, *impl_);
  std::ranges::fill(distances, 0);
  const bool sound = unmask(*impl_, by, &known, rows, nonces, batch,
                            [&](std::size_t row, std::size_t chunk, const Limb* y, std::size_t limbs) {
                              int ones = 0;
                              for (std::size_t j = 0; j < limbs; ++j) {
                                ones += std::popcount(y[j] ^ known.packed(chunk)[j]);
                              }
                              distances[row] += ones;
                              return foreign_bits(y, limbs, layout.size(chunk));
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
  const bool sound = unmask(*impl_, by, nullptr, rows, nonces, batch,
                            [&](std::size_t row, std::size_t chunk, const Limb* y, std::size_t limbs) {
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
    impl_->decrypt_block(rows.data(), mine.first, mine.last, true, bad, kUnchanged,
                         [&](std::size_t i, const Limb* plain, std::size_t) {
                           std::memcpy(plaintexts.data() + i * plain_width, plain, plain_width);
                         });
  });
  if (bad != kNone) impl_->reject(bad, rows.data() + bad * width);
}

}  // namespace xvec
