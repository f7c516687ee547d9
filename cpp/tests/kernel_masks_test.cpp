// What records' masks are made with: SHAKE256 by every kernel's permutation, and every kernel's affine maps.
#include <gtest/gtest.h>

#include "affine_map.h"
#include "kernel_test.h"

namespace xvec {
namespace {

using Bytes = std::vector<std::uint8_t>;
using test::Numbers;

std::string hex(const Bytes& bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) {
    for (const unsigned digit : {byte / 16u, byte % 16u}) text += "0123456789abcdef"[digit];
  }
  return text;
}

std::string shaken(const Bytes& in, std::size_t length) {
  Bytes out(length);
  shake256(out, in);
  return hex(out);
}

// From FIPS 202's examples (the empty message) and, for the ends of blocks, OpenSSL.
TEST(Shake256, KnownAnswers) {
  EXPECT_EQ(shaken({}, 32), "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f");
  EXPECT_EQ(shaken({'a', 'b', 'c'}, 16), "483366601360a8771c6863080cc4114d");
  EXPECT_EQ(shaken(Bytes(135, 'x'), 8), "1afe5445228966d3");
  EXPECT_EQ(shaken(Bytes(136, 'x'), 8), "7614c58639bf53a9");
  EXPECT_EQ(shaken(Bytes(137, 'x'), 8), "dec52ac3834de8ec");
  EXPECT_EQ(shaken(Bytes(500, 'x'), 300).substr(592), "923a9cb9");
}

TEST(Modulus, AgreesWithIntegers) {
  Numbers numbers(4);
  for (std::size_t c = 0; c < test::cases(300); ++c) {
    const std::size_t bits = 2 + numbers.word() % 700;
    const Integer m = numbers.runs(bits - 1) * Integer(2) + Integer(1);
    if (m == Integer(1)) continue;
    const Modulus modulus(m);
    const std::size_t n = modulus.limbs(), shift = numbers.word() % 1500, x_limbs = numbers.word() % (3 * n);
    const Integer a = c % 9 == 0 ? m - Integer(1) : numbers.runs(bits) % m, z = numbers.uniform(bits) % m;
    const Integer x = x_limbs == 0 ? Integer() : numbers.runs(64 * x_limbs);
    std::vector<std::uint64_t> a_limbs(n), z_limbs(n), x_all(x_limbs + 1), y(n);
    a.to_limbs(a_limbs.data(), n);
    z.to_limbs(z_limbs.data(), n);
    x.to_limbs(x_all.data(), x_limbs + 1);
    Modulus::Scratch scratch;
    modulus.shift(y.data(), a_limbs.data(), shift, scratch);
    ASSERT_EQ(Integer::from_limbs(y.data(), n), (a << shift) % m) << "case " << c;
    reduce(y.data(), x_all.data(), x_limbs, modulus);
    ASSERT_EQ(Integer::from_limbs(y.data(), n), x % m) << "case " << c;
    y = a_limbs;
    modulus.subtract(y.data(), z_limbs.data(), scratch);
    ASSERT_EQ(Integer::from_limbs(y.data(), n), (a + m - z) % m) << "case " << c;
    ASSERT_EQ(modulus.invert(y.data(), a_limbs.data(), scratch), gcd(a, m) == Integer(1)) << "case " << c;
    if (gcd(a, m) == Integer(1)) {
      ASSERT_EQ(Integer::from_limbs(y.data(), n), inverse(a, m)) << "case " << c;
    }
  }
}

class Masks : public testing::TestWithParam<const Kernel*> {};

TEST_P(Masks, ShakeManyMessagesAsOneByOne) {
  const Keccak& keccak = keccak_of(*GetParam());
  Numbers numbers(1);
  for (const std::size_t length : {0u, 1u, 80u, 135u, 136u, 137u, 271u, 272u, 300u}) {
    for (const std::size_t count : {0u, 1u, 3u, 4u, 7u, 8u, 9u, 21u}) {
      for (const std::size_t size : {0u, 8u, 136u, 137u, 272u, 273u}) {
        const std::size_t stride = size + count % 3;
        Bytes in(length * count), out(stride * count, 0xee);
        for (auto& byte : in) byte = static_cast<std::uint8_t>(numbers.word());
        shake256(keccak, out.data(), size, stride, {in.data(), length, count});
        for (std::size_t i = 0; i < count; ++i) {
          Bytes expected(size);
          shake256(expected, std::span(in).subspan(i * length, length));
          expected.resize(stride, 0xee);  // what lies between results stays
          ASSERT_TRUE(std::equal(expected.begin(), expected.end(), out.data() + i * stride))
              << count << " messages of " << length << " bytes, " << size << " bytes of each, at " << i;
        }
      }
    }
  }
}

struct MapCase {
  Integer m, a, b;
  std::size_t x_limbs, f_bits;
};

// Runs a map over `count` pairs of numbers, which are below 2^(64 x_limbs) and 2^f_bits.
void expect_map(const Kernel& kernel, const MapCase& key, const std::vector<Integer>& x,
                const std::vector<Integer>& f) {
  const Modulus modulus(key.m);
  std::vector<std::uint64_t> a(modulus.limbs()), b(modulus.limbs());
  key.a.to_limbs(a.data(), a.size());
  key.b.to_limbs(b.data(), b.size());
  const auto map = make_affine_map(kernel, {modulus, a.data(), b.data(), key.x_limbs, key.f_bits});
  const std::size_t n = modulus.limbs(), stride = AffineMap::f_stride(key.f_bits), count = x.size();
  std::vector<std::uint64_t> x_limbs(count * key.x_limbs), f_limbs(count * stride), y(count * n + 1, 77);
  for (std::size_t i = 0; i < count; ++i) {
    x[i].to_limbs(&x_limbs[i * key.x_limbs], key.x_limbs);
    f[i].to_limbs(&f_limbs[i * stride], stride);
  }
  map->run(y.data(), x_limbs.data(), f_limbs.data(), count);
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_EQ(Integer::from_limbs(&y[i * n], n), (key.a * x[i] + key.b * f[i]) % key.m) << i << " of " << count;
  }
  EXPECT_EQ(y.back(), 77) << "nothing is written behind the results";
  if (key.x_limbs == n) {
    map->run(x_limbs.data(), x_limbs.data(), f_limbs.data(), count);
    x_limbs.push_back(77);
    EXPECT_EQ(x_limbs, y) << "in place";
  }
}

