// The server's product with the AVX2 kernel: prepares the query's matrix, and runs it on whole blocks.
#include <vector>

#include "avx2/avx2.h"
#include "avx2_makers.h"
#include "blocks.h"
#include "mpn.h"
#include "query_rows.h"

namespace xvec::avx2 {
namespace {

template <int KeyLen>
class Avx2Product final : public Product {
 public:
  using Size = ProductSize<KeyLen>;

  Avx2Product(const Integer& modulus, const Integer& query) {
    constexpr std::uint64_t kMask = (std::uint64_t{1} << Size::bits) - 1;
    std::vector<std::uint64_t[Size::limbs]> rows(Size::limbs);
    std::uint64_t n[Size::limbs];
    modulus.to_digits(n, Size::limbs, Size::bits);
    const std::uint64_t negated_inverse = negative_inverse(modulus.low64()) & kMask;
    query_rows<Size::bits>(rows.data(), query, modulus, n, negated_inverse);

    query_.negated_inverse = static_cast<std::uint32_t>(negated_inverse);
    for (int k = 0; k < Size::limbs; ++k) query_.modulus[k] = static_cast<std::uint32_t>(n[k]);
    for (int strip = 0; strip < Size::strips; ++strip) {
      for (int k = 0; k < kStripWidth; ++k) {
        const int column = strip * kStripWidth + k;
        const auto entry = [&](const std::uint64_t* limbs, int index) {
          return index >= 0 && index < Size::limbs ? static_cast<std::uint32_t>(limbs[index]) : 0;
        };
        for (int j = 0; j < Size::limbs; ++j) query_.rows[strip][j][k] = entry(rows[j], column);
        query_.rows[strip][Size::limbs][k] = entry(n, column);
        query_.rows[strip][Size::limbs + 1][k] = entry(n, column - 1);
      }
    }
  }

  void run(const std::uint8_t* in, std::uint8_t* out, std::size_t stride, std::size_t count) const noexcept override {
    run_in_blocks<8 * Size::words>(in, out, stride, count, [&](auto... rows) { multiply(query_, rows...); });
  }

 private:
  QueryMatrix<KeyLen> query_;
};

template <int KeyLen>
class Avx2ProductModulus final : public ProductModulus {
 public:
  explicit Avx2ProductModulus(const Integer& modulus) : modulus_(modulus) {}

  [[nodiscard]] std::unique_ptr<Product> fix(const Integer& query) const override {
    return std::make_unique<Avx2Product<KeyLen>>(modulus_, query);
  }

 private:
  Integer modulus_;
};

}  // namespace

std::unique_ptr<ProductModulus> make_product(const Integer& modulus, std::size_t width) {
  if (!modulus.is_odd() || (modulus.bits() + 7) / 8 != width) return nullptr;
  switch (width) {
    case 512:
      return std::make_unique<Avx2ProductModulus<1024>>(modulus);
    case 768:
      return std::make_unique<Avx2ProductModulus<1536>>(modulus);
    case 1024:
      return std::make_unique<Avx2ProductModulus<2048>>(modulus);
    default:
      return nullptr;
  }
}

}  // namespace xvec::avx2
