// The only file that includes <gmp.h>.
#include <gmp.h>

#include <cstring>
#include <stdexcept>
#include <utility>

#include "integer.h"
#include "mpn.h"
#include "secure_memory.h"

static_assert(sizeof(mp_limb_t) == 8 && GMP_NAIL_BITS == 0, "xvec needs 64-bit limbs");

namespace xvec {

struct Integer::Rep {
  mpz_t z;
  Rep() { mpz_init(z); }
  Rep(const Rep&) = delete;
  Rep& operator=(const Rep&) = delete;
  ~Rep() {
    wipe(z->_mp_d, static_cast<std::size_t>(z->_mp_alloc) * sizeof(mp_limb_t));
    mpz_clear(z);
  }
};

namespace {

// Room for a result that GMP would otherwise grow in place, leaving the old limbs unwiped.
void reserve(mpz_t z, std::size_t bits) { mpz_realloc2(z, bits + 64); }

}  // namespace

Integer::Integer() : rep_(new Rep) {}
// mpz_set_ui takes a long, which has 32 bits on some systems.
Integer::Integer(std::uint64_t value) : Integer() { mpz_import(rep_->z, 1, -1, sizeof value, 0, 0, &value); }
Integer::Integer(const Integer& other) : Integer() { mpz_set(rep_->z, other.rep_->z); }
Integer::Integer(Integer&& other) noexcept : rep_(std::exchange(other.rep_, nullptr)) {}
Integer& Integer::operator=(const Integer& other) {
  if (this != &other) *this = Integer(other);
  return *this;
}
Integer& Integer::operator=(Integer&& other) noexcept {
  std::swap(rep_, other.rep_);
  return *this;
}
Integer::~Integer() { delete rep_; }

Integer Integer::from_bytes(std::span<const std::uint8_t> bytes) {
  Integer r;
  reserve(r.rep_->z, 8 * bytes.size());
  mpz_import(r.rep_->z, bytes.size(), -1, 1, 0, 0, bytes.data());
  return r;
}

Integer Integer::from_limbs(const std::uint64_t* limbs, std::size_t count) {
  Integer r;
  reserve(r.rep_->z, 64 * count);
  mpz_import(r.rep_->z, count, -1, 8, 0, 0, limbs);
  return r;
}

Integer Integer::power_of_two(std::size_t exponent) {
  Integer r;
  mpz_setbit(r.rep_->z, exponent);
  return r;
}

void Integer::to_bytes(std::span<std::uint8_t> out) const {
  if (bits() > 8 * out.size()) throw std::length_error("integer does not fit its byte string");
  if (out.empty()) return;
  std::memset(out.data(), 0, out.size());
  mpz_export(out.data(), nullptr, -1, 1, 0, 0, rep_->z);
}

std::vector<std::uint8_t> Integer::to_bytes() const {
  std::vector<std::uint8_t> out((bits() + 7) / 8);
  to_bytes(out);
  return out;
}

void Integer::to_limbs(std::uint64_t* out, std::size_t count) const {
  if (limbs() > count) throw std::length_error("integer does not fit its limbs");
  for (std::size_t i = 0; i < count; ++i) out[i] = mpz_getlimbn(rep_->z, static_cast<mp_size_t>(i));
}

void Integer::to_digits(std::uint64_t* out, std::size_t count, unsigned digit_bits) const {
  const std::uint64_t mask = (std::uint64_t{1} << digit_bits) - 1;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t at = i * digit_bits, limb = at / 64, shift = at % 64;
    std::uint64_t digit = mpz_getlimbn(rep_->z, static_cast<mp_size_t>(limb)) >> shift;
    if (shift != 0) digit |= mpz_getlimbn(rep_->z, static_cast<mp_size_t>(limb + 1)) << (64 - shift);
    out[i] = i + 1 < count ? digit & mask : digit;
  }
  if (count > 0 && bits() > (count - 1) * digit_bits + 64) throw std::length_error("integer does not fit its digits");
}