Integer ones(std::size_t bits) { return Integer::power_of_two(bits) - Integer(1); }

TEST_P(Masks, MapsModuloPrimes) {
  Numbers numbers(2);
  for (const std::size_t bits : {1024u, 1536u, 2048u}) {
    for (const auto& [name, p] : test::primes(bits)) {
      SCOPED_TRACE(std::to_string(bits) + " bits, " + name);
      for (std::size_t c = 0; c < test::cases(6); ++c) {
        const std::size_t x_limbs = (1 + c % 2) * p.limbs(), f_bits = 2 * bits + 128 + c / 2 % 2;
        const Integer a = c == 0 ? p - Integer(1) : numbers.uniform(bits) % p;
        const Integer b = c % 3 == 0 ? Integer(1) : p - a;
        std::vector<Integer> x, f;
        for (std::size_t i = 0; i < 1 + (c * 5 + 7) % 19; ++i) {
          x.push_back(i % 5 == 0 ? ones(64 * x_limbs) : numbers.runs(64 * x_limbs));
          f.push_back(i % 7 == 0 ? ones(f_bits) : i % 2 == 0 ? numbers.runs(f_bits) : numbers.uniform(f_bits));
        }
        expect_map(*GetParam(), {p, a, b, x_limbs, f_bits}, x, f);
      }
      // Results next to 0 and to p, which need the last subtraction, or nearly.
      std::vector<Integer> x, f;
      for (const Integer& y : {Integer(0), Integer(1), p - Integer(1), p, p + Integer(1)}) {
        for (const Integer& part : {Integer(0), y, numbers.uniform(bits - 1) % p}) {
          const Integer rest = part <= y ? y - part : y + p - part;
          if (rest.bits() > bits) continue;
          x.push_back(rest);
          f.push_back(part);
        }
      }
      expect_map(*GetParam(), {p, 1, 1, p.limbs(), 2 * bits + 129}, x, f);
    }
  }
}

TEST_P(Masks, MapsModuloAnyOddNumber) {
  Numbers numbers(3);
  for (std::size_t c = 0; c < test::cases(300); ++c) {
    const std::size_t bits = 2 + numbers.word() % 700, f_bits = 1 + numbers.word() % 1500;
    const Integer m = numbers.runs(bits - 1) * Integer(2) + Integer(1);
    if (m == Integer(1)) continue;
    const std::size_t x_limbs = 1 + numbers.word() % (2 * m.limbs());
    const Integer a = numbers.uniform(bits) % m, b = c % 5 == 0 ? m - Integer(1) : numbers.runs(bits) % m;
    std::vector<Integer> x, f;
    for (std::size_t i = 0; i < 1 + c % 3; ++i) {
      x.push_back(c % 3 == 0 ? ones(64 * x_limbs) : numbers.runs(64 * x_limbs));
      f.push_back(c % 7 == 0 ? ones(f_bits) : numbers.runs(f_bits));
    }
    SCOPED_TRACE("case " + std::to_string(c));
    expect_map(*GetParam(), {m, a, b, x_limbs, f_bits}, x, f);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Masks, testing::ValuesIn(test::kernels_here()), test::name_of);

}  // namespace
}  // namespace xvec
