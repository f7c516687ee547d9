#include "affine_map.h"

#include <algorithm>
#include <cstring>

#include "modulus.h"
#include "mpn.h"
#include "secure_memory.h"

namespace xvec {

namespace {

// Pieces of x and f, each as long as m, times one factor each, and one reduction for all of them.
class PortableAffineMap final : public AffineMap {
 public:
  explicit PortableAffineMap(const AffineMapKey& key)
      : m_(key.m),
        x_limbs_(key.x_limbs),
        f_limbs_((key.f_bits + 63) / 64),
        f_stride_(f_stride(key.f_bits)),
        factors_((pieces(x_limbs_) + pieces(f_limbs_)) * m_.limbs() * sizeof(Limb)) {
    Modulus::Scratch scratch;
    Limb* to = factors_.as<Limb>();
    const auto put_powers = [&](const Limb* factor, std::size_t count) {
      for (; count > 0; --count, factor = to, to += m_.limbs()) m_.enter(to, factor, scratch);
    };
    put_powers(key.a, pieces(x_limbs_));
    put_powers(key.b, pieces(f_limbs_));
  }

  void run(Limb* y, const Limb* x, const Limb* f, std::size_t count) const noexcept override {
    Modulus::Scratch scratch;
    const std::size_t n = m_.limbs();
    const Limb *a = factors_.as<Limb>(), *b = a + pieces(x_limbs_) * n;
    // A whole piece times its factor is below (R - 1) m, and the two rests add less than R m: so often is R m in the sum.
    const auto whole = static_cast<int>(x_limbs_ / n + f_limbs_ / n);
    for (std::size_t i = 0; i < count; ++i, y += n, x += x_limbs_, f += f_stride_) {
      std::memset(scratch.sum, 0, 2 * n * sizeof(Limb));
      const Limb top = add_products(scratch, x, x_limbs_, a) + add_products(scratch, f, f_limbs_, b);
      m_.reduce(y, scratch.sum, top, whole + 1);
    }
  }

 private:
  [[nodiscard]] std::size_t pieces(std::size_t limbs) const { return (limbs + m_.limbs() - 1) / m_.limbs(); }

  // Returns what is carried out of the sum.
  Limb add_products(Modulus::Scratch& scratch, const Limb* number, std::size_t limbs,
                    const Limb* factor) const noexcept {
    const std::size_t n = m_.limbs();
    Limb carry = 0;
    for (std::size_t at = 0; at < limbs; at += n, factor += n) {
      if (const std::size_t piece = limbs - at; piece >= n) {
        mpn::multiply(scratch.product, number + at, factor, n, scratch.multiply);
      } else {
        std::memset(scratch.product, 0, 2 * n * sizeof(Limb));
        for (std::size_t i = 0; i < piece; ++i) {
          scratch.product[i + n] = mpn::add_multiple(scratch.product + i, factor, n, number[at + i]);
        }
      }
      carry += mpn::add(scratch.sum, scratch.sum, scratch.product, 2 * n);
    }
    return carry;
  }

  const Modulus& m_;
  std::size_t x_limbs_, f_limbs_, f_stride_;
  SecureBuffer factors_;  // a R, a R², ..., b R, b R², ... mod m: one for each piece
};

}  // namespace

std::unique_ptr<AffineMap> make_portable_affine_map(const AffineMapKey& key) {
  return std::make_unique<PortableAffineMap>(key);
}

void reduce(Limb* y, const Limb* x, std::size_t x_limbs, const Modulus& m) {
  const Limb one[2 * kMaxPrimeLimbs] = {1};
  PortableAffineMap({m, one, nullptr, x_limbs, 0}).run(y, x, nullptr, 1);
}

}  // namespace xvec