std::size_t Integer::bits() const { return mpz_sgn(rep_->z) == 0 ? 0 : mpz_sizeinbase(rep_->z, 2); }
bool Integer::bit(std::size_t index) const { return mpz_tstbit(rep_->z, index) != 0; }
std::uint64_t Integer::low64() const { return mpz_getlimbn(rep_->z, 0); }
std::uint64_t Integer::mod_small(std::uint64_t m) const { return mpz_fdiv_ui(rep_->z, m); }

// GMP runs a Baillie-PSW test and (reps - 24) rounds of Miller-Rabin.
bool Integer::probably_prime() const { return mpz_probab_prime_p(rep_->z, 40) != 0; }

Integer operator+(const Integer& a, const Integer& b) {
  Integer r;
  reserve(r.rep_->z, std::max(a.bits(), b.bits()) + 1);
  mpz_add(r.rep_->z, a.rep_->z, b.rep_->z);
  return r;
}

Integer operator-(const Integer& a, const Integer& b) {
  Integer r;
  reserve(r.rep_->z, std::max(a.bits(), b.bits()) + 1);
  mpz_sub(r.rep_->z, a.rep_->z, b.rep_->z);
  return r;
}

Integer operator*(const Integer& a, const Integer& b) {
  Integer r;
  reserve(r.rep_->z, a.bits() + b.bits());
  mpz_mul(r.rep_->z, a.rep_->z, b.rep_->z);
  return r;
}

Integer operator/(const Integer& a, const Integer& b) {
  Integer r;
  mpz_fdiv_q(r.rep_->z, a.rep_->z, b.rep_->z);
  return r;
}

Integer operator%(const Integer& a, const Integer& m) {
  Integer r;
  reserve(r.rep_->z, a.bits());
  mpz_mod(r.rep_->z, a.rep_->z, m.rep_->z);
  return r;
}

Integer operator<<(const Integer& a, std::size_t n) {
  Integer r;
  reserve(r.rep_->z, a.bits() + n);
  mpz_mul_2exp(r.rep_->z, a.rep_->z, n);
  return r;
}

Integer operator>>(const Integer& a, std::size_t n) {
  Integer r;
  reserve(r.rep_->z, a.bits());
  mpz_fdiv_q_2exp(r.rep_->z, a.rep_->z, n);
  return r;
}

std::strong_ordering operator<=>(const Integer& a, const Integer& b) { return mpz_cmp(a.rep_->z, b.rep_->z) <=> 0; }
bool operator==(const Integer& a, const Integer& b) { return mpz_cmp(a.rep_->z, b.rep_->z) == 0; }

Integer gcd(const Integer& a, const Integer& b) {
  Integer r;
  mpz_gcd(r.rep_->z, a.rep_->z, b.rep_->z);
  return r;
}

Integer pow(const Integer& base, const Integer& exponent, const Integer& m) {
  if (exponent.is_zero()) return Integer(1) % m;
  Integer r;
  reserve(r.rep_->z, m.bits());
  mpz_powm_sec(r.rep_->z, base.rep_->z, exponent.rep_->z, m.rep_->z);
  return r;
}

Integer pow_vartime(const Integer& base, const Integer& exponent, const Integer& m) {
  Integer r;
  mpz_powm(r.rep_->z, base.rep_->z, exponent.rep_->z, m.rep_->z);
  return r;
}

Integer inverse(const Integer& a, const Integer& m) {
  Integer r;
  if (mpz_invert(r.rep_->z, a.rep_->z, m.rep_->z) == 0) throw std::domain_error("not invertible");
  return r;
}

Integer sqrt(const Integer& a) {
  Integer r;
  mpz_sqrt(r.rep_->z, a.rep_->z);
  return r;
}

bool base2_probable_prime(const Integer& n) {
  const Integer one(1), n_minus_1 = n - one;
  std::size_t twos = mpz_scan1(n_minus_1.rep_->z, 0);
  Integer x = pow_vartime(Integer(2), n_minus_1 >> twos, n);
  if (x == one || x == n_minus_1) return true;
  while (--twos > 0) {
    x = x * x % n;
    if (x == n_minus_1) return true;
  }
  return false;
}

