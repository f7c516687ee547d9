// The tables of the IFMA kernel's decryption, and the operation itself (see ifma/ifma.h).
#include <algorithm>
#include <cstring>
#include <vector>

#include "ifma/ifma.h"
#include "ifma_makers.h"
#include "secure_memory.h"

namespace xvec::ifma {
namespace {

constexpr std::size_t kBlock = 8;

// -p^-1 mod 2^bits, p odd.
std::uint64_t negated_inverse(const Integer& p, unsigned bits) {
  const Integer b = Integer::power_of_two(bits);
  return (b - inverse(p % b, b)).low64();
}

template <int KeyLen>
void fill_tables(PadicTables<KeyLen>& tables, const DecryptionKey& key) {
  constexpr unsigned kBits = 52;
  using Size = PadicSize<KeyLen>;
  const Integer& p = key.p;
  const Integer p2 = p * p, r = Integer::power_of_two(kBits * Size::limbs) % p2;
  const auto put_pair = [&](std::uint64_t* low, std::uint64_t* high, const Integer& value) {
    (value % p).to_digits(low, Size::limbs, kBits);
    (value / p).to_digits(high, Size::limbs, kBits);
  };
  p.to_digits(tables.p, Size::limbs, kBits);
  tables.negated_inverse = negated_inverse(p, kBits);
  (p << (kBits * Size::limbs - KeyLen + 1)).to_digits(tables.c, Size::limbs, kBits);
  put_pair(tables.one[0], tables.one[1], r);
  Integer power = (r << (2 * kBits)) % p2;
  for (int j = 0; j < Size::cipher_limbs; ++j) {
    put_pair(tables.enter[0][j], tables.enter[1][j], power);
    power = (power << kBits) % p2;
  }
  (key.kappa * r % p).to_digits(tables.kappa, Size::limbs, kBits);
}

// Digits of four bits, most significant first.
std::vector<std::uint8_t> fixed_windows(const Integer& exponent) {
  std::vector<std::uint8_t> steps;
  for (std::size_t at = (exponent.bits() + 3) / 4 * 4; at > 0; at -= 4) {
    unsigned digit = 0;
    for (std::size_t i = at; i-- > at - 4;) digit = 2 * digit + exponent.bit(i);
    steps.push_back(static_cast<std::uint8_t>(digit));
  }
  return steps;
}

// 0 for a squaring, an odd digit < 16 for a multiplication; the first step is the digit to start with.
std::vector<std::uint8_t> sliding_windows(const Integer& exponent) {
  constexpr std::size_t kWindow = 4;
  std::vector<std::uint8_t> steps;
  for (std::size_t at = exponent.bits(); at > 0;) {
    if (!exponent.bit(at - 1)) {
      steps.push_back(0);
      --at;
      continue;
    }
    std::size_t end = at > kWindow ? at - kWindow : 0;
    while (!exponent.bit(end)) ++end;
    unsigned digit = 0;
    const bool first = steps.empty();
    for (std::size_t i = at; i-- > end;) {
      digit = 2 * digit + exponent.bit(i);
      if (!first) steps.push_back(0);
    }
    steps.push_back(static_cast<std::uint8_t>(digit));
    at = end;
  }
  return steps;
}

template <int KeyLen>
class IfmaDecryptor final : public Decryptor {
 public:
  explicit IfmaDecryptor(const DecryptionKey& key) {
    const bool constant = key.schedule == Schedule::constant;
    std::vector<std::uint8_t> steps = constant ? fixed_windows(key.exponent) : sliding_windows(key.exponent);
    memory_ = SecureBuffer(sizeof(PadicTables<KeyLen>) + steps.size());
    fill_tables(*memory_.as<PadicTables<KeyLen>>(), key);
    std::uint8_t* own_steps = memory_.data() + sizeof(PadicTables<KeyLen>);
    std::memcpy(own_steps, steps.data(), steps.size());
    exponent_ = {own_steps, steps.size(), constant};
    wipe(steps.data(), steps.size());
  }

  void run(const std::uint8_t* in, std::size_t stride, std::uint64_t* plain, std::uint8_t* valid,
           std::size_t count) const noexcept override {
    constexpr std::size_t kWidth = 4 * KeyLen / 8, kWords = KeyLen / 64;
    const auto& tables = *memory_.as<PadicTables<KeyLen>>();
    const std::size_t whole = count / kBlock * kBlock, rest = count - whole;
    decrypt(tables, exponent_, in, stride, plain, valid, whole);
    if (rest == 0) return;
    // The last rows in a block that is filled up with zeros.
    std::uint8_t rows[kBlock * kWidth] = {};
    std::uint64_t last_plain[kBlock * kWords];
    std::uint8_t last_valid[kBlock];
    for (std::size_t i = 0; i < rest; ++i) std::memcpy(rows + i * kWidth, in + (whole + i) * stride, kWidth);
    decrypt(tables, exponent_, rows, kWidth, last_plain, last_valid, kBlock);
    std::memcpy(plain + whole * kWords, last_plain, rest * kWords * sizeof(std::uint64_t));
    std::memcpy(valid + whole, last_valid, rest);
    wipe(last_plain, sizeof last_plain);
  }

 private:
  SecureBuffer memory_;
  ExponentSchedule exponent_;
};

template <int KeyLen>
std::unique_ptr<Decryptor> make(const DecryptionKey& key) {
  return key.width == 4 * KeyLen / 8 ? std::make_unique<IfmaDecryptor<KeyLen>>(key) : nullptr;
}

}  // namespace

std::unique_ptr<Decryptor> make_decryptor(const DecryptionKey& key) {
  if (!key.p.is_odd() || key.exponent.is_zero()) return nullptr;
  switch (key.p.bits()) {
    case 1024:
      return make<1024>(key);
    case 1536:
      return make<1536>(key);
    case 2048:
      return make<2048>(key);
    default:
      return nullptr;
  }
}

}  // namespace xvec::ifma
