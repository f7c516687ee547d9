// The server's product over a batch of rows.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include "batch.h"
#include "hamming_internal.h"
#include "kernel.h"
#include "layout.h"
#include "mpn.h"
#include "sizes.h"
#include "xvec/hamming.h"

namespace xvec {

struct Multiplier::Impl {
  Impl(const Integer& modulus, std::size_t width_in, const Kernel& kernel)
      : width(width_in), n_squared(modulus.limbs()), product(make_product(kernel, modulus, width_in)) {
    modulus.to_limbs(n_squared.data(), n_squared.size());
  }
  std::size_t width;
  std::vector<Limb> n_squared;
  std::unique_ptr<ProductModulus> product;
};

namespace detail {

Multiplier make_multiplier(const Number& n_squared, const Kernel& kernel) {
  const Integer modulus = Integer::from_bytes(n_squared);
  if (!modulus.is_odd() || modulus == Integer(1)) throw std::invalid_argument("n_squared: must be odd and > 1");
  if (modulus.limbs() > kMaxCipherLimbs) throw std::invalid_argument("n_squared: larger than this library supports");
  return Multiplier(std::make_unique<Multiplier::Impl>(modulus, (modulus.bits() + 7) / 8, kernel));
}

}  // namespace detail

Multiplier::Multiplier(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Multiplier::Multiplier(const Number& n_squared) : Multiplier(detail::make_multiplier(n_squared, active_kernel())) {}
Multiplier::~Multiplier() = default;
Multiplier::Multiplier(Multiplier&&) noexcept = default;
Multiplier& Multiplier::operator=(Multiplier&&) noexcept = default;
std::size_t Multiplier::width() const noexcept { return impl_->width; }

void Multiplier::products(std::span<const std::uint8_t> query, std::span<const std::uint8_t> rows,
                          std::span<std::uint8_t> out, const Batch& batch) const {
  const std::size_t width = impl_->width, chunks = whole_rows(query.size(), width, "query");
  if (chunks == 0) throw std::invalid_argument("query: is empty");
  const std::size_t stride = chunks * width, count = whole_rows(rows.size(), stride, "rows");
  require_size(out.size(), rows.size(), "out");
  if (out.data() != rows.data() && out.data() < rows.data() + rows.size() && rows.data() < out.data() + out.size()) {
    throw std::invalid_argument("out: overlaps rows, and is not the same memory");
  }
  const std::vector<std::uint8_t> factors(query.begin(), query.end());  // the query may be one of the rows
  // Chunk by chunk, since a fixed factor takes up to megabytes and strangers choose how many there are.
  for (std::size_t j = 0; j < chunks; ++j) {
    const auto fixed = impl_->product->fix(Integer::from_bytes(std::span(factors).subspan(j * width, width)));
    Batch column{batch.threads, {}};
    if (batch.progress) {
      column.progress = [&](std::size_t done, std::size_t) {
        return batch.progress((j * count + done) / chunks, count);
      };
    }
    run_batch(count, 8 * kBlock, column, [&](const Block& mine) {
      const std::size_t at = mine.first * stride + j * width;
      fixed->run(rows.data() + at, out.data() + at, stride, mine.last - mine.first);
    });
  }
}

std::ptrdiff_t Multiplier::out_of_range(std::span<const std::uint8_t> values) const noexcept {
  const std::size_t width = impl_->width, limbs = impl_->n_squared.size();
  for (std::size_t i = 0; (i + 1) * width <= values.size(); ++i) {
    Limb value[kMaxCipherLimbs];
    value[limbs - 1] = 0;
    std::memcpy(value, values.data() + i * width, width);
    if (mpn::compare_vartime(value, impl_->n_squared.data(), limbs) >= 0 ||
        std::all_of(value, value + limbs, [](Limb x) { return x == 0; })) {
      return static_cast<std::ptrdiff_t>(i);
    }
  }
  return -1;
}

}  // namespace xvec
