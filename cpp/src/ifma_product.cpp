// The server's product with the IFMA kernel: prepares the query's matrix, and runs it on whole blocks.
#include <cstring>
#include <vector>

#include "ifma/ifma.h"
#include "ifma_makers.h"
#include "ifma_matrix.h"

namespace xvec::ifma {
namespace {

constexpr std::size_t kBlock = 8;

// rows[j] = query * B^j * B^2 mod N, B = 2^51: the last by division, each one before it by one Montgomery limb,
//   T_{j-1} = (T_j + (-T_j N^-1 mod B) N) / B < N + T_j / B,
// hence below N (1 + 2^-50) throughout.
template <int KeyLen>
void query_rows(std::uint64_t (*rows)[MatrixSize<KeyLen>::limbs], const MatrixModulus<KeyLen>& table,
                const Integer& query, const Integer& modulus) {
  constexpr int kLimbs = MatrixSize<KeyLen>::limbs;
  constexpr std::uint64_t kMask = (std::uint64_t{1} << kMatrixBits) - 1;
  ((query << ((kLimbs + 1) * kMatrixBits)) % modulus).to_digits(rows[kLimbs - 1], kLimbs, kMatrixBits);
  for (int j = kLimbs - 1; j > 0; --j) {
    const std::uint64_t* from = rows[j];
    std::uint64_t* to = rows[j - 1];
    const std::uint64_t quotient = (from[0] * table.negated_inverse) & kMask;
    std::uint64_t carry =
        static_cast<std::uint64_t>((static_cast<Uint128>(quotient) * table.limbs[0] + from[0]) >> kMatrixBits);
    for (int k = 1; k < kLimbs; ++k) {
      const Uint128 sum = static_cast<Uint128>(quotient) * table.limbs[k] + from[k] + carry;
      to[k - 1] = static_cast<std::uint64_t>(sum) & kMask;
      carry = static_cast<std::uint64_t>(sum >> kMatrixBits);
    }
    to[kLimbs - 1] = carry;
  }
}

template <int KeyLen>
class IfmaProduct final : public Product {
 public:
  IfmaProduct(const MatrixModulus<KeyLen>& table, const Integer& query, const Integer& modulus) : modulus_(table) {
    std::vector<std::uint64_t[MatrixSize<KeyLen>::limbs]> rows(MatrixSize<KeyLen>::limbs);
    query_rows<KeyLen>(rows.data(), table, query, modulus);
    fill_matrix(query_, table, rows.data());
  }

  void run(const std::uint8_t* in, std::uint8_t* out, std::size_t stride, std::size_t count) const noexcept override {
    constexpr std::size_t kWidth = 8 * MatrixSize<KeyLen>::words;
    const std::size_t whole = count / kBlock * kBlock;
    multiply(modulus_, query_, in, out, stride, whole);
    if (whole == count) return;
    alignas(64) std::uint8_t block[kBlock * kWidth] = {};
    for (std::size_t i = whole; i < count; ++i) std::memcpy(block + (i - whole) * kWidth, in + i * stride, kWidth);
    multiply(modulus_, query_, block, block, kWidth, kBlock);
    for (std::size_t i = whole; i < count; ++i) std::memcpy(out + i * stride, block + (i - whole) * kWidth, kWidth);
  }

 private:
  MatrixModulus<KeyLen> modulus_;
  QueryMatrix<KeyLen> query_;
};

template <int KeyLen>
class IfmaProductModulus final : public ProductModulus {
 public:
  explicit IfmaProductModulus(const Integer& modulus) : modulus_(modulus) { fill_modulus(table_, modulus); }

  [[nodiscard]] std::unique_ptr<Product> fix(const Integer& query) const override {
    return std::make_unique<IfmaProduct<KeyLen>>(table_, query, modulus_);
  }

 private:
  Integer modulus_;
  MatrixModulus<KeyLen> table_;
};

}  // namespace

std::unique_ptr<ProductModulus> make_product(const Integer& modulus, std::size_t width) {
  if (!modulus.is_odd() || (modulus.bits() + 7) / 8 != width) return nullptr;
  switch (width) {
    case 512:
      return std::make_unique<IfmaProductModulus<1024>>(modulus);
    case 768:
      return std::make_unique<IfmaProductModulus<1536>>(modulus);
    case 1024:
      return std::make_unique<IfmaProductModulus<2048>>(modulus);
    default:
      return nullptr;
  }
}

}  // namespace xvec::ifma
