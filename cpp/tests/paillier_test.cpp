// Keys: generation keeps every rule, loading refuses what does not belong together.
#include "xvec/paillier.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "key_material.h"
#include "random.h"

namespace xvec {
namespace {

using detail::broken_generation_rule;
using detail::KeyMaterial;

constexpr std::size_t kKeyLen = 160, kAlphaLen = 64;

SecretKey small_key() { return SecretKey::generate(kKeyLen, kAlphaLen, Floors::waived); }

Integer number(const Number& bytes) { return Integer::from_bytes(bytes); }

KeyMaterial::Values values_of(const SecretKey& key) {
  const KeyMaterial& m = key.material();
  return {m.p(), m.q(), m.a_p(), m.a_q(), m.inverse()};
}

Integer next_prime(Integer x) {
  x = x.is_odd() ? x + Integer(2) : x + Integer(1);
  while (!x.probably_prime()) x = x + Integer(2);
  return x;
}

TEST(Generation, KeepsEveryRule) {
  for (int i = 0; i < 20; ++i) {
    const SecretKey key = small_key();
    EXPECT_EQ(broken_generation_rule(values_of(key), kKeyLen, kAlphaLen, number(key.public_key().g_n())), "");
    EXPECT_EQ(key.key_len(), kKeyLen);
    EXPECT_GT(key.material().p(), key.material().q());
    const Integer n = number(key.public_key().n());
    EXPECT_EQ(n.bits(), 2 * kKeyLen);
    EXPECT_GT(n * Integer(3), Integer::power_of_two(2 * kKeyLen) * Integer(2));
    EXPECT_EQ(pow(number(key.public_key().g()), n, n * n), number(key.public_key().g_n()));
  }
}

TEST(Generation, TakesTheDefaultAlphaOfTheLevel) {
  EXPECT_NEAR(static_cast<double>(SecretKey::generate(1024).alpha_len()), 448, 1);
  EXPECT_NEAR(static_cast<double>(SecretKey::generate(1536).alpha_len()), 512, 1);
}

TEST(Generation, PlainKeys) {
  const SecretKey key = SecretKey::generate_plain(kKeyLen, Floors::waived);
  EXPECT_EQ(broken_generation_rule(values_of(key), kKeyLen, 0, Integer(0)), "");
  EXPECT_EQ(number(key.public_key().g()), number(key.public_key().n()) + Integer(1));
  EXPECT_TRUE(key.a().empty());
  EXPECT_EQ(key.alpha_len(), 0u);
}

TEST(Generation, RefusesWeakParametersByName) {
  const auto message = [](const std::function<void()>& make) {
    try {
      make();
    } catch (const WeakKey& e) {
      return std::string(e.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(message([] { SecretKey::generate(1023); }).find("key_len"), 0u);
  EXPECT_EQ(message([] { SecretKey::generate_plain(1023); }).find("key_len"), 0u);
  EXPECT_EQ(message([] { SecretKey::generate(1024, 446); }).find("alpha_len"), 0u);
  EXPECT_EQ(message([] { SecretKey::generate(1536, 510); }).find("alpha_len"), 0u);
  EXPECT_EQ(message([] { SecretKey::generate(3840, 766); }).find("alpha_len"), 0u);
  EXPECT_THROW(SecretKey::generate(63, 32, Floors::waived), std::invalid_argument);
  EXPECT_THROW(SecretKey::generate(64, 66, Floors::waived), std::invalid_argument);
  EXPECT_THROW(SecretKey::generate(1 << 20, 448, Floors::waived), std::invalid_argument);
}

// Each rule of generation must reject values that break it alone.
TEST(Generation, EveryRuleRejects) {
  const SecretKey key = small_key();
  const KeyMaterial::Values good = values_of(key);
  const Integer g_n = number(key.public_key().g_n()), one(1);
  const auto broken = [&](const std::function<void(KeyMaterial::Values&)>& change, Integer noise_base = {}) {
    KeyMaterial::Values v = good;
    change(v);
    return broken_generation_rule(v, kKeyLen, kAlphaLen, noise_base.is_zero() ? g_n : noise_base);
  };
  const auto keep = [](KeyMaterial::Values&) {};
  ASSERT_EQ(broken(keep), "");
  EXPECT_NE(broken_generation_rule(good, kKeyLen + 1, kAlphaLen, g_n).find("key_len bits"), std::string::npos);
  EXPECT_NE(broken_generation_rule(good, kKeyLen, kAlphaLen + 2, g_n).find("alpha_len bits"), std::string::npos);
  // 0.8165 * 2^k is about 3344384 / 4096000
  EXPECT_NE(broken([](auto& v) { v.q = next_prime((Integer(8164) << kKeyLen) / Integer(10000)); }).find("0.8165"),
            std::string::npos);
  EXPECT_NE(broken([](auto& v) {
              do v.p = v.p + Integer(2) * v.a_p;
              while (v.p.probably_prime());
            }).find("prime"),
            std::string::npos);
  EXPECT_NE(broken([](auto& v) { v.q = next_prime(v.p); }).find("too close"), std::string::npos);
  EXPECT_NE(broken([&](auto& v) {
              // q = 1 mod 3 and p = 1 mod 3 share the factor 3
              const auto one_mod_3 = [](Integer x) {
                do x = next_prime(x);
                while (x % Integer(3) != Integer(1));
                return x;
              };
              v.p = one_mod_3((Integer(9) << kKeyLen) / Integer(10));
              v.q = one_mod_3((Integer(85) << kKeyLen) / Integer(100));
            }).find("gcd(p-1, q-1)"),
            std::string::npos);
  EXPECT_NE(broken([](auto& v) { v.a_q = v.a_p; }).find("distinct primes"), std::string::npos);
  EXPECT_NE(broken([](auto& v) { v.a_p = v.a_p - Integer(1); }).find("distinct primes"), std::string::npos);
  EXPECT_NE(broken([](auto& v) { std::swap(v.a_p, v.a_q); }).find("divide"), std::string::npos);
  // 1 and -1 have order 1 and 2; g_n * (1 + n) has the right order modulo n, but not modulo n².
  const Integer n = good.p * good.q;
  EXPECT_NE(broken(keep, one).find("order"), std::string::npos);
  EXPECT_NE(broken(keep, n * n - one).find("order"), std::string::npos);
  EXPECT_NE(broken(keep, g_n * (one + n) % (n * n)).find("order"), std::string::npos);
}

TEST(Generation, APrimeOfTheSubgroupMayNotDivideBoth) {
  // p = 1 mod a_p a_q breaks "a_q must not divide p-1" alone.
  const SecretKey key = small_key();
  KeyMaterial::Values v = values_of(key);
  const Integer step = v.a_p * v.a_q * Integer(2), one(1);
  Integer p = (Integer(95) << kKeyLen) / Integer(100) / step * step + one;
  while (!p.probably_prime() || gcd(p - one, v.q - one) != Integer(2) * v.a_q) p = p + step;
  v.p = p;
  const std::string rule = broken_generation_rule(v, kKeyLen, kAlphaLen, number(key.public_key().g_n()));
  EXPECT_NE(rule.find("gcd(p-1, q-1)"), std::string::npos) << rule;
}

TEST(Loading, GivesTheSameKey) {
  const SecretKey key = small_key();
  const SecretKey again = SecretKey::load(key.public_key(), key.phi(), key.inverse(), key.a(), Floors::waived);
  EXPECT_EQ(again.phi(), key.phi());
  EXPECT_EQ(again.a(), key.a());
  EXPECT_EQ(again.inverse(), key.inverse());
  EXPECT_EQ(again.key_len(), key.key_len());
  EXPECT_EQ(again.material().p(), key.material().p());
  EXPECT_EQ(again.material().kappa_q(), key.material().kappa_q());
}

TEST(Loading, RefusesValuesOfAnotherKey) {
  const SecretKey key = small_key(), other = small_key();
  const PublicKey &k = key.public_key(), &o = other.public_key();
  const auto load = [](const PublicKey& pk, const Number& phi, const Number& inverse, const Number& a) {
    SecretKey::load(pk, phi, inverse, a, Floors::waived);
  };
  EXPECT_NO_THROW(load(k, key.phi(), key.inverse(), key.a()));
  EXPECT_THROW(load(o, key.phi(), key.inverse(), key.a()), KeyMismatch);
  EXPECT_THROW(load(k, other.phi(), key.inverse(), key.a()), KeyMismatch);
  EXPECT_THROW(load(k, key.phi(), other.inverse(), key.a()), KeyMismatch);
  EXPECT_THROW(load(k, key.phi(), key.inverse(), other.a()), KeyMismatch);
  EXPECT_THROW(load(k, key.phi(), key.inverse(), {}), KeyMismatch);
  EXPECT_THROW(load(k, {}, key.inverse(), key.a()), KeyMismatch);
  // The same number modulo n.
  EXPECT_THROW(load(k, key.phi(), (number(key.inverse()) + number(k.n())).to_bytes(), key.a()), KeyMismatch);
  EXPECT_THROW(load(k, key.phi(), (number(key.inverse()) + (number(k.n()) << 999)).to_bytes(), key.a()), KeyMismatch);
  EXPECT_THROW(load(PublicKey(k.n(), k.g(), (number(k.g_n()) * number(k.g_n()) % number(k.n_squared())).to_bytes()),
                    key.phi(), key.inverse(), key.a()),
               KeyMismatch);
  // g of order alpha: the message base 1 + n is missing.
  EXPECT_THROW(load(PublicKey(k.n(), k.g_n(), pow(number(k.g_n()), number(k.n()), number(k.n_squared())).to_bytes()),
                    key.phi(), key.inverse(), key.a()),
               KeyMismatch);
  const SecretKey plain = SecretKey::generate_plain(kKeyLen, Floors::waived);
  EXPECT_THROW(load(plain.public_key(), plain.phi(), key.inverse(), {}), KeyMismatch);
  EXPECT_THROW(load(plain.public_key(), key.phi(), plain.inverse(), {}), KeyMismatch);
}

TEST(Loading, EnforcesTheFloors) {
  const SecretKey small = small_key();
  EXPECT_THROW(SecretKey::load(small.public_key(), small.phi(), small.inverse(), small.a()), WeakKey);
  const SecretKey weak = SecretKey::generate(1024, 50, Floors::waived);
  try {
    SecretKey::load(weak.public_key(), weak.phi(), weak.inverse(), weak.a());
    FAIL() << "a subgroup of 25-bit primes was accepted";
  } catch (const WeakKey& e) {
    EXPECT_EQ(std::string(e.what()).find("alpha_len"), 0u) << e.what();
  }
  EXPECT_NO_THROW(SecretKey::load(weak.public_key(), weak.phi(), weak.inverse(), weak.a(), Floors::waived));
  const SecretKey good = SecretKey::generate(1024);
  EXPECT_NO_THROW(SecretKey::load(good.public_key(), good.phi(), good.inverse(), good.a()));
}

TEST(Loading, RefusesModuliThatAreNotTwoPrimesOfOneLength) {
  const Integer one(1);
  const auto load = [&](const Integer& p, const Integer& q) {
    const Integer n = p * q, phi = (p - one) * (q - one);
    SecretKey::load(PublicKey(n.to_bytes(), (n + one).to_bytes()), phi.to_bytes(), inverse(phi, n).to_bytes(), {},
                    Floors::waived);
  };
  const Integer p = next_prime(Integer(0xF000000000000000)), q = next_prime(Integer(0xE000000000000000));
  EXPECT_NO_THROW(load(p, q));
  EXPECT_THROW(load(p, next_prime(Integer(0x10000))), KeyMismatch);
  EXPECT_THROW(load(p, next_prime(Integer(0x80000000)) * next_prime(Integer(0x90000000))), KeyMismatch);
}

TEST(PublicKeys, NameTheValueThatIsOutOfRange) {
  const SecretKey key = small_key();
  const PublicKey& k = key.public_key();
  const auto message = [](const Number& n, const Number& g, const Number& g_n) {
    try {
      const PublicKey made(n, g, g_n);
    } catch (const std::invalid_argument& e) {
      return std::string(e.what()).substr(0, 3);
    }
    return std::string("ok");
  };
  EXPECT_EQ(message(k.n(), k.g(), k.g_n()), "ok");
  EXPECT_EQ(message({}, k.g(), k.g_n()), "n: ");
  EXPECT_EQ(message({0, 1}, k.g(), k.g_n()), "n: ");
  EXPECT_EQ(message(k.n(), {}, k.g_n()), "g: ");
  EXPECT_EQ(message(k.n(), k.n_squared(), k.g_n()), "g: ");
  EXPECT_EQ(message(k.n(), k.n(), k.g_n()), "g: ");
  EXPECT_EQ(message(k.n(), k.g(), k.n()), "g_n");
  EXPECT_EQ(message(k.n(), k.g(), {0}), "g_n");
}

TEST(SecretKeys, AreGoneAfterClose) {
  SecretKey key = small_key();
  key.close();
  EXPECT_THROW((void)key.phi(), KeyClosed);
  EXPECT_THROW((void)key.public_key(), KeyClosed);
  EXPECT_NO_THROW(key.close());
}

TEST(SecretKeys, SharesLiveOnAfterClose) {
  SecretKey key = small_key();
  const Number phi = key.phi();
  const SecretKey share = key.share();
  key.close();
  EXPECT_THROW((void)key.share(), KeyClosed);
  EXPECT_EQ(share.phi(), phi);
}

}  // namespace
}  // namespace xvec
