// The server's product: every kernel gives query * x mod N for any N, query and bytes.
#include <gtest/gtest.h>

#include "kernel_test.h"

namespace xvec {
namespace {

using test::Numbers;
using Bytes = std::vector<std::uint8_t>;

// Widths of n² for key_len 1024, 1536 and 2048, which kernels are made for, and others.
constexpr std::size_t kMadeFor[] = {512, 768, 1024};
constexpr std::size_t kOthers[] = {1, 8, 33, 256, 511, 513, 640, 1032};

// Odd moduli of 8 width bits, or less than 8 fewer, at both ends of the range.
std::vector<Integer> moduli(std::size_t width, Numbers& numbers) {
  const std::size_t bits = 8 * width;
  const auto odd = [](const Integer& x) { return x.is_odd() ? x : x + Integer(1); };
  const Integer top = Integer::power_of_two(bits);
  std::vector<Integer> all = {
      top - Integer(1),
      Integer::power_of_two(bits - 1) + Integer(1),
      odd(Integer::power_of_two(bits - 8) + Integer(2)),
      odd(Integer::power_of_two(bits - 4) + numbers.uniform(bits - 4)),
      odd(top - Integer(2) - numbers.runs(bits - 1)),
  };
  if (bits >= 64) {
    const Integer half = Integer::power_of_two(bits / 2);
    const Integer n =
        half * Integer(8165) / Integer(10000);  // own keys: p, q > 0.8165 * 2^key_len, n > (2/3) 2^2key_len
    all.push_back(odd(n) * odd(n));
    const Integer largest = half - Integer(1);
    all.push_back(largest * largest);
  }
  return all;
}

// Values at which a carry, a correction or the final subtraction can go wrong.
std::vector<Integer> rows_for(const Integer& modulus, const Integer& query, std::size_t width, Numbers& numbers) {
  const std::size_t bits = 8 * width;
  const Integer top = Integer::power_of_two(bits);
  std::vector<Integer> rows = {0, 1, modulus - Integer(1), modulus, top - Integer(1), numbers.runs(bits)};
  if (modulus + Integer(1) < top) rows.push_back(modulus + Integer(1));
  for (const unsigned radix : {27u, 28u, 51u, 52u, 64u}) {
    const std::size_t at = numbers.word() % (bits / radix + 1) * radix;
    if (at < bits) rows.push_back(Integer::power_of_two(at));
    if (at < bits) rows.push_back(Integer::power_of_two(at) - Integer(1));
  }
  // Products just below and just above a multiple of N: before the last subtraction, kernels have N + a little there.
  if (gcd(query % modulus, modulus) == Integer(1)) {
    const Integer inverse_of_query = inverse(query % modulus, modulus);
    for (const Integer& product : {Integer(1), Integer(2), modulus >> 20, modulus >> 44, modulus >> 51,
                                   modulus - Integer(1), modulus - Integer(2), modulus - (modulus >> 44)}) {
      rows.push_back(product * inverse_of_query % modulus);
    }
  }
  for (std::size_t i = 0; i < 4; ++i) rows.push_back(numbers.uniform(bits));
  return rows;
}

class ProductTest : public testing::TestWithParam<const Kernel*> {
 protected:
  static const Kernel& kernel() { return *GetParam(); }

  static void expect_products(const ProductModulus& maker, const Integer& modulus, const Integer& query,
                              const std::vector<Integer>& rows, std::size_t width) {
    const auto product = maker.fix(query);
    Bytes in(rows.size() * width), out(in.size());
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].to_bytes(std::span(in).subspan(i * width, width));
    product->run(in.data(), out.data(), width, rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(Integer::from_bytes(std::span(out).subspan(i * width, width)), rows[i] * query % modulus)
          << "width " << width << ", row " << i;
    }
    product->run(in.data(), in.data(), width, rows.size());
    ASSERT_EQ(in, out) << "in place";
  }

