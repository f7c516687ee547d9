// The constants of the woven arithmetic: padic1024.h says what they are for.
#include "ifma_modulus.h"

#include <vector>

#include "secure_memory.h"

namespace xvec::ifma {

void fill_modulus(WovenModulus& modulus, const Integer& p) {
  constexpr unsigned kBits = WovenModulus::bits;
  constexpr int kLimbs = WovenModulus::limbs;
  const Integer r = Integer::power_of_two(kBits * kLimbs);
  std::uint64_t* const own_p = modulus.p;
  std::uint64_t* const inverse_p = modulus.negated_inverse;
  modulus.mask = (std::uint64_t{1} << kBits) - 1;
  p.to_digits(own_p, kLimbs, kBits);
  (r - inverse(p, r)).to_digits(inverse_p, kLimbs, kBits);

  for (int k = 0; k < 2; ++k) modulus.product_bias[k] = static_cast<std::uint64_t>(bias(k, 2, kBiasSteps));
  std::int64_t high_before = 0;
  for (int k = 0; k < kLimbs; ++k) {
    SplitSum sum;
    for (int i = 0; 2 * i + 1 <= k; ++i) sum.subtract(inverse_p[k - 2 * i], inverse_p[k - 2 * i - 1]);
    modulus.quotient_start[k] = static_cast<std::uint64_t>(sum.low + 4 * high_before + bias(k, kLimbs, kBiasSteps));
    high_before = sum.high;
  }
  // Column 19 gives only its high half; column 20 only its carry, rounded up; columns from 21 get the added p.
  for (int k = 19; k <= 2 * kLimbs - 1; ++k) {
    SplitSum sum;
    for (int i = 1; i <= kLimbs / 2; ++i) {
      const int d = k - 2 * i;
      if (d >= 0 && d + 1 < kLimbs) sum.subtract(own_p[d], own_p[d + 1]);
    }
    std::int64_t start = k == 19 ? sum.high : k == 20 ? sum.low : sum.low + 4 * high_before;
    if (k == 20) start += static_cast<std::int64_t>(modulus.mask) - (std::int64_t{1} << kBiasSteps);
    if (k > 20) start += static_cast<std::int64_t>(own_p[k - 21]) + bias(k - 21, kLimbs - 1, kBiasSteps);
    high_before = sum.high;
    modulus.high_start[0][k - 19] = static_cast<std::uint64_t>(start);
    if (k > 20) start += bias(k, 2 * kLimbs - 1, kBiasSteps);
    modulus.high_start[1][k - 19] = static_cast<std::uint64_t>(start);
  }

  // A multiple of p above all m, 2^1051 < C < 2^1052, biased like a number of 20 columns.
  (p << 28).to_digits(modulus.c, kLimbs, kBits);
  for (int k = 0; k < kLimbs; ++k) modulus.c[k] += static_cast<std::uint64_t>(bias(k, kLimbs - 1, kBiasSteps));

  std::vector<std::uint64_t[kLimbs]> rows(2 * WovenModulus::fixed_pairs);
  Integer row = inverse(Integer::power_of_two(kBits * (kLimbs - 1)) % p, p);
  for (auto& digits : rows) {
    row.to_digits(digits, kLimbs, kBits);
    row = (row << kBits) % p;
  }
  fill_pairs<WovenModulus::fixed_pairs>(modulus.fixed, modulus.fixed_start, rows.data(), kBiasSteps + 1);
  wipe(rows.data(), rows.size() * sizeof rows[0]);
  // + p, after the division by 2^50, and the -1 that the first digit's + p means.
  for (int k = 1; k <= kLimbs; ++k) modulus.fixed_start[k] += own_p[k - 1] - (k == 1 ? 1 : 0);
}

}  // namespace xvec::ifma
