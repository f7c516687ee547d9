// The tables of the IFMA kernel's affine maps, and the operation itself (see ifma/affine_tables.h).
#include <algorithm>
#include <cstring>
#include <vector>

#include "ifma/affine_tables.h"
#include "ifma_makers.h"
#include "ifma_matrix.h"
#include "secure_memory.h"

namespace xvec::ifma {
namespace {

template <int KeyLen, int XPieces>
class IfmaAffineMap final : public AffineMap {
 public:
  explicit IfmaAffineMap(const AffineMapKey& key) : memory_(sizeof(Tables)) {
    auto& tables = *memory_.as<Tables>();
    fill_modulus(tables.modulus, key.m.value(), key.m.limbs());
    constexpr int kLimbs = MatrixSize<KeyLen>::limbs;
    std::vector<std::uint64_t[kLimbs]> rows(Tables::x_limbs + Tables::f_limbs);
    Modulus::Scratch scratch;
    WipedArray<std::uint64_t, Tables::words> last;
    const auto fill_rows = [&](auto* to, int count, const std::uint64_t* factor) {
      key.m.shift(last, factor, static_cast<std::size_t>(kMatrixBits * (count + 1)), scratch);
      mpn::to_digits(to[count - 1], kLimbs, kMatrixBits, last, Tables::words, 0);
      rows_before<kMatrixBits>(to, count, tables.modulus.limbs, tables.modulus.negated_inverse);
    };
    fill_rows(rows.data(), Tables::x_limbs, key.a);
    fill_rows(rows.data() + Tables::x_limbs, Tables::f_limbs, key.b);
    fill_matrix(tables.matrix, tables.modulus, rows.data());
    wipe(rows.data(), rows.size() * sizeof rows[0]);
  }

  void run(std::uint64_t* y, const std::uint64_t* x, const std::uint64_t* f,
           std::size_t count) const noexcept override {
    constexpr std::size_t kLanes = 8;
    const auto& tables = *memory_.as<Tables>();
    const std::size_t whole = count / kLanes * kLanes, rest = count - whole;
    if (whole > 0) map(tables, y, x, f, whole);
    if (rest == 0) return;
    // The last rows in a block that is filled up with zeros.
    WipedArray<std::uint64_t, kLanes * Tables::x_words> last_x;
    WipedArray<std::uint64_t, kLanes * Tables::f_words> last_f;
    const auto fill = [&](auto& to, const std::uint64_t* from, std::size_t words) {
      std::memset(to.values, 0, sizeof to.values);
      std::memcpy(to.values, from + whole * words, rest * words * sizeof(std::uint64_t));
    };
    fill(last_x, x, Tables::x_words);
    fill(last_f, f, Tables::f_words);
    map(tables, last_x, last_x, last_f, kLanes);
    std::memcpy(y + whole * Tables::words, last_x, rest * Tables::words * sizeof(std::uint64_t));
  }

 private:
  using Tables = AffineTables<KeyLen, XPieces>;
  SecureBuffer memory_;
};

template <int KeyLen, int XPieces>
std::unique_ptr<AffineMap> make(const AffineMapKey& key) {
  using Tables = AffineTables<KeyLen, XPieces>;
  if (key.x_limbs != Tables::x_words || key.f_bits > Tables::f_bits ||
      AffineMap::f_stride(key.f_bits) != Tables::f_words) {
    return nullptr;
  }
  return std::make_unique<IfmaAffineMap<KeyLen, XPieces>>(key);
}

template <int KeyLen>
std::unique_ptr<AffineMap> make(const AffineMapKey& key) {
  if (auto map = make<KeyLen, 1>(key)) return map;
  return make<KeyLen, 2>(key);
}

}  // namespace

std::unique_ptr<AffineMap> make_affine_map(const AffineMapKey& key) {
  return of_key_len<AffineMap>(key.m.bits(), [&]<int KeyLen>() { return make<KeyLen>(key); });
}

}  // namespace xvec::ifma
