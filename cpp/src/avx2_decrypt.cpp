// The tables of the AVX2 kernel's decryption (see avx2/avx2.h).
#include "avx2/avx2.h"
#include "avx2_makers.h"
#include "lane_decryptor.h"
#include "mpn.h"

namespace xvec::avx2 {
namespace {

void put_digits(std::uint32_t* to, int limbs, const Integer& x) {
  std::uint64_t digits[DecryptionTables<2048>::limbs];
  x.to_digits(digits, static_cast<std::size_t>(limbs), kDigitBits);
  for (int k = 0; k < limbs; ++k) to[k] = static_cast<std::uint32_t>(digits[k]);
  wipe(digits, sizeof digits);
}

template <int KeyLen>
struct Avx2Decryption {
  static constexpr std::size_t key_len = KeyLen, block = 4;
  using Tables = DecryptionTables<KeyLen>;

  static void fill(Tables& tables, const DecryptionKey& key) {
    constexpr int kLimbs = Tables::limbs;
    constexpr std::uint64_t kRadix = std::uint64_t{1} << kDigitBits;
    const Integer& p = key.p;
    const Integer p_squared = p * p, r = Integer::power_of_two(kDigitBits * kLimbs) % p_squared;
    std::uint32_t digits[kLimbs];
    put_digits(digits, kLimbs, p);
    for (int k = 0; k < kLimbs; ++k) {
      for (auto& copy : tables.modulus.p[k]) copy = digits[k];
    }
    wipe(digits, sizeof digits);
    tables.modulus.negated_inverse = negative_inverse(p.low64()) & (kRadix - 1);
    // Every limb borrows from the next.
    (p << (kDigitBits * kLimbs - KeyLen + 1)).to_digits(tables.c, kLimbs + 1, kDigitBits);
    for (int k = 0; k < kLimbs; ++k) tables.c[k] += k == 0 ? kRadix : kRadix - 1;
    tables.c[kLimbs] -= 1;

    const auto put_pair = [&](std::uint32_t* low, std::uint32_t* high, const Integer& value) {
      put_digits(low, kLimbs, value % p);
      put_digits(high, kLimbs, value / p);
    };
    put_pair(tables.one[0], tables.one[1], r);
    Integer power = (r << (2 * kDigitBits)) % p_squared;
    for (int j = 0; j < Tables::cipher_limbs; ++j) {
      put_pair(tables.enter[0][j], tables.enter[1][j], power);
      power = (power << kDigitBits) % p_squared;
    }
    put_digits(tables.kappa, kLimbs, key.kappa * r % p);
  }

  static void decrypt(const Tables& tables, const ExponentSchedule& exponent, const std::uint8_t* in,
                      std::size_t stride, std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept {
    avx2::decrypt(tables, exponent, in, stride, plain, valid, count);
  }
};

}  // namespace

std::unique_ptr<Decryptor> make_decryptor(const DecryptionKey& key) {
  switch (key.p.bits()) {
    case 1024:
      return LaneDecryptor<Avx2Decryption<1024>>::make(key);
    case 1536:
      return LaneDecryptor<Avx2Decryption<1536>>::make(key);
    case 2048:
      return LaneDecryptor<Avx2Decryption<2048>>::make(key);
    default:
      return nullptr;
  }
}

}  // namespace xvec::avx2
