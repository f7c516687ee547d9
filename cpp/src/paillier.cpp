#include "xvec/paillier.h"

#include <string>
#include <utility>

#include "key_material.h"
#include "sizes.h"

namespace xvec {

namespace detail {

std::size_t key_len_of(const Integer& n) { return (n.bits() + 1) / 2; }

std::size_t subgroup_floor(std::size_t modulus_bits) {
  if (modulus_bits >= 7679) return 384;
  if (modulus_bits >= 3071) return 256;
  return 224;
}

namespace {

// L_p(g^exponent mod p²)^-1 mod p. Throws std::domain_error if g carries no message modulo p.
Integer kappa(const Integer& g, const Integer& exponent, const Integer& p) {
  const Integer p2 = p * p;
  return xvec::inverse((pow(g % p2, exponent, p2) - Integer(1)) / p % p, p);
}

}  // namespace

KeyMaterial::KeyMaterial(PublicKey key, const Values& values)
    : public_(std::move(key)),
      key_len_(values.p.bits()),
      alpha_len_((values.a_p * values.a_q).bits()),
      slot_limbs_(2 * values.p.limbs()),
      memory_(kSlots * slot_limbs_ * sizeof(std::uint64_t)) {
  put(0, values.p);
  put(1, values.q);
  put(2, values.a_p);
  put(3, values.a_q);
  put(4, values.inverse);
  const Integer g = Integer::from_bytes(public_.g());
  const Integer e_p = exponent_p(), e_q = exponent_q();
  const Integer k_p = kappa(g, e_p, values.p), k_q = kappa(g, e_q, values.q);
  put(5, k_p);
  put(6, k_q);
  put(7, xvec::inverse(k_p * e_p % values.p, values.p));
  put(8, xvec::inverse(k_q * e_q % values.q, values.q));
}

void KeyMaterial::put(std::size_t slot, const Integer& value) {
  value.to_limbs(memory_.as<std::uint64_t>() + slot * slot_limbs_, slot_limbs_);
}

Integer KeyMaterial::get(std::size_t slot) const {
  return Integer::from_limbs(memory_.as<std::uint64_t>() + slot * slot_limbs_, slot_limbs_);
}

}  // namespace detail

namespace {

using detail::KeyMaterial;

// An empty one stays empty; zero becomes one byte.
Number minimal(Number bytes) {
  while (bytes.size() > 1 && bytes.back() == 0) bytes.pop_back();
  return bytes;
}

void require(bool holds, const char* what) {
  if (!holds) throw KeyMismatch(what);
}

std::string waiver() { return "; pass allow_insecure to read or make such a key all the same"; }

// One prime's part of a stored key: a_p is prime, divides p - 1 and is the order of g_n modulo p and p².
void check_subgroup(const Integer& p, const Integer& q, const Integer& a_p, const Integer& g, const Integer& g_n,
                    const Integer& n) {
  require(a_p > Integer(1) && a_p.probably_prime(),
          "a: must be the product of two primes, one dividing each of p-1 and q-1");
  require((q - Integer(1)) % a_p != Integer(0), "a: a factor divides both p-1 and q-1");
  const Integer p2 = p * p;
  require(pow(g % p2, n % (p2 - p), p2) == g_n % p2, "g_n: is not g^n mod n^2");
  require(pow(g_n % p2, a_p, p2) == Integer(1) && g_n % p != Integer(1), "g_n: its order is not a");
}

}  // namespace

void wipe(std::span<std::uint8_t> bytes) noexcept { wipe(bytes.data(), bytes.size()); }

PublicKey::PublicKey(Number n, Number g, Number g_n)
    : n_(minimal(std::move(n))), g_(minimal(std::move(g))), g_n_(minimal(std::move(g_n))) {
  const Integer modulus = Integer::from_bytes(n_);
  if (modulus.bits() < 8 || !modulus.is_odd()) throw std::invalid_argument("n: must be odd and of 8 bits or more");
  if (modulus.bits() > 2 * kMaxKeyLen) throw std::invalid_argument("n: larger than this library supports");
  const Integer squared = modulus * modulus;
  n_squared_ = squared.to_bytes();
  const auto in_range = [&](const Number& x) {
    const Integer value = Integer::from_bytes(x);
    return value < squared && gcd(value, modulus) == Integer(1);
  };
  if (!in_range(g_)) throw std::invalid_argument("g: must be a unit modulo n^2");
  if (!g_n_.empty() && !in_range(g_n_)) throw std::invalid_argument("g_n: must be a unit modulo n^2");
}

SecretKey::SecretKey(std::shared_ptr<const detail::KeyMaterial> material) : material_(std::move(material)) {}
SecretKey::SecretKey(SecretKey&&) noexcept = default;
SecretKey& SecretKey::operator=(SecretKey&&) noexcept = default;
SecretKey::~SecretKey() = default;

SecretKey SecretKey::load(const PublicKey& key, std::span<const std::uint8_t> phi_bytes,
                          std::span<const std::uint8_t> inverse_bytes, std::span<const std::uint8_t> a_bytes,
                          Floors floors) {
  const Integer one(1), n = Integer::from_bytes(key.n()), g = Integer::from_bytes(key.g());
  const Integer phi = Integer::from_bytes(phi_bytes), a = Integer::from_bytes(a_bytes);
  const Integer stored_inverse = Integer::from_bytes(inverse_bytes);
  require(stored_inverse < n, "inverse: does not belong to n");
  require(key.has_subgroup() == !a.is_zero(), "a: belongs to keys with g_n, and only to them");

  // p and q are the roots of x² - (n + 1 - phi) x + n.
  require(!phi.is_zero() && phi < n, "phi: does not belong to n");
  const Integer sum = n + one - phi;
  require(sum * sum >= (n << 2), "phi: does not belong to n");
  const Integer root = sqrt(sum * sum - (n << 2));
  KeyMaterial::Values values;
  values.p = (sum + root) >> 1;
  values.q = (sum - root) >> 1;
  const Integer &p = values.p, &q = values.q;
  require(p * q == n && p != q, "phi: does not belong to n");
  const std::size_t key_len = detail::key_len_of(n);
  require(p.bits() == key_len && q.bits() == key_len, "n: its primes must have the same length");
  require(p.probably_prime() && q.probably_prime(), "n: is not the product of two primes");
  require(gcd(n, phi) == one, "n: shares a factor with phi");

  if (n.bits() < detail::kModulusFloor && floors == Floors::enforced) {
    throw WeakKey("n: modulus of " + std::to_string(n.bits()) + " bits, at least " +
                  std::to_string(detail::kModulusFloor) + " are required" + waiver());
  }
  if (key.has_subgroup()) {
    const Integer g_n = Integer::from_bytes(key.g_n());
    values.a_p = gcd(a, p - one);
    values.a_q = gcd(a, q - one);
    require(values.a_p * values.a_q == a && values.a_p != values.a_q,
            "a: must be the product of two distinct primes, one dividing each of p-1 and q-1");
    check_subgroup(p, q, values.a_p, g, g_n, n);
    check_subgroup(q, p, values.a_q, g, g_n, n);
    const std::size_t shortest = std::min(values.a_p.bits(), values.a_q.bits());
    const std::size_t floor = detail::subgroup_floor(n.bits());
    if (shortest < floor && floors == Floors::enforced) {
      throw WeakKey("alpha_len: secret subgroup primes of " + std::to_string(shortest) + " bits, at least " +
                    std::to_string(floor) + " are required (the public key can be factored in about 2^" +
                    std::to_string(shortest / 2) + " steps)" + waiver());
    }
    const Integer n2 = n * n;
    const Integer l = (pow(g, a, n2) - one) / n % n;
    require(stored_inverse * l % n == one, "g_a_inv: does not belong to g and a");
  } else {
    require(stored_inverse * phi % n == one, "inv: does not belong to phi and n");
    require((pow(g % (p * p), p - one, p * p) - one) / p % p != Integer(0) &&
                (pow(g % (q * q), q - one, q * q) - one) / q % q != Integer(0),
            "g: carries no message");
  }
  values.inverse = stored_inverse;
  return SecretKey(std::make_unique<KeyMaterial>(key, values));
}

const detail::KeyMaterial& SecretKey::material() const {
  if (material_ == nullptr) throw KeyClosed("this key was closed");
  return *material_;
}

const PublicKey& SecretKey::public_key() const { return material().public_key(); }
std::size_t SecretKey::key_len() const { return material().key_len(); }
std::size_t SecretKey::alpha_len() const { return material().alpha_len(); }
Number SecretKey::phi() const { return ((material().p() - Integer(1)) * (material().q() - Integer(1))).to_bytes(); }
Number SecretKey::a() const { return (material().a_p() * material().a_q()).to_bytes(); }
Number SecretKey::inverse() const { return material().inverse().to_bytes(); }
SecretKey SecretKey::share() const {
  (void)material();
  return SecretKey(material_);
}
void SecretKey::close() noexcept { material_.reset(); }

}  // namespace xvec
