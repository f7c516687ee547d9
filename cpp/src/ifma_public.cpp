// The tables of the IFMA kernel's public-key encryption, and the operation itself (see ifma/public_tables.h).
#include <algorithm>
#include <cstring>
#include <new>

#include "ifma/public_tables.h"
#include "ifma_makers.h"
#include "ifma_modulus.h"
#include "ifma_windows.h"

namespace xvec::ifma {
namespace {

// Memory for a table of public values, aligned to cache lines.
struct AlignedDelete {
  void operator()(std::uint64_t* words) const { ::operator delete(words, std::align_val_t{64}); }
};
using AlignedWords = std::unique_ptr<std::uint64_t, AlignedDelete>;

AlignedWords aligned_words(std::size_t count) {
  return AlignedWords(
      static_cast<std::uint64_t*>(::operator new(count * sizeof(std::uint64_t), std::align_val_t{64})));
}

// Wide windows save products but cost memory: what does not stay in the cache is not worth it.
constexpr unsigned kMaxWindowBits = 8;
constexpr std::size_t kMaxTableBytes = std::size_t{16} << 20;

template <int KeyLen>
class IfmaPublicEncryptor final : public PublicEncryptor {
 public:
  using Tables = PublicTables<KeyLen>;
  using Elements = PublicElements<KeyLen>;
  static constexpr int kLimbs = Tables::limbs;

  explicit IfmaPublicEncryptor(const PublicEncryptionKey& key) : n_(key.n) {
    fill_modulus(tables_.modulus, n_);
    (Integer::power_of_two(2 * kDigitBits * kLimbs) % n_).to_digits(tables_.r_squared, kLimbs, kDigitBits);
    noise_memory_ = make_table(tables_.noise, key.g_n, key.r_bits, 1);
    const bool direct = key.g == n_ + Integer(1);
    message_memory_ = make_table(tables_.message, key.g, direct ? 0 : key.dimensions, 2);
    tables_.message.words = (2 * key.dimensions + 63) / 64;
  }

  void run(const std::uint64_t* m, const std::uint64_t* r, std::uint8_t* out, std::size_t stride,
           std::size_t count) const noexcept override {
    constexpr std::size_t kWidth = 4 * KeyLen / 8;
    for (std::size_t first = 0; first < count; first += kLanes) {
      const std::size_t items = std::min(kLanes, count - first);
      const std::uint64_t *m_items[kLanes], *r_items[kLanes];
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const std::size_t item = first + std::min(lane, items - 1);  // lanes without an item repeat the last
        m_items[lane] = m + item * tables_.message.words;
        r_items[lane] = r + item * tables_.noise.words;
      }
      if (items == kLanes) {
        encrypt_public_vartime(tables_, m_items, r_items, out + first * stride, stride);
      } else {
        std::uint8_t block[kLanes * kWidth];
        encrypt_public_vartime(tables_, m_items, r_items, block, kWidth);
        for (std::size_t i = 0; i < items; ++i) std::memcpy(out + (first + i) * stride, block + i * kWidth, kWidth);
      }
    }
  }

 private:
  // Windows over `count` index bits.
  AlignedWords make_table(WindowTable& table, const Integer& base, std::size_t count, unsigned step) const {
    table = {nullptr, 0, 0, step, (count * step + 63) / 64};
    if (count == 0) return nullptr;
    const auto words = [&](unsigned bits) { return (lay_out(table, count, bits, step) << bits) * 2 * kLimbs; };
    auto bits = static_cast<unsigned>(std::min<std::size_t>(kMaxWindowBits, count));
    while (bits > 1 && words(bits) * sizeof(std::uint64_t) > kMaxTableBytes) --bits;
    const std::size_t padded = lay_out(table, count, bits, step);
    AlignedWords memory = aligned_words(words(bits));
    table.entries = memory.get();

    const auto one = std::make_unique<Elements>(), start = std::make_unique<Elements>();
    fill_start(*one, *start, n_, base, padded / kLanes * bits * step);
    build_windows(tables_, table, *one, *start);
    return memory;
  }

  Integer n_;
  Tables tables_;
  AlignedWords noise_memory_, message_memory_;
};

template <int KeyLen>
std::unique_ptr<PublicEncryptor> make(const PublicEncryptionKey& key) {
  // Table entries are divided by, and rows are whole words.
  if (key.width != 4 * KeyLen / 8 || key.dimensions > KeyLen) return nullptr;
  return std::make_unique<IfmaPublicEncryptor<KeyLen>>(key);
}

}  // namespace

std::unique_ptr<PublicEncryptor> make_public_encryptor(const PublicEncryptionKey& key) {
  const auto is_unit = [&](const Integer& x) { return gcd(x % key.n, key.n) == Integer(1); };
  if (!key.n.is_odd() || key.r_bits == 0 || !is_unit(key.g) || !is_unit(key.g_n)) return nullptr;
  return of_key_len<PublicEncryptor>((key.n.bits() + 1) / 2, [&]<int KeyLen>() { return make<KeyLen>(key); });
}

}  // namespace xvec::ifma
