// The server's product with the IFMA kernel: prepares the query's matrix, and runs it on whole blocks.
#include <vector>

#include "blocks.h"
#include "ifma/ifma.h"
#include "ifma_makers.h"
#include "ifma_matrix.h"
#include "query_rows.h"

namespace xvec::ifma {
namespace {

template <int KeyLen>
class IfmaProduct final : public Product {
 public:
  IfmaProduct(const MatrixModulus<4 * KeyLen>& table, const Integer& query, const Integer& modulus)
      : modulus_(table) {
    std::vector<std::uint64_t[MatrixSize<4 * KeyLen>::limbs]> rows(MatrixSize<4 * KeyLen>::limbs);
    query_rows<kMatrixBits>(rows.data(), query, modulus, table.limbs, table.negated_inverse);
    fill_matrix(query_, table, rows.data());
  }

  void run(const std::uint8_t* in, std::uint8_t* out, std::size_t stride, std::size_t count) const noexcept override {
    run_in_blocks<8 * MatrixSize<4 * KeyLen>::words>(in, out, stride, count,
                                                     [&](auto... rows) { multiply(modulus_, query_, rows...); });
  }

 private:
  MatrixModulus<4 * KeyLen> modulus_;
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
  MatrixModulus<4 * KeyLen> table_;
};

}  // namespace

std::unique_ptr<ProductModulus> make_product(const Integer& modulus, std::size_t width) {
  if (!modulus.is_odd() || (modulus.bits() + 7) / 8 != width) return nullptr;
  return of_key_len<ProductModulus>(2 * width, [&]<int KeyLen>() -> std::unique_ptr<ProductModulus> {
    return std::make_unique<IfmaProductModulus<KeyLen>>(modulus);
  });
}

}  // namespace xvec::ifma
