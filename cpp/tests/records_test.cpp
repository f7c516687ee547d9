// The authenticated encoding on every kernel: exact distances, and one refusal for whatever is altered.
#include "xvec/records.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "hamming_internal.h"
#include "kernel_test.h"
#include "key_material.h"

namespace xvec {

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes random_bytes(std::size_t count, unsigned seed, unsigned mask = 255) {
  std::mt19937 engine(seed);
  Bytes bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(engine() & mask);
  return bytes;
}

const SecretKey& key_of(std::size_t key_len, bool subgroup) {
  static std::map<std::pair<std::size_t, bool>, SecretKey> keys;
  auto it = keys.find({key_len, subgroup});
  if (it == keys.end()) {
    it = keys.emplace(std::pair{key_len, subgroup}, subgroup ? SecretKey::generate(key_len, 0, Floors::waived)
                                                             : SecretKey::generate_plain(key_len, Floors::waived))
             .first;
  }
  return it->second;
}

// The public key with the message base that any plaintext may use.
PublicKey direct(const PublicKey& key) {
  const Integer n = Integer::from_bytes(key.n());
  return {key.n(), (n + Integer(1)).to_bytes(), key.g_n()};
}

class Records : public testing::TestWithParam<const Kernel*> {
 protected:
  struct Case {
    HammingEncryptor encryptor;
    HammingDecoder decoder;
    Multiplier server;
    RecordKey writer, owner;
    std::size_t rows;
    Bytes bits, nonces, query, query_nonce, stored, asked, answer;
  };

  static Case make(const SecretKey& key, std::size_t dimensions, std::size_t rows, bool as_owner) {
    const Kernel& kernel = *GetParam();
    Case c{as_owner ? detail::make_encryptor(key, dimensions, kernel)
                    : detail::make_encryptor(direct(key.public_key()), dimensions, 0, kernel),
           detail::make_decoder(key, dimensions, Schedule::constant, kernel),
           detail::make_multiplier(key.public_key().n_squared(), kernel),
           RecordKey(random_bytes(kRecordSecretSize, 1), 7, "a writer"),
           RecordKey(random_bytes(kRecordSecretSize, 2), 9, ""),
           rows,
           random_bytes(rows * dimensions, 3, 1),
           random_bytes(rows * kNonceSize, 4),
           random_bytes(dimensions, 5, 1),
           random_bytes(kNonceSize, 6),
           {},
           {},
           {}};
    const std::size_t row = c.encryptor.chunks() * c.encryptor.width();
    c.stored.resize(rows * row);
    c.asked.resize(row);
    c.encryptor.encrypt_records(c.bits, c.nonces, c.writer, c.stored);
    c.encryptor.encrypt_query(c.query, c.query_nonce, c.owner, c.asked);
    c.answer.resize(c.stored.size());
    c.server.products(c.asked, c.stored, c.answer);
    return c;
  }

  static std::vector<std::int32_t> decoded(const Case& c, const Bytes& answer) {
    std::vector<std::int32_t> distances(c.rows);
    c.decoder.decode_records(answer, c.nonces, c.writer, {c.query, c.query_nonce, c.owner}, distances);
    return distances;
  }

