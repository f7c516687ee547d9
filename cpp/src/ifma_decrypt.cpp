// The tables of the IFMA kernel's decryption (see ifma/ifma.h).
#include <type_traits>

#include "ifma/ifma.h"
#include "ifma_makers.h"
#include "ifma_matrix.h"
#include "lane_decryptor.h"

namespace xvec::ifma {
namespace {

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

// Sums of the low and of the high 52 bits of products.
struct SplitSum {
  std::int64_t low = 0, high = 0;
  void subtract(std::uint64_t a, std::uint64_t b) {
    const Uint128 product = static_cast<Uint128>(a) * b;
    low -= static_cast<std::int64_t>(static_cast<std::uint64_t>(product) & ((std::uint64_t{1} << 52) - 1));
    high -= static_cast<std::int64_t>(static_cast<std::uint64_t>(product >> 52));
  }
};

// What makes a column k non-negative, and is taken from the next: 2^(50 + steps) and 2^steps.
std::int64_t bias(int k, int columns, int steps) {
  return (k < columns ? std::int64_t{1} << (50 + steps) : 0) - (k > 0 ? std::int64_t{1} << steps : 0);
}

// A fixed matrix for Winograd's pairing: rows 2i and 2i + 1 make pair i. start: minus the products within pairs, by
// column, plus the bias.
template <int Pairs>
void fill_pairs(std::uint64_t (*table)[Pairs][2][WovenTables::strip_width], std::uint64_t* start,
                const std::uint64_t (*rows)[WovenTables::limbs], int bias_steps) {
  constexpr int kWidth = WovenTables::strip_width, kLimbs = WovenTables::limbs;
  std::int64_t high_before = 0;
  for (int k = 0; k <= kLimbs; ++k) {
    SplitSum sum;
    for (int i = 0; i < Pairs && k < kLimbs; ++i) {
      table[k / kWidth][i][0][k % kWidth] = rows[2 * i + 1][k];
      table[k / kWidth][i][1][k % kWidth] = rows[2 * i][k];
      sum.subtract(rows[2 * i][k], rows[2 * i + 1][k]);
    }
    start[k] = static_cast<std::uint64_t>(sum.low + 4 * high_before + bias(k, kLimbs, bias_steps));
    high_before = sum.high;
  }
}

// See padic1024.h for what all these are.
void fill_tables(WovenTables& tables, const DecryptionKey& key) {
  constexpr unsigned kBits = WovenTables::bits;
  constexpr int kLimbs = WovenTables::limbs;
  const Integer& p = key.p;
  const Integer p2 = p * p, r = Integer::power_of_two(kBits * kLimbs);
  std::uint64_t* const own_p = tables.p;
  std::uint64_t* const inverse_p = tables.negated_inverse;
  tables.mask = (std::uint64_t{1} << kBits) - 1;
  p.to_digits(own_p, kLimbs, kBits);
  (r - inverse(p, r)).to_digits(inverse_p, kLimbs, kBits);

  constexpr int kSteps = 8;  // of biases, where nothing else is said
  for (int k = 0; k < 2; ++k) tables.product_bias[k] = static_cast<std::uint64_t>(bias(k, 2, kSteps));
  std::int64_t high_before = 0;
  for (int k = 0; k < kLimbs; ++k) {
    SplitSum sum;
    for (int i = 0; 2 * i + 1 <= k; ++i) sum.subtract(inverse_p[k - 2 * i], inverse_p[k - 2 * i - 1]);
    tables.quotient_start[k] = static_cast<std::uint64_t>(sum.low + 4 * high_before + bias(k, kLimbs, kSteps));
    high_before = sum.high;
  }
  // Column 19 gives only its high half; column 20 only its carry, rounded up; columns from 21 get the added p.
  for (int k = 19; k <= 2 * kLimbs - 1; ++k) {
    SplitSum sum;
    for (int i = 1; i <= kLimbs / 2; ++i) {
      const int d = k - 2 * i;
      if (d >= 0 && d + 1 < kLimbs) sum.subtract(own_p[d], own_p[d + 1]);
    }
    std::int64_t start = k == 19 ? sum.high : k == 20 ? sum.low : sum.low + 4 * high_before;
    if (k == 20) start += static_cast<std::int64_t>(tables.mask) - (std::int64_t{1} << kSteps);
    if (k > 20) start += static_cast<std::int64_t>(own_p[k - 21]) + bias(k - 21, kLimbs - 1, kSteps);
    high_before = sum.high;
    tables.high_start[0][k - 19] = static_cast<std::uint64_t>(start);
    if (k > 20) start += bias(k, 2 * kLimbs - 1, kSteps);
    tables.high_start[1][k - 19] = static_cast<std::uint64_t>(start);
  }

  // A multiple of p above all m, 2^1051 < C < 2^1052, biased like a number of 20 columns.
  (p << 28).to_digits(tables.c, kLimbs, kBits);
  for (int k = 0; k < kLimbs; ++k) tables.c[k] += static_cast<std::uint64_t>(bias(k, kLimbs - 1, kSteps));

  std::vector<std::uint64_t[kLimbs]> rows(2 * WovenTables::cipher_pairs), second_rows(2 * WovenTables::cipher_pairs);
  Integer row = inverse(Integer::power_of_two(kBits * (kLimbs - 1)) % p, p);
  for (int j = 0; j < 2 * WovenTables::fixed_pairs; ++j) {
    row.to_digits(rows[j], kLimbs, kBits);
    row = (row << kBits) % p;
  }
  fill_pairs<WovenTables::fixed_pairs>(tables.fixed, tables.fixed_start, rows.data(), kSteps + 1);
  row = (r << kBits) % p2;
  for (int j = 0; j < 2 * WovenTables::cipher_pairs; ++j) {
    (row % p).to_digits(rows[j], kLimbs, kBits);
    (row / p).to_digits(second_rows[j], kLimbs, kBits);
    row = (row << kBits) % p2;
  }
  fill_pairs<WovenTables::cipher_pairs>(tables.enter[0], tables.enter_start[0], rows.data(), kSteps + 2);
  fill_pairs<WovenTables::cipher_pairs>(tables.enter[1], tables.enter_start[1], second_rows.data(), kSteps + 2);
  wipe(rows.data(), rows.size() * sizeof rows[0]);
  wipe(second_rows.data(), second_rows.size() * sizeof second_rows[0]);
  // + p, after the division by 2^50, and for the second digits the -1 that the first digit's + p means.
  for (int k = 1; k <= kLimbs; ++k) {
    tables.fixed_start[k] += own_p[k - 1] - (k == 1 ? 1 : 0);
    tables.enter_start[0][k] += own_p[k - 1];
    tables.enter_start[1][k] += own_p[k - 1] - (k == 1 ? 1 : 0);
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
