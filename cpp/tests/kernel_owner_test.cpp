// The owner's encryption: every kernel gives (1 + m f n) g_n^r mod n², from the halves modulo p² and q².
#include <gtest/gtest.h>

#include "kernel_test.h"

namespace xvec {
namespace {

using test::Numbers;
using test::Prime;
using test::primes;

class OwnerEncryptorTest : public testing::TestWithParam<const Kernel*> {
 protected:
  static const Kernel& kernel() { return *GetParam(); }

  static OwnerKey key_of(const Integer& p, const Integer& q, const Integer& a_p, const Integer& a_q,
                         Numbers& numbers) {
    OwnerKey key;
    key.p = p < q ? q : p;
    key.q = p < q ? p : q;
    key.a_p = a_p;  // nothing depends on their being orders
    key.a_q = a_q;
    const Integer n = p * q;
    do {
      key.g_n = numbers.uniform(2 * n.bits()) % (n * n);
    } while (!(gcd(key.g_n % n, n) == Integer(1)));
    key.scale_p = numbers.uniform(key.p.bits()) % key.p;
    key.scale_q = numbers.uniform(key.q.bits()) % key.q;
    key.width = ((n * n).bits() + 7) / 8;
    return key;
  }

  // Two of the primes at the ends of the range, in turn.
  static OwnerKey key_of_size(std::size_t bits, std::size_t exponent_bits, Numbers& numbers) {
    const std::vector<Prime> all = primes(bits);
    const std::size_t first = numbers.word() % 3;
    const Integer order = Integer::power_of_two(exponent_bits - 1);
    return key_of(all[first].p, all[(first + 1) % 3].p, order + numbers.uniform(exponent_bits - 1),
                  order + numbers.runs(exponent_bits - 1), numbers);
  }

  static Integer random_prime(std::size_t bits, Numbers& numbers) {
    for (;;) {
      const Integer p = Integer::power_of_two(bits - 1) + numbers.uniform(bits - 2) * Integer(2) + Integer(1);
      if (base2_probable_prime(p)) return p;
    }
  }

  // Item 0 has the least values, item 1 the greatest; the others are random, or made of runs of bits.
  static Integer below(const Integer& bound, std::size_t item, Numbers& numbers) {
    if (item == 0) return 0;
    if (item == 1) return bound - Integer(1);
    return item % 3 == 2 ? numbers.runs(bound.bits()) % bound : numbers.uniform(bound.bits()) % bound;
  }

  struct Half {
    std::vector<std::uint64_t> m, r;
    std::vector<Integer> power;  // (1 + p (m scale mod p)) g_n^r mod p²
  };

  static Half half_of(const Integer& p, const Integer& order, const Integer& scale, const Integer& g_n,
                      std::size_t count, Numbers& numbers) {
    const Integer p_squared = p * p;
    const std::size_t m_words = p.limbs(), r_words = order.limbs();
    Half half;
    half.m.resize(count * m_words);
    half.r.resize(count * r_words);
    for (std::size_t i = 0; i < count; ++i) {
      const Integer m = below(p, i, numbers), r = below(order, i, numbers);
      m.to_limbs(&half.m[i * m_words], m_words);
      r.to_limbs(&half.r[i * r_words], r_words);
      half.power.push_back((Integer(1) + p * (m * scale % p)) * pow_vartime(g_n % p_squared, r, p_squared) %
                           p_squared);
    }
    return half;
  }

  static void expect_ciphertexts(const OwnerKey& key, const std::vector<std::size_t>& counts, Numbers& numbers) {
    const auto encryptor = make_owner_encryptor(kernel(), key);
    const Integer p_squared = key.p * key.p, q_squared = key.q * key.q;
    const Integer q_inverse = inverse(q_squared % p_squared, p_squared);
    for (const std::size_t count : counts) {
      const Half p = half_of(key.p, key.a_p, key.scale_p, key.g_n, count, numbers);
      const Half q = half_of(key.q, key.a_q, key.scale_q, key.g_n, count, numbers);
      const std::size_t stride = key.width + 5;
      std::vector<std::uint8_t> out(count * stride, 0x5a);
      encryptor->run(p.m.data(), q.m.data(), p.r.data(), q.r.data(), out.data(), stride, count);
      for (std::size_t i = 0; i < count; ++i) {
        const Integer difference = (p.power[i] + p_squared - q.power[i] % p_squared) * q_inverse % p_squared;
        std::vector<std::uint8_t> row = test::bytes_of(q.power[i] + q_squared * difference, key.width);
        row.resize(stride, 0x5a);
        ASSERT_TRUE(std::equal(row.begin(), row.end(), out.begin() + static_cast<std::ptrdiff_t>(i * stride)))
            << key.p.bits() << " bits, r of " << key.a_p.bits() << " bits, item " << i << " of " << count;
      }
    }
  }
};

TEST_P(OwnerEncryptorTest, BatchesOfEverySize) {
  Numbers numbers(1);
  expect_ciphertexts(key_of_size(1024, 224, numbers), {0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 16, 17, 19}, numbers);
}

TEST_P(OwnerEncryptorTest, KeysAtTheEndsOfTheirRange) {
  Numbers numbers(2);
  for (const std::size_t bits : {1024u, 1536u, 2048u}) {
    const std::vector<Prime> all = primes(bits);
    const Integer order = Integer::power_of_two(bits / 4) - Integer(1);
    for (std::size_t i = 0; i < 3; ++i) {
      expect_ciphertexts(key_of(all[i].p, all[(i + 1) % 3].p, order, order, numbers), {1, 9}, numbers);
    }
  }
}

// Few windows, windows that only fill up a block, and bits that only fill up a window.
TEST_P(OwnerEncryptorTest, ExponentsOfEveryLength) {
  Numbers numbers(3);
  for (const std::size_t bits : {2u, 3u, 8u, 9u, 16u, 25u, 63u, 64u, 65u, 72u, 73u, 127u, 128u, 129u, 512u}) {
    expect_ciphertexts(key_of_size(1024, bits, numbers), {1, 8}, numbers);
  }
  const std::vector<Prime> all = primes(1024);
  expect_ciphertexts(key_of(all[0].p, all[2].p, numbers.uniform(224), numbers.uniform(30), numbers), {1, 9}, numbers);
}

TEST_P(OwnerEncryptorTest, OtherSizes) {
  Numbers numbers(4);
  for (const std::size_t bits : {64u, 512u, 1040u}) {
    const Integer order = Integer::power_of_two(70) - Integer(1);
    const Integer p = random_prime(bits, numbers), q = random_prime(bits, numbers);
    expect_ciphertexts(key_of(p, q, order, order, numbers), {1, 9}, numbers);
  }
}

TEST_P(OwnerEncryptorTest, RandomItems) {
  Numbers numbers(5);
  for (std::size_t i = 0; i < test::cases(1); ++i) {
    expect_ciphertexts(key_of_size(1024, 224, numbers), {40, 3}, numbers);
    expect_ciphertexts(key_of_size(1536, 256, numbers), {16, 1}, numbers);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, OwnerEncryptorTest, testing::ValuesIn(test::kernels_here()), test::name_of);

}  // namespace
}  // namespace xvec