  static void expect_all(const Integer& modulus, std::size_t width, Numbers& numbers) {
    const auto maker = make_product(kernel(), modulus, width);
    for (const Integer& query : {Integer(0), Integer(1), modulus - Integer(1), modulus, numbers.uniform(8 * width),
                                 numbers.runs(8 * width), numbers.uniform(8 * width + 77)}) {
      expect_products(*maker, modulus, query, rows_for(modulus, query, width, numbers), width);
    }
  }
};

TEST_P(ProductTest, ModuliAtTheEndsOfTheirRange) {
  Numbers numbers(1);
  for (const std::size_t width : kMadeFor) {
    for (const Integer& modulus : moduli(width, numbers)) expect_all(modulus, width, numbers);
  }
}

TEST_P(ProductTest, OtherWidths) {
  Numbers numbers(2);
  for (const std::size_t width : kOthers) {
    for (const Integer& modulus : moduli(width, numbers)) expect_all(modulus, width, numbers);
  }
}

TEST_P(ProductTest, RandomCases) {
  Numbers numbers(3);
  for (std::size_t i = 0; i < test::cases(30); ++i) {
    const std::size_t width = kMadeFor[i % std::size(kMadeFor)];
    const std::size_t bits = 8 * width - numbers.word() % 8;
    Integer modulus = Integer::power_of_two(bits - 1) + numbers.uniform(bits - 1);
    if (!modulus.is_odd()) modulus = modulus + Integer(1);
    const Integer query = numbers.uniform(bits);
    std::vector<Integer> rows;
    for (std::size_t row = 0; row < 40; ++row) {
      rows.push_back(row % 4 == 0 ? numbers.runs(8 * width) : numbers.uniform(8 * width));
    }
    expect_products(*make_product(kernel(), modulus, width), modulus, query, rows, width);
  }
}

// Blocks of eight, their remainders and large batches; any alignment; rows apart; nothing written between them.
TEST_P(ProductTest, BatchesOfEverySizeAlignmentAndStride) {
  Numbers numbers(4);
  constexpr std::size_t kWidth = 512, kMost = 300;
  const Integer modulus = Integer::power_of_two(8 * kWidth) - Integer(1), query = numbers.uniform(8 * kWidth);
  const auto product = make_product(kernel(), modulus, kWidth)->fix(query);
  std::vector<Bytes> rows, expected;
  for (std::size_t i = 0; i < kMost; ++i) {
    const Integer x = numbers.uniform(8 * kWidth);
    rows.push_back(test::bytes_of(x, kWidth));
    expected.push_back(test::bytes_of(x * query % modulus, kWidth));
  }
  for (const std::size_t count : {0u, 1u, 7u, 8u, 9u, 16u, 63u, 64u, 71u, 300u}) {
    for (const std::size_t gap : {0u, 1u, 512u}) {
      for (const std::size_t offset : {0u, 1u, 8u, 16u, 63u}) {
        const std::size_t stride = kWidth + gap;
        Bytes in(64 + offset + count * stride, 0xa5), out(in.size(), 0x5a), both;
        for (std::size_t i = 0; i < count; ++i) std::ranges::copy(rows[i], in.begin() + offset + i * stride);
        both = in;
        product->run(in.data() + offset, out.data() + offset, stride, count);
        product->run(both.data() + offset, both.data() + offset, stride, count);
        Bytes expected_out(in.size(), 0x5a), expected_both(in.size(), 0xa5);
        for (std::size_t i = 0; i < count; ++i) {
          std::ranges::copy(expected[i], expected_out.begin() + offset + i * stride);
          std::ranges::copy(expected[i], expected_both.begin() + offset + i * stride);
        }
        ASSERT_EQ(out, expected_out) << count << " rows, gap " << gap << ", offset " << offset;
        ASSERT_EQ(both, expected_both) << count << " rows in place, gap " << gap << ", offset " << offset;
      }
    }
  }
}

// A kernel that quietly leaves everything to the portable one would pass the other tests.
TEST_P(ProductTest, IsReachedForTheSizesThatKernelsAreMadeFor) {
  Numbers numbers(5);
  for (const std::size_t width : kMadeFor) {
    for (const Integer& modulus : moduli(width, numbers)) EXPECT_NE(kernel().product(modulus, width), nullptr);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, ProductTest, testing::ValuesIn(test::kernels_here()), test::name_of);

}  // namespace
}  // namespace xvec