  static void expect_exact(const Case& c) {
    std::vector<std::int32_t> expected(c.rows);
    for (std::size_t i = 0; i < c.bits.size(); ++i) {
      expected[i / c.query.size()] += c.bits[i] != c.query[i % c.query.size()];
    }
    EXPECT_EQ(decoded(c, c.answer), expected);
    Bytes bits(c.bits.size());
    c.decoder.open_records(c.stored, c.nonces, c.writer, bits);
    EXPECT_EQ(bits, c.bits);
  }
};

TEST_P(Records, GiveExactDistances) {
  for (const std::size_t key_len : {1024u, 128u, 100u}) {
    const SecretKey& key = key_of(key_len, true);
    for (const std::size_t d : {std::size_t{1}, key_len / 2, key_len / 2 + 1, key_len, 2 * key_len + 33}) {
      for (const bool as_owner : {true, false}) {
        SCOPED_TRACE(std::to_string(key_len) + " bits, " + std::to_string(d) + (as_owner ? " owner" : " public"));
        expect_exact(make(key, d, key_len == 1024 ? 11 : 35, as_owner));
      }
    }
  }
  for (const bool as_owner : {true, false}) expect_exact(make(key_of(128, false), 90, 5, as_owner));
}

TEST_P(Records, RefuseWhatIsAltered) {
  for (const std::size_t d : {300u, 900u}) {  // one prime, and both
    const Case c = make(key_of(1024, true), d, 6, true);
    const std::size_t row = c.encryptor.chunks() * c.encryptor.width();
    const auto refuses = [&](const std::function<void(Bytes&)>& alter) {
      Bytes answer = c.answer;
      alter(answer);
      ASSERT_NE(answer, c.answer);
      EXPECT_THROW(decoded(c, answer), NotAuthentic);
    };
    refuses([&](Bytes& a) {
      std::swap_ranges(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(row),
                       a.end() - static_cast<std::ptrdiff_t>(row));
    });
    refuses([&](Bytes& a) { std::copy_n(c.stored.begin(), row, a.begin()); });
    refuses([&](Bytes& a) { a[7] ^= 1; });
    refuses([&](Bytes& a) { std::fill_n(a.begin(), row, std::uint8_t{0}); });
    refuses([&](Bytes& a) { std::fill_n(a.begin(), row, std::uint8_t{255}); });
    refuses([&](Bytes& a) {  // one more query
      Bytes twice(a.size());
      c.server.products(c.asked, a, twice);
      std::copy_n(twice.begin(), row, a.begin());
    });
    refuses([&](Bytes& a) {  // a public encryption of anything
      Bytes forged(row);
      detail::make_encryptor(key_of(1024, true).public_key(), d, 0, *GetParam()).encrypt(c.query, forged);
      std::copy_n(forged.begin(), row, a.begin());
    });
  }
}

TEST_P(Records, BelongToNonceKeyAndQuery) {
  Case c = make(key_of(128, true), 60, 4, true);
  expect_exact(c);
  const auto refused = [&](const RecordKey& writer, const RecordKey& owner, const Bytes& query) {
    std::vector<std::int32_t> distances(c.rows, 5);
    EXPECT_THROW(c.decoder.decode_records(c.answer, c.nonces, writer, {query, c.query_nonce, owner}, distances),
                 NotAuthentic);
    EXPECT_EQ(distances, std::vector<std::int32_t>(c.rows));
  };
  Bytes bits(c.bits.size(), 1);
  EXPECT_THROW(c.decoder.open_records(c.answer, c.nonces, c.writer, bits), NotAuthentic);
  EXPECT_EQ(bits, Bytes(c.bits.size()));
  const Bytes one = random_bytes(kRecordSecretSize, 1), two = random_bytes(kRecordSecretSize, 2);
  refused(RecordKey(two, 7, "a writer"), c.owner, c.query);
  refused(RecordKey(one, 8, "a writer"), c.owner, c.query);
  refused(RecordKey(one, 7, "b writer"), c.owner, c.query);
  refused(c.writer, RecordKey(two, 10, ""), c.query);
  refused(c.writer, RecordKey(one, 9, ""), c.query);
  Bytes other = c.query;
  other[3] ^= 1;
  refused(c.writer, c.owner, other);
  ++c.nonces[2 * kNonceSize + 5];
  refused(c.writer, c.owner, c.query);
}

TEST_P(Records, CheckArguments) {
  EXPECT_THROW(RecordKey(Bytes(31), 0, ""), std::invalid_argument);
  EXPECT_THROW(RecordKey(Bytes(32), 0, std::string(65, 'w')), std::invalid_argument);
  const Case c = make(key_of(128, true), 60, 4, true);
  Bytes out(c.stored.size());
  EXPECT_THROW(c.encryptor.encrypt_records(c.bits, Bytes(1), c.writer, out), std::invalid_argument);
  std::vector<std::int32_t> distances(c.rows);
  EXPECT_THROW(c.decoder.decode_records(c.answer, Bytes(1), c.writer, {c.query, c.query_nonce, c.owner}, distances),
               std::invalid_argument);
  EXPECT_THROW(
      c.decoder.decode_records(c.answer, c.nonces, c.writer, {Bytes(60, 2), c.query_nonce, c.owner}, distances),
      std::invalid_argument);
  const HammingEncryptor any = detail::make_encryptor(key_of(128, true).public_key(), 60, 0, *GetParam());
  EXPECT_THROW(any.encrypt_records(c.bits, c.nonces, c.writer, out), std::invalid_argument);
}

INSTANTIATE_TEST_SUITE_P(Kernels, Records, testing::ValuesIn(test::kernels_here()), test::name_of);

}  // namespace

}  // namespace xvec