namespace mpn {

namespace {
mp_ptr out(Limb* p) { return reinterpret_cast<mp_ptr>(p); }
mp_srcptr in(const Limb* p) { return reinterpret_cast<mp_srcptr>(p); }
mp_size_t size(std::size_t n) { return static_cast<mp_size_t>(n); }
}  // namespace

std::size_t multiply_scratch(std::size_t n) noexcept {
  return static_cast<std::size_t>(mpn_sec_mul_itch(size(n), size(n)) + mpn_sec_sqr_itch(size(n)));
}
void multiply(Limb* r, const Limb* a, const Limb* b, std::size_t n, Limb* scratch) noexcept {
  mpn_sec_mul(out(r), in(a), size(n), in(b), size(n), out(scratch));
}
void square(Limb* r, const Limb* a, std::size_t n, Limb* scratch) noexcept {
  // GMP builds that choose their code at run time fall back to a general product in mpn_sec_sqr. Up to 16 limbs
  // mpn_sqr is the schoolbook square on every processor, which has no branch on data either.
  if (n <= 16) {
    mpn_sqr(out(r), in(a), size(n));
  } else {
    mpn_sec_sqr(out(r), in(a), size(n), out(scratch));
  }
}
Limb add_multiple(Limb* r, const Limb* a, std::size_t n, Limb b) noexcept {
  return mpn_addmul_1(out(r), in(a), size(n), b);
}
Limb multiply_by_limb(Limb* r, const Limb* a, std::size_t n, Limb b) noexcept {
  return mpn_mul_1(out(r), in(a), size(n), b);
}
Limb add(Limb* r, const Limb* a, const Limb* b, std::size_t n) noexcept {
  return mpn_add_n(out(r), in(a), in(b), size(n));
}
Limb subtract(Limb* r, const Limb* a, const Limb* b, std::size_t n) noexcept {
  return mpn_sub_n(out(r), in(a), in(b), size(n));
}
Limb add_limb(Limb* r, std::size_t n, Limb limb) noexcept {
  // mpn_add_1 stops at the first limb without a carry.
  for (std::size_t i = 0; i < n; ++i) {
    const Limb sum = r[i] + limb;
    limb = static_cast<Limb>(sum < limb);
    r[i] = sum;
  }
  return limb;
}
Limb add_signed(Limb* r, std::size_t n, Limb value) noexcept {
  const Limb sign = 0 - (value >> 63);
  Limb carry = 0, addend = value;
  for (std::size_t i = 0; i < n; ++i, addend = sign) {
    const Limb partial = r[i] + carry;
    carry = static_cast<Limb>(partial < carry);
    r[i] = partial + addend;
    carry += static_cast<Limb>(r[i] < addend);
  }
  return sign + carry;
}
Limb double_into(Limb* r, const Limb* a, std::size_t n) noexcept { return mpn_lshift(out(r), in(a), size(n), 1); }
Limb subtract_if(bool condition, Limb* r, const Limb* b, std::size_t n) noexcept {
  return mpn_cnd_sub_n(condition ? 1 : 0, out(r), in(r), in(b), size(n));
}

namespace {

// kLimbs limbs of the selected entry, kept in registers meanwhile: mpn_sec_tabselect takes twice the time.
template <std::size_t kLimbs>
void select_limbs(Limb* r, const Limb* table, std::size_t n, std::size_t entries, std::size_t which) noexcept {
  typedef Limb Pair __attribute__((vector_size(16), aligned(8), may_alias));
  Pair selected[kLimbs / 2] = {};
  for (std::size_t e = 0; e < entries; ++e, table += n) {
    Limb mask = 0 - static_cast<Limb>(e == which);
    __asm__("" : "+r"(mask));  // opaque, so that no compiler turns the loop into a look-up
    const Pair* entry = reinterpret_cast<const Pair*>(table);  // not auto, which drops the alignment of 8
    for (std::size_t i = 0; i < kLimbs / 2; ++i) selected[i] |= entry[i] & Pair{mask, mask};
  }
  std::memcpy(r, selected, sizeof selected);
}

// Up to kMaxStrip limbs, an even number, at a time: so many fit the registers.
constexpr std::size_t kMaxStrip = 24;
template <std::size_t kLimbs = kMaxStrip>
void select_strip(Limb* r, const Limb* table, std::size_t limbs, std::size_t n, std::size_t entries,
                  std::size_t which) noexcept {
  if constexpr (kLimbs > 0) {
    if (limbs == kLimbs) {
      select_limbs<kLimbs>(r, table, n, entries, which);
    } else {
      select_strip<kLimbs - 2>(r, table, limbs, n, entries, which);
    }
  }
}

}  // namespace

void select(Limb* r, const Limb* table, std::size_t n, std::size_t entries, std::size_t which) noexcept {
  std::size_t i = 0;
  while (i + 1 < n) {
    const std::size_t left = (n - i) / 2 * 2, limbs = left <= kMaxStrip ? left : 16;
    select_strip(r + i, table + i, limbs, n, entries, which);
    i += limbs;
  }
  for (; i < n; ++i) {
    Limb selected = 0;
    for (std::size_t e = 0; e < entries; ++e) {
      Limb mask = 0 - static_cast<Limb>(e == which);
      __asm__("" : "+r"(mask));
      selected |= table[e * n + i] & mask;
    }
    r[i] = selected;
  }
}

void to_digits(Limb* digits, std::size_t n, unsigned bits, const Limb* a, std::size_t limbs,
               std::size_t at) noexcept {
  const Limb mask = (Limb{1} << bits) - 1;
  for (std::size_t i = 0; i < n; ++i, at += bits) {
    const std::size_t limb = at / 64, shift = at % 64;
    Limb value = limb < limbs ? a[limb] >> shift : 0;
    if (shift + bits > 64 && limb + 1 < limbs) value |= a[limb + 1] << (64 - shift);
    digits[i] = value & mask;
  }
}

void from_digits(Limb* r, std::size_t limbs, const Limb* digits, std::size_t n, unsigned bits) noexcept {
  DoubleLimb waiting = 0;
  std::size_t have = 0, taken = 0;
  for (std::size_t i = 0; i < limbs; ++i) {
    for (; have < 64 && taken < n; have += bits) waiting |= DoubleLimb{digits[taken++]} << have;
    r[i] = static_cast<Limb>(waiting);
    waiting >>= 64;
    have = have < 64 ? 0 : have - 64;
  }
}

bool invert(Limb* r, Limb* a, const Limb* m, std::size_t n, Limb* scratch) noexcept {
  return mpn_sec_invert(out(r), out(a), in(m), size(n), 128 * n, out(scratch)) != 0;
}
bool below(const Limb* a, const Limb* b, std::size_t n) noexcept {
  DoubleLimb difference = 0;
  for (std::size_t i = 0; i < n; ++i)
    difference = DoubleLimb{a[i]} - b[i] - (static_cast<Limb>(difference >> 64) & 1);
  return (static_cast<Limb>(difference >> 64) & 1) != 0;
}

int compare_vartime(const Limb* a, const Limb* b, std::size_t n) noexcept { return mpn_cmp(in(a), in(b), size(n)); }

}  // namespace mpn

Limb montgomery_reduce(Limb* r, Limb* m, Limb* t, Limb top, const Limb* p, Limb p_inverse, std::size_t n,
                       int subtractions) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const Limb quotient = t[i] * p_inverse;
    if (m != nullptr) m[i] = quotient;
    t[i] = mpn_submul_1(mpn::out(t + i), mpn::in(p), mpn::size(n), quotient);  // limb i is now 0: room for the borrow
  }
  top -= mpn_sub_n(mpn::out(r), mpn::in(t + n), mpn::in(t), mpn::size(n));
  Limb k = top >> 63;
  top += mpn_cnd_add_n(k, mpn::out(r), mpn::in(r), mpn::in(p), mpn::size(n));
  for (int s = 0; s < subtractions; ++s) {
    // r >= p exactly when the limb above is set or r - p does not borrow.
    const Limb borrow = mpn_sub_n(mpn::out(t), mpn::in(r), mpn::in(p), mpn::size(n));
    const Limb subtract = (0 - top) >> 63 | (borrow ^ 1);
    k -= subtract;
    top -= mpn_cnd_sub_n(subtract, mpn::out(r), mpn::in(r), mpn::in(p), mpn::size(n));
  }
  return k;
}

}  // namespace xvec
