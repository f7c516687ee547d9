// The tables of the IFMA kernel's decryption (see ifma/decrypt_tables.h).
#include <type_traits>

#include "ifma/decrypt_tables.h"
#include "ifma_makers.h"
#include "ifma_modulus.h"
#include "lane_decryptor.h"

namespace xvec::ifma {
namespace {

template <int KeyLen>
void fill_tables(PadicTables<KeyLen>& tables, const DecryptionKey& key) {
  constexpr unsigned kBits = kDigitBits;
  using Size = PadicSize<KeyLen>;
  const Integer& p = key.p;
  const Integer p2 = p * p, r = Integer::power_of_two(kBits * Size::limbs) % p2;
  const auto put_pair = [&](std::uint64_t* low, std::uint64_t* high, const Integer& value) {
    (value % p).to_digits(low, Size::limbs, kBits);
    (value / p).to_digits(high, Size::limbs, kBits);
  };
  fill_modulus(tables.modulus, p);
  put_pair(tables.one[0], tables.one[1], r);
  Integer power = (r << (2 * kBits)) % p2;
  for (int j = 0; j < Size::cipher_limbs; ++j) {
    put_pair(tables.enter[0][j], tables.enter[1][j], power);
    power = (power << kBits) % p2;
  }
  (key.kappa * r % p).to_digits(tables.kappa, Size::limbs, kBits);
}

void fill_tables(WovenTables& tables, const DecryptionKey& key) {
  constexpr unsigned kBits = WovenModulus::bits;
  constexpr int kLimbs = WovenModulus::limbs;
  const Integer& p = key.p;
  const Integer p2 = p * p, r = Integer::power_of_two(kBits * kLimbs);
  fill_modulus(tables.modulus, p);

  std::vector<std::uint64_t[kLimbs]> rows(2 * WovenTables::cipher_pairs), second_rows(2 * WovenTables::cipher_pairs);
  Integer row = (r << kBits) % p2;
  for (int j = 0; j < 2 * WovenTables::cipher_pairs; ++j) {
    (row % p).to_digits(rows[j], kLimbs, kBits);
    (row / p).to_digits(second_rows[j], kLimbs, kBits);
    row = (row << kBits) % p2;
  }
  fill_pairs<WovenTables::cipher_pairs>(tables.enter[0], tables.enter_start[0], rows.data(), kBiasSteps + 2);
  fill_pairs<WovenTables::cipher_pairs>(tables.enter[1], tables.enter_start[1], second_rows.data(), kBiasSteps + 2);
  wipe(rows.data(), rows.size() * sizeof rows[0]);
  wipe(second_rows.data(), second_rows.size() * sizeof second_rows[0]);
  // + p, after the division by 2^50, and for the second digits the -1 that the first digit's + p means.
  for (int k = 1; k <= kLimbs; ++k) {
    tables.enter_start[0][k] += tables.modulus.p[k - 1];
    tables.enter_start[1][k] += tables.modulus.p[k - 1] - (k == 1 ? 1 : 0);
  }

  const Integer one = r % p2;
  (one % p).to_digits(tables.one[0], kLimbs, kBits);
  (one / p).to_digits(tables.one[1], kLimbs, kBits);
  (key.kappa * r % p).to_digits(tables.kappa, kLimbs, kBits);
}

template <int KeyLen>
using DecryptionTables = std::conditional_t<KeyLen == 1024, WovenTables, PadicTables<KeyLen>>;

template <int KeyLen>
struct IfmaDecryption {
  static constexpr std::size_t key_len = KeyLen, block = 8;
  using Tables = DecryptionTables<KeyLen>;
  static void fill(Tables& tables, const DecryptionKey& key) { fill_tables(tables, key); }
  static void decrypt(const Tables& tables, const ExponentSchedule& exponent, const std::uint8_t* in,
                      std::size_t stride, std::uint64_t* plain, std::uint8_t* valid, std::size_t count) noexcept {
    ifma::decrypt(tables, exponent, in, stride, plain, valid, count);
  }
};

}  // namespace

std::unique_ptr<Decryptor> make_decryptor(const DecryptionKey& key) {
  switch (key.p.bits()) {
    case 1024:
      return LaneDecryptor<IfmaDecryption<1024>>::make(key);
    case 1536:
      return LaneDecryptor<IfmaDecryption<1536>>::make(key);
    case 2048:
      return LaneDecryptor<IfmaDecryption<2048>>::make(key);
    default:
      return nullptr;
  }
}

}  // namespace xvec::ifma
