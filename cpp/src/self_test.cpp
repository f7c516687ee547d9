#include "self_test.h"

#include <map>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

namespace xvec {

namespace {

constexpr std::size_t kKeyLen = 1024, kWidth = 4 * kKeyLen / 8, kWords = kKeyLen / 64;
constexpr std::size_t kItems = 9;  // a block of eight lanes and the start of a second

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): numbers without a pattern, the same everywhere.
class Words {
 public:
  explicit Words(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  Integer number(std::size_t bits) {
    std::vector<std::uint64_t> limbs((bits + 63) / 64);
    for (auto& limb : limbs) limb = next();
    return Integer::from_limbs(limbs.data(), limbs.size()) % Integer::power_of_two(bits);
  }

 private:
  std::uint64_t state_;
};

// A number of kKeyLen bits with its top bit set.
Integer large_number(std::uint64_t seed) {
  return Words(seed).number(kKeyLen - 1) + Integer::power_of_two(kKeyLen - 1);
}

// A prime p; kOrder divides p - 1, and kRoot has that order modulo p².
constexpr std::uint64_t kOrder = 65537;
Integer prime() {
  const Integer x = large_number(1);
  return x - x % Integer(kOrder) + Integer(418 * kOrder + 1);
}
Integer larger_prime() {
  const Integer x = large_number(2);
  return x + Integer(x.is_odd() ? 280 : 281);
}
constexpr std::uint64_t kRoot[2 * kWords] = {
    0x7f2276323845b95c, 0x4305618140a86377, 0x5e0318f4efb666c9, 0x380e6eae8e302764, 0xa702e050fd8589b2,
    0xb83360d11eef7f92, 0xb8e9dc95e27117e4, 0xc2c912c8dcc07b43, 0x503d993766d64a63, 0x5b501ce06ecdca9f,
    0x7ff0640980470216, 0x3179952ce166870c, 0xbbd613eb720afcda, 0x847cece8390b89ae, 0xaff1eeb74b3ea9bf,
    0x9599fefab2126f82, 0x1a2e7f679944e56b, 0x92991b31a6405394, 0xadbdcfca839f9d38, 0xd75b4f15828fb0f9,
    0xc14c25558cb7bc04, 0x80da098d1bd5c454, 0xc0d5dfbb54451e93, 0x2846dbc95ea84d10, 0x680fe2905a513f6e,
    0x7380e1781a8c0cba, 0x550e15b56c60846f, 0x64c2097f785dda2c, 0xb3883cf4c83ad074, 0x27a09c7d1fe9a0e4,
    0x93b0e746a58066f5, 0x0cadd4168965b7d6,
};

Integer row(const std::vector<std::uint8_t>& rows, std::size_t i) {
  return Integer::from_bytes(std::span(rows).subspan(i * kWidth, kWidth));
}

void put_row(std::vector<std::uint8_t>& rows, std::size_t i, const Integer& x) {
  x.to_bytes(std::span(rows).subspan(i * kWidth, kWidth));
}

bool multiplies(const Kernel& kernel) {
  const Integer n = prime() * larger_prime(), modulus = n * n;
  const auto maker = kernel.product(modulus, kWidth);
  if (maker == nullptr) return true;
  Words words(3);
  const Integer query = words.number(8 * kWidth);
  std::vector<std::uint8_t> in(kItems * kWidth), out(kItems * kWidth);
  std::vector<Integer> numbers;
  for (std::size_t i = 0; i < kItems; ++i) {
    numbers.push_back(i == 0 ? modulus : words.number(8 * kWidth));  // modulus: needs the last subtraction
    put_row(in, i, numbers[i]);
  }
  maker->fix(query)->run(in.data(), out.data(), kWidth, kItems);
  for (std::size_t i = 0; i < kItems; ++i) {
    if (row(out, i) != numbers[i] * query % modulus) return false;
  }
  return true;
}

// With c = kRoot^i (1 + x p) modulo p², c^kOrder = 1 + kOrder x p.
bool decrypts(const Kernel& kernel, Schedule schedule) {
  Words words(4);
  const Integer p = prime(), p_squared = p * p;
  const Integer root = Integer::from_limbs(kRoot, 2 * kWords);
  const DecryptionKey key{p, Integer(kOrder), words.number(kKeyLen) % p, kWidth, schedule};
  const auto decryptor = kernel.decryptor(key);
  if (decryptor == nullptr) return true;
  std::vector<std::uint8_t> in(kItems * kWidth), valid(kItems, 2);
  std::vector<std::uint64_t> plain(kItems * kWords);
  std::vector<Integer> expected;
  Integer power = 1;
  for (std::size_t i = 0; i < kItems; ++i, power = power * root % p_squared) {
    const Integer x = words.number(kKeyLen) % p;
    expected.push_back(x * Integer(kOrder) % p * key.kappa % p);
    const Integer c = power * (Integer(1) + x * p) % p_squared;
    put_row(in, i, c + p_squared * words.number(2 * kKeyLen - 1) + Integer(i == kItems - 2 ? 1 : 0));
  }
  decryptor->run(in.data(), kWidth, plain.data(), valid.data(), kItems);
  for (std::size_t i = 0; i < kItems; ++i) {
    if (valid[i] != (i == kItems - 2 ? 0 : 1)) return false;
    if (valid[i] == 1 && Integer::from_limbs(&plain[i * kWords], kWords) != expected[i]) return false;
  }
  return true;
}

// Exponents of few bits keep the tables small; equal steps between them let each answer follow from the last.
bool encrypts_as_owner(const Kernel& kernel) {
  Words words(5);
  constexpr std::uint64_t kStep = 29;
  const Integer p = larger_prime(), q = prime(), n = p * q;
  const OwnerKey key{p,
                     q,
                     251,
                     239,
                     words.number(4 * kKeyLen - 2) % (n * n),
                     words.number(kKeyLen) % p,
                     words.number(kKeyLen) % q,
                     kWidth};
  const auto encryptor = kernel.owner_encryptor(key);
  if (encryptor == nullptr) return true;
  std::vector<std::uint64_t> m_p(kItems * kWords), m_q(kItems * kWords), r_p(kItems), r_q(kItems);
  std::vector<std::uint8_t> out(kItems * kWidth);
  for (std::size_t i = 0; i < kItems; ++i) {
    (words.number(kKeyLen) % p).to_limbs(&m_p[i * kWords], kWords);
    (words.number(kKeyLen) % q).to_limbs(&m_q[i * kWords], kWords);
    r_p[i] = kStep * i;  // no two of which have a digit of four bits in common
    r_q[i] = kStep * (kItems - 1 - i);
  }
  encryptor->run(m_p.data(), m_q.data(), r_p.data(), r_q.data(), out.data(), kWidth, kItems);
  const auto agrees = [&](const Integer& prime, const Integer& scale, const std::vector<std::uint64_t>& m,
                          bool back) {
    const Integer square = prime * prime, step = pow_vartime(key.g_n % square, Integer(kStep), square);
    Integer noise = 1;
    for (std::size_t k = 0; k < kItems; ++k, noise = noise * step % square) {
      const std::size_t i = back ? kItems - 1 - k : k;
      const Integer s = Integer::from_limbs(&m[i * kWords], kWords) * scale % prime;
      if (row(out, i) % square != (Integer(1) + prime * s) * noise % square) return false;
    }
    return true;
  };
  for (std::size_t i = 0; i < kItems; ++i) {
    if (row(out, i) >= n * n) return false;
  }
  return agrees(p, key.scale_p, m_p, false) && agrees(q, key.scale_q, m_q, true);
}

bool encrypts_publicly(const Kernel& kernel, bool direct) {
  Words words(6);
  const Integer n = prime() * larger_prime(), modulus = n * n;
  const std::size_t dimensions = 3, r_bits = 4;
  const PublicEncryptionKey key{n,
                                direct ? n + Integer(1) : words.number(4 * kKeyLen - 2) % modulus,
                                words.number(4 * kKeyLen - 2) % modulus,
                                dimensions,
                                r_bits,
                                kWidth};
  const auto encryptor = kernel.public_encryptor(key);
  if (encryptor == nullptr) return true;
  std::vector<std::uint64_t> m(kItems), r(kItems);
  std::vector<std::uint8_t> out(kItems * kWidth);
  for (std::size_t i = 0; i < kItems; ++i) {
    m[i] = (i & 1) | (i & 2) << 1 | (i & 4) << 2;  // three fields of value 0 or 1
    r[i] = kItems - 2 + i;                         // 7, 8, ..., 15
  }
  encryptor->run(m.data(), r.data(), out.data(), kWidth, kItems);
  Integer noise = pow_vartime(key.g_n, Integer(r[0]), modulus), powers[3] = {key.g, 0, 0};  // of g, for the fields
  for (int k = 1; k < 3; ++k) {
    const Integer square = powers[k - 1] * powers[k - 1] % modulus;
    powers[k] = square * square % modulus;
  }
  for (std::size_t i = 0; i < kItems; ++i, noise = noise * key.g_n % modulus) {
    Integer expected = noise;
    for (int k = 0; k < 3; ++k) {
      if ((i >> k & 1) != 0) expected = expected * powers[k] % modulus;
    }
    if (row(out, i) != expected) return false;
  }
  return true;
}

bool maps(const Kernel& kernel) {
  Words words(7);
  const Integer p = prime(), a = words.number(kKeyLen) % p, b = words.number(kKeyLen) % p;
  const Modulus m(p);
  const std::size_t f_bits = 2 * kKeyLen + 129, stride = AffineMap::f_stride(f_bits);
  std::vector<std::uint64_t> factors(2 * kWords), x(kItems * kWords), f(kItems * stride), y(kItems * kWords);
  a.to_limbs(&factors[0], kWords);
  b.to_limbs(&factors[kWords], kWords);
  const auto map = kernel.affine_map({m, &factors[0], &factors[kWords], kWords, f_bits});
  if (map == nullptr) return true;
  std::vector<Integer> expected;
  for (std::size_t i = 0; i < kItems; ++i) {
    const Integer x_number = i == 0 ? p : words.number(kKeyLen);  // p: needs the last subtraction
    const Integer f_number = i == 0 ? Integer() : words.number(f_bits);
    x_number.to_limbs(&x[i * kWords], kWords);
    f_number.to_limbs(&f[i * stride], stride);
    expected.push_back((a * x_number + b * f_number) % p);
  }
  map->run(y.data(), x.data(), f.data(), kItems);
  for (std::size_t i = 0; i < kItems; ++i) {
    if (Integer::from_limbs(&y[i * kWords], kWords) != expected[i]) return false;
  }
  return true;
}

bool permutes(const Kernel& kernel) {
  Words words(8);
  const std::size_t states = kernel.keccak->states;
  std::vector<std::uint64_t> all(25 * states), one(25);
  for (auto& word : all) word = words.next();
  const std::vector<std::uint64_t> before = all;
  kernel.keccak->permute(all.data());
  for (std::size_t i = 0; i < states; ++i) {
    for (std::size_t k = 0; k < one.size(); ++k) one[k] = before[k * states + i];
    kPortableKeccak.permute(one.data());
    for (std::size_t k = 0; k < one.size(); ++k) {
      if (all[k * states + i] != one[k]) return false;
    }
  }
  return true;
}

bool run(const Kernel& kernel, Operation operation) {
  switch (operation) {
    case Operation::product:
      return kernel.product == nullptr || multiplies(kernel);
    case Operation::decryptor:
      return kernel.decryptor == nullptr ||
             (decrypts(kernel, Schedule::constant) && decrypts(kernel, Schedule::vartime));
    case Operation::owner_encryptor:
      return kernel.owner_encryptor == nullptr || encrypts_as_owner(kernel);
    case Operation::public_encryptor:
      return kernel.public_encryptor == nullptr ||
             (encrypts_publicly(kernel, true) && encrypts_publicly(kernel, false));
    case Operation::affine_map:
      return kernel.affine_map == nullptr || maps(kernel);
    case Operation::keccak:
      return kernel.keccak == nullptr || permutes(kernel);
  }
  return false;
}

}  // namespace

bool passes_self_test(const Kernel& kernel, Operation operation) {
  static std::mutex mutex;
  static std::map<std::pair<const Kernel*, Operation>, bool> results;
  const std::lock_guard lock(mutex);
  const auto [result, is_new] = results.try_emplace({&kernel, operation}, false);
  if (is_new) result->second = run(kernel, operation);
  return result->second;
}

}  // namespace xvec
