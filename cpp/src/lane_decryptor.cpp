#include "lane_decryptor.h"

namespace xvec {

namespace {

constexpr std::size_t kWindow = 4;

std::vector<std::uint8_t> fixed_windows(const Integer& exponent) {
  std::vector<std::uint8_t> steps;
  steps.reserve((exponent.bits() + kWindow - 1) / kWindow);  // growing would leave copies behind
  for (std::size_t at = (exponent.bits() + kWindow - 1) / kWindow * kWindow; at > 0; at -= kWindow) {
    unsigned digit = 0;
    for (std::size_t i = at; i-- > at - kWindow;) digit = 2 * digit + exponent.bit(i);
    steps.push_back(static_cast<std::uint8_t>(digit));
  }
  return steps;
}

std::vector<std::uint8_t> sliding_windows(const Integer& exponent) {
  std::vector<std::uint8_t> steps;
  steps.reserve(2 * exponent.bits());
  for (std::size_t at = exponent.bits(); at > 0;) {
    if (!exponent.bit(at - 1)) {
      steps.push_back(0);
      --at;
      continue;
    }
    std::size_t end = at > kWindow ? at - kWindow : 0;
    while (!exponent.bit(end)) ++end;
    unsigned digit = 0;
    const bool first = steps.empty();
    for (std::size_t i = at; i-- > end;) {
      digit = 2 * digit + exponent.bit(i);
      if (!first) steps.push_back(0);
    }
    steps.push_back(static_cast<std::uint8_t>(digit));
    at = end;
  }
  return steps;
}

}  // namespace

std::vector<std::uint8_t> exponent_steps(const Integer& exponent, Schedule schedule) {
  return schedule == Schedule::constant ? fixed_windows(exponent) : sliding_windows(exponent);
}

}  // namespace xvec
