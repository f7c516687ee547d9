// Key generation. The rules, and why each exists, are in docs/security.md.
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "key_material.h"
#include "random.h"
#include "secure_memory.h"
#include "sizes.h"

namespace xvec {

namespace {

using detail::KeyMaterial;

const std::vector<std::uint32_t>& small_primes() {
  static const std::vector<std::uint32_t> primes = [] {
    constexpr std::uint32_t kLimit = 1u << 16;
    std::vector<bool> composite(kLimit, false);
    std::vector<std::uint32_t> found;
    for (std::uint32_t i = 3; i < kLimit; i += 2) {
      if (composite[i]) continue;
      found.push_back(i);
      for (std::uint64_t j = std::uint64_t{i} * i; j < kLimit; j += 2 * i) composite[j] = true;
    }
    return found;
  }();
  return primes;
}

std::uint64_t inverse_mod(std::uint64_t a, std::uint64_t prime) {  // Fermat
  std::uint64_t result = 1;
  for (std::uint64_t e = prime - 2; e != 0; e >>= 1, a = a * a % prime) {
    if ((e & 1) != 0) result = result * a % prime;
  }
  return result;
}

// A prime start + i * step with 0 <= i < window that `accept`s, by sieving the progression with small primes first;
// 0 if there is none. step is even and start odd.
template <class Accept>
Integer prime_in_progression(const Integer& start, const Integer& step, std::size_t window, const Accept& accept) {
  std::vector<std::uint8_t> composite(window, 0);  // tells a prime modulo all small ones: secret
  for (const std::uint32_t s : small_primes()) {
    if (Integer(s) * Integer(s) > start) break;
    const std::uint64_t step_mod = step.mod_small(s);
    if (step_mod == 0) continue;
    const std::uint64_t first = (s - start.mod_small(s)) % s * inverse_mod(step_mod, s) % s;
    for (std::size_t i = first; i < window; i += s) composite[i] = 1;
  }
  Integer prime;
  for (std::size_t i = 0; i < window && prime.is_zero(); ++i) {
    if (composite[i] != 0) continue;
    Integer candidate = start + step * Integer(i);
    if (accept(candidate) && base2_probable_prime(candidate) && candidate.probably_prime())
      prime = std::move(candidate);
  }
  wipe(composite.data(), composite.size());
  return prime;
}

// A uniformly started search for a prime = 1 mod order in [low, 2^bits); order is odd or 1.
template <class Accept>
Integer random_prime(std::size_t bits, const Integer& low, const Integer& order, const Accept& accept) {
  const Integer high = Integer::power_of_two(bits), step = order << 1;
  const std::size_t window = 8 * bits;  // holds several primes on average
  const Integer range = (high - low) / step;
  for (;;) {
    const Integer start = (low / step + Integer(1) + random_below(system_random(), range)) * step + Integer(1);
    const auto in_range = [&](const Integer& p) { return p >= low && p < high && accept(p); };
    Integer prime = prime_in_progression(start, step, window, in_range);
    if (!prime.is_zero()) return prime;
  }
}

Integer random_prime_of_length(std::size_t bits, const Integer& other) {
  return random_prime(bits, Integer::power_of_two(bits - 1), Integer(1),
                      [&](const Integer& a) { return a != other; });
}

// 0.8165 * 2^key_len: above it n > (2/3) 4^key_len, so that full rows of 2-bit sums never wrap.
Integer smallest_prime(std::size_t key_len) { return (Integer(8165) << key_len) / Integer(10000) + Integer(1); }

Integer smallest_distance(std::size_t key_len) {
  return Integer::power_of_two(key_len > 128 ? key_len - 100 : key_len / 4);
}

// p and q (p > q) with a_p | p - 1 and a_q | q - 1; a_p = a_q = 1 for plain keys.
KeyMaterial::Values generate_primes(std::size_t key_len, Integer a_p, Integer a_q) {
  const Integer one(1), two(2), low = smallest_prime(key_len);
  const bool subgroup = a_p != one;
  const auto apart = [&](const Integer& order, const Integer& prime) {
    return !subgroup || (prime - one) % order != Integer(0);
  };
  Integer p = random_prime(key_len, low, a_p, [&](const Integer& c) { return apart(a_q, c); });
  const Integer distance = smallest_distance(key_len);
  Integer q = random_prime(key_len, low, a_q, [&](const Integer& c) {
    return apart(a_p, c) && (c > p ? c - p : p - c) > distance && gcd(p - one, c - one) == two;
  });
  if (p < q) {
    std::swap(p, q);
    std::swap(a_p, a_q);
  }
  KeyMaterial::Values values;
  values.p = std::move(p);
  values.q = std::move(q);
  if (subgroup) {
    values.a_p = std::move(a_p);
    values.a_q = std::move(a_q);
  }
  return values;
}

// An element of order exactly a_p modulo p²: y = x^((p-1)/a_p) mod p has order a_p or 1, and y^p mod p² is the
// element of the same order above it.
Integer subgroup_generator(const Integer& p, const Integer& a_p) {
  for (;;) {
    const Integer y = pow(random_below(system_random(), p - Integer(2)) + Integer(2), (p - Integer(1)) / a_p, p);
    if (y != Integer(1)) return pow(y, p, p * p);
  }
}

// The x mod n² with x = x_p mod p² and x = x_q mod q².
Integer combine(const Integer& x_p, const Integer& x_q, const Integer& p, const Integer& q) {
  const Integer p2 = p * p, q2 = q * q;
  return x_q + q2 * ((x_p + p2 - x_q % p2) * inverse(q2, p2) % p2);
}

void check_key_len(std::size_t key_len, Floors floors) {
  if (key_len < 64 || key_len > kMaxKeyLen) {
    throw std::invalid_argument("key_len: must be from 64 to " + std::to_string(kMaxKeyLen) + " bits a prime");
  }
  if (key_len < 1024 && floors == Floors::enforced) {
    throw WeakKey("key_len: primes of " + std::to_string(key_len) +
                  " bits, at least 1024 are required; pass allow_insecure to make such a key all the same");
  }
}

void fail_on_broken_rule(const KeyMaterial::Values& values, std::size_t key_len, std::size_t alpha_len,
                         const Integer& g_n) {
  const std::string broken = detail::broken_generation_rule(values, key_len, alpha_len, g_n);
  if (!broken.empty()) throw std::logic_error("key generation went wrong: " + broken);
}

}  // namespace

namespace detail {

std::string broken_generation_rule(const KeyMaterial::Values& values, std::size_t key_len, std::size_t alpha_len,
                                   const Integer& g_n) {
  const Integer one(1), &p = values.p, &q = values.q, n = p * q;
  if (p.bits() != key_len || q.bits() != key_len) return "p and q must have key_len bits";
  const Integer low = smallest_prime(key_len);
  if (p < low || q < low) return "p and q must exceed 0.8165 * 2^key_len";
  if (!p.probably_prime() || !q.probably_prime()) return "p and q must be prime";
  if ((p > q ? p - q : q - p) <= smallest_distance(key_len)) return "p and q are too close";
  if (gcd(p - one, q - one) != Integer(2)) return "gcd(p-1, q-1) must be 2";
  if (gcd(n, (p - one) * (q - one)) != one) return "gcd(n, phi) must be 1";
  if (alpha_len == 0) return "";
  const Integer &a_p = values.a_p, &a_q = values.a_q;
  const bool lengths =
      a_p.bits() + a_q.bits() == alpha_len && std::max(a_p.bits(), a_q.bits()) == (alpha_len + 1) / 2;
  if (!lengths) return "a_p and a_q must share alpha_len bits evenly";
  if (a_p == a_q || !a_p.probably_prime() || !a_q.probably_prime()) return "a_p and a_q must be distinct primes";
  if ((p - one) % a_p != Integer(0) || (q - one) % a_q != Integer(0)) return "a_p must divide p-1, and a_q q-1";
  if ((q - one) % a_p == Integer(0) || (p - one) % a_q == Integer(0)) return "a_p must not divide q-1, nor a_q p-1";
  const auto has_order = [&](const Integer& prime, const Integer& order) {
    const Integer squared = prime * prime;
    return g_n % prime != one && pow(g_n % squared, order, squared) == one;
  };
  if (!has_order(p, a_p) || !has_order(q, a_q)) return "g_n must have order a_p * a_q modulo n and modulo n^2";
  return "";
}

}  // namespace detail

SecretKey SecretKey::generate(std::size_t key_len, std::size_t alpha_len, Floors floors) {
  check_key_len(key_len, floors);
  const std::size_t least = 2 * detail::subgroup_floor(2 * key_len);
  if (alpha_len == 0) alpha_len = std::min(least, key_len);  // only insecure keys are that short
  if (alpha_len < 32 || alpha_len > key_len) {
    throw std::invalid_argument("alpha_len: must be from 32 to key_len bits");
  }
  if (alpha_len < least && floors == Floors::enforced) {
    throw WeakKey("alpha_len: " + std::to_string(alpha_len) + " bits, at least " + std::to_string(least) +
                  " are required for key_len " + std::to_string(key_len) +
                  " (the public key can be factored in about 2^" + std::to_string(alpha_len / 4) +
                  " steps); pass allow_insecure to make such a key all the same");
  }
  const Integer one(1);
  const Integer a_p = random_prime_of_length(alpha_len / 2, one);
  const Integer a_q = random_prime_of_length(alpha_len - alpha_len / 2, a_p);
  KeyMaterial::Values values = generate_primes(key_len, a_p, a_q);
  const Integer &p = values.p, &q = values.q, n = p * q;
  const Integer h_p = subgroup_generator(p, values.a_p), h_q = subgroup_generator(q, values.a_q);
  const Integer g = (n + one) * combine(h_p, h_q, p, q) % (n * n);
  const Integer g_n = combine(pow(h_p, n % values.a_p, p * p), pow(h_q, n % values.a_q, q * q), p, q);
  fail_on_broken_rule(values, key_len, alpha_len, g_n);
  values.inverse = xvec::inverse(values.a_p * values.a_q, n);  // g^a = (1 + n)^a = 1 + a n
  return SecretKey(std::make_unique<KeyMaterial>(PublicKey(n.to_bytes(), g.to_bytes(), g_n.to_bytes()), values));
}

SecretKey SecretKey::generate_plain(std::size_t key_len, Floors floors) {
  check_key_len(key_len, floors);
  const Integer one(1);
  KeyMaterial::Values values = generate_primes(key_len, one, one);
  fail_on_broken_rule(values, key_len, 0, Integer(0));
  const Integer n = values.p * values.q;
  values.inverse = xvec::inverse((values.p - one) * (values.q - one), n);
  return SecretKey(std::make_unique<KeyMaterial>(PublicKey(n.to_bytes(), (n + one).to_bytes()), values));
}

}  // namespace xvec
