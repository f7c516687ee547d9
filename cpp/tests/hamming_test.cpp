// Vectors, run over every kernel: encrypt, multiply, decode gives the Hamming distance, whatever the sizes.
#include "xvec/hamming.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <limits>
#include <numeric>
#include <random>

#include "hamming_internal.h"
#include "integer.h"
#include "kernel.h"
#include "kernel_test.h"
#include "key_material.h"

namespace xvec {

namespace {

using Bytes = std::vector<std::uint8_t>;

// A deterministic stream, for bytes that must agree.
class Stream final : public RandomSource {
 public:
  explicit Stream(unsigned seed) : engine_(seed) {}
  void fill(std::span<std::uint8_t> out) override {
    for (auto& byte : out) byte = static_cast<std::uint8_t>(engine_());
  }

 private:
  std::mt19937 engine_;
};

Bytes random_bits(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  Bytes bits(count);
  for (auto& bit : bits) bit = engine() & 1;
  return bits;
}

std::vector<std::int32_t> plain_distances(const Bytes& vectors, const Bytes& query) {
  std::vector<std::int32_t> distances(vectors.size() / query.size());
  for (std::size_t i = 0; i < vectors.size(); ++i)
    distances[i / query.size()] += vectors[i] != query[i % query.size()];
  return distances;
}

const SecretKey& key_of(std::size_t key_len, bool subgroup = true) {
  static std::map<std::pair<std::size_t, bool>, SecretKey> keys;
  auto it = keys.find({key_len, subgroup});
  if (it == keys.end()) {
    it = keys.emplace(std::pair{key_len, subgroup}, subgroup ? SecretKey::generate(key_len, 0, Floors::waived)
                                                             : SecretKey::generate_plain(key_len, Floors::waived))
             .first;
  }
  return it->second;
}

class Search : public testing::TestWithParam<const Kernel*> {
 protected:
  // The whole way for `rows` vectors, through both encryptors.
  static void expect_exact(const SecretKey& key, std::size_t dimensions, std::size_t rows, bool owner) {
    const Kernel& kernel = *GetParam();
    const HammingEncryptor encryptor = owner ? detail::make_encryptor(key, dimensions, kernel)
                                             : detail::make_encryptor(key.public_key(), dimensions, 0, kernel);
    const HammingDecoder decoder = detail::make_decoder(key, dimensions, Schedule::constant, kernel);
    const HammingDecoder vartime = detail::make_decoder(key, dimensions, Schedule::vartime, kernel);
    const Multiplier server = detail::make_multiplier(key.public_key().n_squared(), kernel);
    const std::size_t row = encryptor.chunks() * encryptor.width();
    ASSERT_EQ(server.width(), encryptor.width());
    ASSERT_EQ(decoder.chunks(), encryptor.chunks());
    const Bytes vectors = random_bits(rows * dimensions, 1), query = random_bits(dimensions, 2);
    Bytes stored(rows * row), encrypted_query(row);
    encryptor.encrypt(vectors, stored);
    encryptor.encrypt(query, encrypted_query);
    EXPECT_EQ(server.out_of_range(stored), -1);
    Bytes answer(stored.size());
    server.products(encrypted_query, stored, answer);
    const auto expected = plain_distances(vectors, query);
    std::vector<std::int32_t> distances(rows, -1);
    decoder.decode(answer, distances);
    EXPECT_EQ(distances, expected);
    vartime.decode(answer, distances);
    EXPECT_EQ(distances, expected);
  }
};

TEST_P(Search, EdgeSizesOfBatchesAndVectors) {
  const SecretKey& key = key_of(256);
  for (const std::size_t rows : {0u, 1u, 7u, 8u, 9u, 33u}) expect_exact(key, 64, rows, true);
  for (const std::size_t d : {1u, 2u, 31u, 32u, 33u, 127u, 128u, 129u, 255u, 256u, 257u, 300u, 600u, 1025u}) {
    expect_exact(key, d, 5, true);
  }
}

TEST_P(Search, PublicKeyAlone) {
  for (const std::size_t d : {1u, 128u, 256u, 300u}) expect_exact(key_of(256), d, 3, false);
  for (const std::size_t d : {1u, 128u}) expect_exact(key_of(256, false), d, 3, false);
}

TEST_P(Search, PlainKeys) {
  for (const std::size_t d : {1u, 100u, 128u, 255u, 256u, 700u}) expect_exact(key_of(256, false), d, 4, true);
}

TEST_P(Search, RealKeySizes) {
  for (const std::size_t d : {1u, 2u, 511u, 512u, 513u, 1024u, 1536u}) expect_exact(key_of(1024), d, 9, true);
  expect_exact(key_of(1536), 768, 9, true);
  expect_exact(key_of(2048), 1024, 9, true);
  expect_exact(key_of(1024), 512, 2, false);
}

TEST_P(Search, OddKeySizes) {
  for (const std::size_t key_len : {64u, 65u, 100u, 127u, 190u, 321u}) {
    for (const std::size_t d : {1u, 30u, 31u, 32u, 60u}) expect_exact(key_of(key_len), d, 9, true);
  }
}

TEST_P(Search, AllZerosAndAllOnes) {
  const SecretKey& key = key_of(1024);
  const std::size_t d = 512;
  const HammingEncryptor encryptor = detail::make_encryptor(key, d, *GetParam());
  const HammingDecoder decoder = detail::make_decoder(key, d, Schedule::constant, *GetParam());
  const Multiplier server = detail::make_multiplier(key.public_key().n_squared(), *GetParam());
  Bytes vectors(2 * d, 0), stored(2 * encryptor.width()), answer(stored.size());
  std::fill(vectors.begin() + static_cast<std::ptrdiff_t>(d), vectors.end(), 1);
  encryptor.encrypt(vectors, stored);
  std::vector<std::int32_t> distances(2);
  server.products(std::span(stored).first(encryptor.width()), stored, answer);
  decoder.decode(answer, distances);
  EXPECT_EQ(distances, (std::vector<std::int32_t>{0, 512}));
  server.products(std::span(stored).last(encryptor.width()), stored, stored);  // in place
  decoder.decode(stored, distances);
  EXPECT_EQ(distances, (std::vector<std::int32_t>{512, 0}));
}

TEST_P(Search, SameBytesWhateverTheKernelAndTheThreads) {
  const SecretKey& key = key_of(1024);
  const std::size_t d = 512, rows = 75;
  const Bytes vectors = random_bits(rows * d, 3);
  const auto encrypt = [&](const Kernel& kernel, int threads, bool owner) {
    const HammingEncryptor encryptor =
        owner ? detail::make_encryptor(key, d, kernel) : detail::make_encryptor(key.public_key(), d, 448, kernel);
    const std::size_t count = owner ? rows : 3;
    Bytes out(count * encryptor.width());
    Stream stream(7);
    detail::encrypt(encryptor, std::span(vectors).first(count * d), out, {threads, {}}, stream);
    return out;
  };
  const Bytes reference = encrypt(kPortable, 1, true);
  EXPECT_EQ(encrypt(*GetParam(), 1, true), reference);
  EXPECT_EQ(encrypt(*GetParam(), 2, true), reference);
  EXPECT_EQ(encrypt(*GetParam(), 3, true), reference);
  EXPECT_EQ(encrypt(*GetParam(), 2, false), encrypt(kPortable, 1, false));
  const auto multiply = [&](const Kernel& kernel, int threads) {
    const Multiplier server = detail::make_multiplier(key.public_key().n_squared(), kernel);
    Bytes out(reference.size());
    server.products(std::span(reference).first(server.width()), reference, out, {threads, {}});
    return out;
  };
  const Bytes products = multiply(kPortable, 1);
  EXPECT_EQ(multiply(*GetParam(), 1), products);
  EXPECT_EQ(multiply(*GetParam(), 3), products);
}

TEST_P(Search, DecryptGivesThePlaintextModuloN) {
  const SecretKey& key = key_of(256);
  const HammingEncryptor encryptor = detail::make_encryptor(key, 200, *GetParam());
  const HammingDecoder decoder = detail::make_decoder(key, 200, Schedule::constant, *GetParam());
  const Bytes bits = random_bits(200, 5);
  Bytes c(encryptor.width()), plain(decoder.plaintext_width());
  encryptor.encrypt(bits, c);
  decoder.decrypt(c, plain);
  Integer expected;
  for (const std::uint8_t bit : bits) expected = (expected << 2) + Integer(bit);
  EXPECT_EQ(Integer::from_bytes(plain), expected);
  // c^k encrypts k m mod n.
  const PublicKey& pk = key.public_key();
  const Integer n = Integer::from_bytes(pk.n()), k = n - Integer(12345);
  pow(Integer::from_bytes(c), k, n * n).to_bytes(c);
  decoder.decrypt(c, plain);
  EXPECT_EQ(Integer::from_bytes(plain), expected * k % n);
}

TEST_P(Search, RejectsWhatIsNotACiphertext) {
  const SecretKey& key = key_of(256);
  const SecretKey foreign = SecretKey::generate(256, 64, Floors::waived);
  const std::size_t d = 100;
  const HammingEncryptor encryptor = detail::make_encryptor(key, d, *GetParam());
  const HammingDecoder decoder = detail::make_decoder(key, d, Schedule::constant, *GetParam());
  const std::size_t width = encryptor.width(), rows = 41;
  Bytes good(rows * width);
  encryptor.encrypt(random_bits(rows * d, 6), good);
  const Integer n = Integer::from_bytes(key.public_key().n()), n2 = n * n;
  const Integer p = key.material().p();
  const std::array<Integer, 6> bad = {
      Integer(0), n2, n2 + Integer(1), Integer::power_of_two(8 * width) - Integer(1), p, p * Integer(77)};
  for (std::size_t i = 0; i < bad.size(); ++i) {
    Bytes rows_with_bad = good;
    const std::size_t at = 7 * i;
    bad[i].to_bytes(std::span(rows_with_bad).subspan(at * width, width));
    std::vector<std::int32_t> distances(rows);
    try {
      decoder.decode(rows_with_bad, distances);
      ADD_FAILURE() << "accepted bad value " << i;
    } catch (const InvalidCiphertext& e) {
      EXPECT_EQ(e.row(), at);
    }
  }
  Bytes theirs(detail::make_encryptor(foreign, d, *GetParam()).width());
  detail::make_encryptor(foreign, d, *GetParam()).encrypt(random_bits(d, 9), theirs);
  theirs.resize(width);
  std::vector<std::int32_t> one(1);
  EXPECT_THROW(decoder.decode(theirs, one), InvalidCiphertext);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Search, testing::ValuesIn(test::kernels_here()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(Arguments, AreChecked) {
  const SecretKey& key = key_of(256);
  constexpr std::size_t kMost = std::numeric_limits<std::int32_t>::max();
  for (const std::size_t d : {std::size_t{0}, kMost + 1, std::numeric_limits<std::size_t>::max()}) {
    EXPECT_THROW(HammingEncryptor(key, d), std::invalid_argument);
    EXPECT_THROW(HammingDecoder(key, d), std::invalid_argument);
  }
  EXPECT_EQ(HammingDecoder(key, kMost).chunks(), kMost / 256 + 1);
  const HammingEncryptor encryptor(key, 10);
  Bytes out(encryptor.width());
  EXPECT_THROW(encryptor.encrypt(Bytes(11), out), std::invalid_argument);
  EXPECT_THROW(encryptor.encrypt(Bytes(20), out), std::invalid_argument);
  Bytes bits(10, 1);
  bits[9] = 2;
  EXPECT_THROW(encryptor.encrypt(bits, out), std::invalid_argument);
  EXPECT_THROW(Multiplier(Number{}), std::invalid_argument);
  EXPECT_THROW(Multiplier(Number{4}), std::invalid_argument);
  EXPECT_THROW(Multiplier(Number{1}), std::invalid_argument);
  const Multiplier server(key.public_key().n_squared());
  Bytes rows(3 * server.width());
  const std::span all(rows), query = all.first(server.width());
  EXPECT_THROW(server.products(query, all.first(2 * server.width()), all.last(2 * server.width())),
               std::invalid_argument);
  EXPECT_NO_THROW(server.products(query, all.first(server.width()), all.last(server.width())));
}

// Whoever states a subgroup of 2 bits, or of more than there can be, still gets exponents of full length.
TEST(Arguments, ExponentsOfThePublicKeyAreNeverShort) {
  const SecretKey& key = key_of(256);
  class Ones final : public RandomSource {
   public:
    void fill(std::span<std::uint8_t> out) override { std::ranges::fill(out, std::uint8_t{0xff}); }
  };
  const auto encrypted = [&](std::size_t alpha_len) {
    const HammingEncryptor encryptor = detail::make_encryptor(key.public_key(), 1, alpha_len, kPortable);
    const Bytes bits(1, 0);
    Bytes out(encryptor.width());
    Ones ones;
    detail::encrypt(encryptor, bits, out, {1, {}}, ones);
    return Integer::from_bytes(out);
  };
  const PublicKey& pk = key.public_key();
  const auto noise = [&](std::size_t r_bits) {
    return pow(Integer::from_bytes(pk.g_n()), Integer::power_of_two(r_bits) - Integer(1),
               Integer::from_bytes(pk.n_squared()));
  };
  EXPECT_EQ(encrypted(0), noise(256 + 128));
  EXPECT_EQ(encrypted(2), noise(256 + 128));
  EXPECT_EQ(encrypted(300), noise(300 + 128));
  EXPECT_EQ(encrypted(std::numeric_limits<std::size_t>::max()), noise(512 + 128));
}

TEST(Batches, DoNotAskTheSystemForAbsurdlyManyThreads) {
  const SecretKey& key = key_of(64);
  const HammingEncryptor encryptor(key, 8);
  const std::size_t rows = std::size_t{1} << 20;
  const Bytes bits(rows * 8);
  Bytes out(rows * encryptor.width());
  EXPECT_THROW(encryptor.encrypt(bits, out, {std::numeric_limits<int>::max(), [](auto, auto) { return false; }}),
               Interrupted);
}

// A foreign key just above 2^(2 key_len - 2) is exact to key_len - 1 dimensions and refused at key_len.
TEST(Arguments, RefuseOnlyWhatCouldBeWrong) {
  const Integer one(1);
  const auto next_prime = [&](Integer x) {
    x = x.is_odd() ? x : x + one;
    while (!x.probably_prime()) x = x + Integer(2);
    return x;
  };
  const Integer p = next_prime(Integer::power_of_two(127)), q = next_prime(p + Integer(2));
  const Integer n = p * q, phi = (p - one) * (q - one);
  const SecretKey key = SecretKey::load(PublicKey(n.to_bytes(), (n + one).to_bytes()), phi.to_bytes(),
                                        inverse(phi, n).to_bytes(), {}, Floors::waived);
  EXPECT_EQ(HammingDecoder(key, 63).sides(), 1);
  EXPECT_EQ(HammingDecoder(key, 64).sides(), 2);
  EXPECT_EQ(HammingDecoder(key, 127).sides(), 2);
  EXPECT_THROW(HammingDecoder(key, 128), std::invalid_argument);
  EXPECT_THROW(HammingEncryptor(key, 128), std::invalid_argument);
  EXPECT_EQ(HammingDecoder(key_of(256), 128).sides(), 1);
  EXPECT_EQ(HammingDecoder(key_of(256), 129).sides(), 2);
  EXPECT_EQ(HammingDecoder(key_of(256), 256).chunks(), 1u);
}

TEST(Batches, StopWhenAskedTo) {
  const SecretKey& key = key_of(256);
  const HammingEncryptor encryptor(key, 64);
  // Long enough for several reports by one thread; of two, the one that reports may get hardly any work.
  constexpr std::size_t kCount = 20000;
  const Bytes bits = random_bits(kCount * 64, 1);
  Bytes out(kCount * encryptor.width());
  for (const int threads : {1, 2}) {
    std::size_t calls = 0, last = 0;
    encryptor.encrypt(bits, out, {threads, [&](std::size_t done, std::size_t total) {
                                    EXPECT_GT(done, last);
                                    EXPECT_EQ(total, kCount);
                                    last = done;
                                    ++calls;
                                    return true;
                                  }});
    EXPECT_EQ(last, kCount);
    if (threads == 1) {
      EXPECT_GT(calls, 1u);
    }
    EXPECT_THROW(encryptor.encrypt(bits, out, {threads, [](std::size_t, std::size_t) { return false; }}),
                 Interrupted);
  }
}

TEST(Batches, WorkAfterFork) {
  const SecretKey& key = key_of(256);
  const HammingEncryptor encryptor(key, 64);
  const Bytes bits = random_bits(500 * 64, 1);
  Bytes out(500 * encryptor.width());
  encryptor.encrypt(bits, out, {2, {}});
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(20);
      Bytes again(out.size());
      encryptor.encrypt(bits, again, {2, {}});
      _exit(again == out ? 2 : 0);  // fresh randomness in the child
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
}

}  // namespace
}  // namespace xvec
