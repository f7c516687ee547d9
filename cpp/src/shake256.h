// SHAKE256 (FIPS 202), as the pseudorandom function of the authenticated encoding.
#pragma once

#include <cstdint>
#include <span>

namespace xvec {

// out = the first out.size() bytes of SHAKE256(in). Its time depends on the two lengths only; what it kept of `in` is
// wiped.
void shake256(std::span<std::uint8_t> out, std::span<const std::uint8_t> in) noexcept;

}  // namespace xvec
