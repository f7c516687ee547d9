// Public-key encryption: every kernel gives g^m g_n^r mod n².
#include <gtest/gtest.h>

#include "kernel_test.h"

namespace xvec {
namespace {

using test::Numbers;

class PublicEncryptorTest : public testing::TestWithParam<const Kernel*> {
 protected:
  static const Kernel& kernel() { return *GetParam(); }

  // n of exactly `bits` bits, g and g_n units modulo n².
  static PublicEncryptionKey random_key(std::size_t bits, bool direct, std::size_t dimensions, std::size_t r_bits,
                                        Numbers& numbers) {
    PublicEncryptionKey key;
    key.n = Integer::power_of_two(bits - 1) + numbers.uniform(bits - 1);
    if (!key.n.is_odd()) key.n = key.n + Integer(1);
    return with_bases(std::move(key), direct, dimensions, r_bits, numbers);
  }

  static PublicEncryptionKey with_bases(PublicEncryptionKey key, bool direct, std::size_t dimensions,
                                        std::size_t r_bits, Numbers& numbers) {
    const Integer n_squared = key.n * key.n;
    const auto unit = [&] {
      for (;;) {
        Integer x = numbers.uniform(n_squared.bits()) % n_squared;
        if (gcd(x % key.n, key.n) == Integer(1)) return x;
      }
    };
    key.g = direct ? key.n + Integer(1) : unit();
    key.g_n = unit();
    key.dimensions = dimensions;
    key.r_bits = r_bits;
    key.width = (n_squared.bits() + 7) / 8;
    return key;
  }

  static void expect_ciphertexts(const PublicEncryptionKey& key, std::size_t count, Numbers& numbers) {
    const Integer n_squared = key.n * key.n;
    const std::size_t m_words = (2 * key.dimensions + 63) / 64, r_words = (key.r_bits + 63) / 64;
    std::vector<std::uint64_t> m(count * m_words), r(count * r_words);
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t bit = 0; bit < key.dimensions; ++bit) {
        const bool set = i == 0 ? true : i == 1 ? false : numbers.word() % 2 == 0;
        m[i * m_words + bit / 32] |= static_cast<std::uint64_t>(set) << (2 * (bit % 32));
      }
      for (std::size_t bit = 0; bit < key.r_bits; ++bit) {
        const bool set = i == 0 || i == 1 ? true : i == 2 ? false : numbers.word() % 2 == 0;
        r[i * r_words + bit / 64] |= static_cast<std::uint64_t>(set) << (bit % 64);
      }
    }
    const auto encryptor = make_public_encryptor(kernel(), key);
    const std::size_t stride = key.width + 5;
    std::vector<std::uint8_t> out(count * stride, 0x5a);
    encryptor->run(m.data(), r.data(), out.data(), stride, count);
    for (std::size_t i = 0; i < count; ++i) {
      const Integer expected = pow_vartime(key.g, Integer::from_limbs(&m[i * m_words], m_words), n_squared) *
                               pow_vartime(key.g_n, Integer::from_limbs(&r[i * r_words], r_words), n_squared) %
                               n_squared;
      std::vector<std::uint8_t> row = test::bytes_of(expected, key.width);
      row.resize(stride, 0x5a);
      ASSERT_TRUE(std::equal(row.begin(), row.end(), out.begin() + static_cast<std::ptrdiff_t>(i * stride)))
          << key.n.bits() << " bits, " << key.dimensions << " dimensions, r of " << key.r_bits << " bits, item " << i;
    }
  }
};

TEST_P(PublicEncryptorTest, KeysOfEverySize) {
  Numbers numbers(1);
  // n² of 2080 bits has an odd number of words.
  for (const std::size_t bits : {64u, 512u, 2047u, 2048u, 2080u, 3071u, 3072u, 4095u, 4096u}) {
    for (const bool direct : {false, true}) {
      const std::size_t dimensions = std::min<std::size_t>(bits / 2 - 1, 96);
      expect_ciphertexts(random_key(bits, direct, dimensions, 200, numbers), 9, numbers);
    }
  }
}

TEST_P(PublicEncryptorTest, DimensionsAndExponentsOfEverySize) {
  Numbers numbers(2);
  for (const std::size_t dimensions : {1u, 2u, 7u, 8u, 9u, 31u, 32u, 33u, 64u, 65u}) {
    expect_ciphertexts(random_key(2048, false, dimensions, 1 + 7 * dimensions, numbers), 3, numbers);
  }
  for (const std::size_t r_bits : {1u, 7u, 8u, 63u, 64u, 65u, 128u, 576u}) {
    expect_ciphertexts(random_key(2048, true, 512, r_bits, numbers), 3, numbers);
  }
}

TEST_P(PublicEncryptorTest, BatchesOfEverySize) {
  Numbers numbers(3);
  const PublicEncryptionKey key = random_key(2048, false, 16, 40, numbers);
  for (const std::size_t count : {0u, 1u, 7u, 8u, 9u, 17u}) expect_ciphertexts(key, count, numbers);
}

TEST_P(PublicEncryptorTest, ModuliThatBreakCarries) {
  Numbers numbers(4);
  for (std::size_t i = 0; i < test::cases(8); ++i) {
    for (const std::size_t bits : {2048u, 3072u}) {
      const Integer top = Integer::power_of_two(bits - 1);
      PublicEncryptionKey key;
      key.n = i == 0 ? top + top - Integer(1) : i == 1 ? top + Integer(1) : top + numbers.runs(bits - 1);
      if (!key.n.is_odd()) key.n = key.n + Integer(1);
      expect_ciphertexts(with_bases(std::move(key), i % 2 == 0, 40, 64, numbers), 9, numbers);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, PublicEncryptorTest, testing::ValuesIn(test::kernels_here()), test::name_of);

}  // namespace
}  // namespace xvec
