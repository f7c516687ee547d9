// The tables of the IFMA kernel's encryption by the owner, and the operation itself (see ifma/owner_tables.h).
#include <algorithm>
#include <vector>

#include "ifma/owner_tables.h"
#include "ifma_makers.h"
#include "ifma_matrix.h"
#include "ifma_modulus.h"
#include "ifma_windows.h"
#include "secure_memory.h"

namespace xvec::ifma {
namespace {

// Wider windows gain little and leave the cache.
constexpr unsigned kWindowBits = 8;

template <int KeyLen>
class IfmaOwnerEncryptor final : public OwnerEncryptor {
 public:
  explicit IfmaOwnerEncryptor(const OwnerKey& key) : memory_(sizeof(Tables)), tables_(*memory_.as<Tables>()) {
    const Integer p2 = key.p * key.p, q2 = key.q * key.q, modulus = p2 * q2;
    fill_side(tables_.p, noise_[0], key.p, key.g_n % p2, key.a_p.bits(), key.scale_p);
    fill_side(tables_.q, noise_[1], key.q, key.g_n % q2, key.a_q.bits(), key.scale_q);
    fill_modulus(tables_.n_squared, modulus);

    // Rows 2^(row_bits j) K (idempotent) 2^102, for digits u, and that times p for digits v.
    std::vector<std::uint64_t[MatrixSize<4 * KeyLen>::limbs]> rows(Size::rows);
    auto* row = rows.data();
    const auto fill_rows = [&](Integer value) {
      value = (value << (2 * kMatrixBits)) % modulus;
      for (int j = 0; j < Size::row_limbs; ++j, ++row) {
        value.to_digits(*row, MatrixSize<4 * KeyLen>::limbs, kMatrixBits);
        value = (value << Size::row_bits) % modulus;
      }
    };
    const auto fill_side_rows = [&](const OwnerSide<KeyLen>& side, const Integer& p, const Integer& own2,
                                    const Integer& other2) {
      const Integer idempotent = other2 * inverse(other2 % own2, own2);
      const Integer chain = chain_factor(side.noise.windows, own2) * idempotent % modulus;
      fill_rows(chain);
      fill_rows(chain * p);
    };
    fill_side_rows(tables_.p, key.p, p2, q2);
    fill_side_rows(tables_.q, key.q, q2, p2);
    fill_matrix(tables_.combine, tables_.n_squared, rows.data());
    wipe(rows.data(), rows.size() * sizeof rows[0]);
  }

  void run(const std::uint64_t* m_p, const std::uint64_t* m_q, const std::uint64_t* r_p, const std::uint64_t* r_q,
           std::uint8_t* out, std::size_t stride, std::size_t count) const noexcept override {
    if (count > 0) encrypt_owner_vartime(tables_, {m_p, m_q, r_p, r_q, count}, out, stride);
  }

 private:
  using Size = OwnerSize<KeyLen>;
  using Tables = OwnerTables<KeyLen>;
  static constexpr int kTableLimbs = Size::table_limbs;

  // R of the arithmetic, and R' of the tables.
  static Integer radix() { return Integer::power_of_two(Size::digit_bits * Size::digit_limbs); }
  static Integer table_radix() { return Integer::power_of_two(kDigitBits * kTableLimbs); }

  // R^(W - 1) R'^-W mod p² for a chain of W entries.
  static Integer chain_factor(std::size_t windows, const Integer& p2) {
    const Integer count(windows);
    return pow(radix() % p2, count - Integer(1), p2) * pow(inverse(table_radix() % p2, p2), count, p2) % p2;
  }

  static void fill_side(OwnerSide<KeyLen>& side, SecureBuffer& entries, const Integer& p, const Integer& base,
                        std::size_t exponent_bits, const Integer& scale) {
    fill_modulus(side.modulus, p);
    (scale * table_radix() % p * radix() % p).to_digits(side.scale, Size::digit_limbs, Size::digit_bits);

    WindowTable& table = side.noise;
    // At least two windows; short exponents, which the self-test has, need no wide ones.
    const auto bits = static_cast<unsigned>(std::clamp<std::size_t>((exponent_bits + 1) / 2, 1, kWindowBits));
    const std::size_t padded = lay_out(table, std::max<std::size_t>(2, exponent_bits), bits, 1);
    const std::size_t window_words = Size::entry_words << table.bits;
    entries = SecureBuffer(padded * window_words * sizeof(std::uint64_t), Locking::if_possible);
    table.entries = entries.as<std::uint64_t>();

    SecureBuffer memory(sizeof(DigitModulus<kTableLimbs>) + 2 * sizeof(FactoredElements<kTableLimbs>));
    auto& one = memory.as<FactoredElements<kTableLimbs>>()[0];
    auto& start = memory.as<FactoredElements<kTableLimbs>>()[1];
    auto& modulus = *reinterpret_cast<DigitModulus<kTableLimbs>*>(&start + 1);
    fill_modulus(modulus, p);
    fill_start(one, start, p, base, padded / kLanes * table.bits);
    build_windows(modulus, table, one, start);

    const FactoredInteger neutral(Integer(1), p, radix(), table_radix());
    for (std::size_t window = table.windows; window < padded; ++window) {
      std::uint64_t* entry = table.entries + window * window_words;
      neutral.u.to_digits(entry, Size::digit_limbs, Size::digit_bits);
      neutral.e.to_digits(entry + Size::digit_limbs, Size::digit_limbs, Size::digit_bits);
    }
  }

  SecureBuffer memory_, noise_[2];
  Tables& tables_;
};

template <int KeyLen>
std::unique_ptr<OwnerEncryptor> make(const OwnerKey& key) {
  if (key.q.bits() != KeyLen || key.width != 4 * KeyLen / 8) return nullptr;
  return std::make_unique<IfmaOwnerEncryptor<KeyLen>>(key);
}

}  // namespace

std::unique_ptr<OwnerEncryptor> make_owner_encryptor(const OwnerKey& key) {
  // Table entries are divided by, so g_n must be a unit.
  if (!key.p.is_odd() || !key.q.is_odd() || key.a_p.is_zero() || key.a_q.is_zero() || (key.g_n % key.p).is_zero() ||
      (key.g_n % key.q).is_zero()) {
    return nullptr;
  }
  return of_key_len<OwnerEncryptor>(key.p.bits(), [&]<int KeyLen>() { return make<KeyLen>(key); });
}

}  // namespace xvec::ifma
