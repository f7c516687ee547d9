// Decryption: every kernel gives L_p(c^exponent mod p²) kappa mod p, and tells the ciphertexts that have none.
#include <gtest/gtest.h>

#include "kernel_test.h"

namespace xvec {
namespace {

using test::Numbers;
using test::Prime;
using test::primes;

class DecryptorTest : public testing::TestWithParam<const Kernel*> {
 protected:
  static const Kernel& kernel() { return *GetParam(); }

  // Ciphertexts of a key: some of the form 1 + x p modulo p², which decrypt under every exponent, and others.
  static std::vector<Integer> ciphertexts(const DecryptionKey& key, std::size_t random, Numbers& numbers) {
    const std::size_t bits = 8 * key.width;
    const Integer &p = key.p, p_squared = p * p, top = Integer::power_of_two(bits);
    std::vector<Integer> all = {0,
                                1,
                                p,
                                p + Integer(1),
                                p_squared - p + Integer(1),
                                p_squared - Integer(1),
                                p_squared,
                                p_squared + Integer(1),
                                top - Integer(1),
                                p - Integer(1),
                                p_squared * p_squared % top};
    for (std::size_t i = 0; i < random; ++i) {
      const Integer x = i % 2 == 0 ? numbers.uniform(p.bits()) % p : numbers.runs(p.bits() - 1);
      const Integer multiple = p_squared * (numbers.uniform(bits) / p_squared);
      const Integer c = Integer(1) + x * p + multiple;
      all.push_back(c < top ? c : Integer(1) + x * p);
      all.push_back(i % 2 == 0 ? numbers.uniform(bits) : numbers.runs(bits));
    }
    return all;
  }

  static void expect_decryption(const DecryptionKey& key, const std::vector<Integer>& ciphertexts) {
    const Integer &p = key.p, p_squared = p * p;
    const std::size_t count = ciphertexts.size(), stride = key.width + 3, limbs = p.limbs();
    std::vector<std::uint8_t> rows(count * stride, 0xff), valid(count + 1, 0x77);
    std::vector<std::uint64_t> plain(count * limbs + 1, 0x77);
    for (std::size_t i = 0; i < count; ++i) {
      ciphertexts[i].to_bytes(std::span(rows).subspan(i * stride, key.width));
    }
    make_decryptor(kernel(), key)->run(rows.data(), stride, plain.data(), valid.data(), count);
    for (std::size_t i = 0; i < count; ++i) {
      const Integer power = pow_vartime(ciphertexts[i] % p_squared, key.exponent, p_squared);
      const bool expected_valid = power % p == Integer(1);
      ASSERT_EQ(valid[i], expected_valid ? 1 : 0) << p.bits() << " bits, item " << i << " of " << count;
      if (expected_valid) {
        ASSERT_EQ(Integer::from_limbs(&plain[i * limbs], limbs), (power - Integer(1)) / p * key.kappa % p)
            << p.bits() << " bits, exponent of " << key.exponent.bits() << " bits, item " << i << " of " << count;
      }
    }
    EXPECT_EQ(valid[count], 0x77);
    EXPECT_EQ(plain[count * limbs], 0x77u);
  }
};

constexpr Schedule kSchedules[] = {Schedule::constant, Schedule::vartime};

// With exponent p - 1 every unit is a ciphertext, so the whole of the arithmetic is seen.
TEST_P(DecryptorTest, PlainKeysAtTheEndsOfTheirRange) {
  Numbers numbers(1);
  for (const std::size_t bits : {1024u, 1536u, 2048u}) {
    for (const Prime& prime : primes(bits)) {
      ASSERT_TRUE(base2_probable_prime(prime.p)) << bits << " bits, " << prime.name;
      if (bits > 1024 && prime.name == std::string("least")) continue;  // the other sizes share their arithmetic
      for (const Schedule schedule : kSchedules) {
        if (bits == 2048 && schedule == Schedule::vartime) continue;
        const DecryptionKey key{prime.p, prime.p - Integer(1), numbers.uniform(bits) % prime.p, bits / 2, schedule};
        expect_decryption(key, ciphertexts(key, bits == 1024 ? 8 : 2, numbers));
      }
    }
  }
}

TEST_P(DecryptorTest, ModuliAndExponentsOfEveryShape) {
  Numbers numbers(2);
  for (std::size_t i = 0; i < test::cases(12); ++i) {
    for (const std::size_t bits : {1024u, 1536u, 2048u}) {
      // Nothing but oddness matters to 1 + x p.
      const Integer half = Integer::power_of_two(bits - 1);
      Integer p = half + (i % 2 == 0 ? numbers.uniform(bits - 1) : numbers.runs(bits - 1));
      if (i == 0) p = half;
      if (i == 1) p = half + half - Integer(1);
      if (!p.is_odd()) p = p + Integer(1);
      const std::size_t exponent_bits = i % 3 == 0 ? 224 : 1 + numbers.word() % 300;
      Integer exponent = i % 4 == 1 ? numbers.runs(exponent_bits) : numbers.uniform(exponent_bits);
      if (exponent.is_zero()) exponent = 1;
      for (const Schedule schedule : kSchedules) {
        const DecryptionKey key{p, exponent, numbers.uniform(bits) % p, bits / 2, schedule};
        expect_decryption(key, ciphertexts(key, 4, numbers));
      }
    }
  }
}

TEST_P(DecryptorTest, SmallExponents) {
  Numbers numbers(3);
  const Integer p = primes(1024)[0].p;
  for (const std::uint64_t exponent :
       {1u, 2u, 3u, 4u, 5u, 8u, 14u, 15u, 16u, 17u, 31u, 32u, 33u, 255u, 256u, 65536u}) {
    for (const Schedule schedule : kSchedules) {
      const DecryptionKey key{p, Integer(exponent), numbers.uniform(1024) % p, 512, schedule};
      expect_decryption(key, ciphertexts(key, 2, numbers));
    }
  }
}

TEST_P(DecryptorTest, OtherSizes) {
  Numbers numbers(4);
  for (const std::size_t bits : {17u, 64u, 65u, 512u, 1023u, 1025u, 1030u, 1100u}) {
    Integer p = Integer::power_of_two(bits - 1) + numbers.uniform(bits - 1);
    if (!p.is_odd()) p = p + Integer(1);
    const DecryptionKey key{p, numbers.uniform(bits / 2) + Integer(1), numbers.uniform(bits) % p, (4 * bits + 7) / 8,
                            Schedule::constant};
    expect_decryption(key, ciphertexts(key, 4, numbers));
  }
}

TEST_P(DecryptorTest, BatchesOfEverySize) {
  Numbers numbers(5);
  const Integer p = primes(1024)[2].p;
  const DecryptionKey key{p, numbers.uniform(40), numbers.uniform(1024) % p, 512, Schedule::constant};
  const std::vector<Integer> all = ciphertexts(key, 8, numbers);
  for (std::size_t count = 0; count <= 17; ++count) {
    expect_decryption(key, std::vector<Integer>(all.end() - static_cast<std::ptrdiff_t>(count), all.end()));
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, DecryptorTest, testing::ValuesIn(test::kernels_here()), test::name_of);

}  // namespace
}  // namespace xvec
