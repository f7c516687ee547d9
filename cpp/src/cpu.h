// What this processor can run. Compiled without instruction-set flags, so that asking is always safe.
#pragma once

namespace xvec {

// AVX-512 with every extension that kernel_ifma.cpp is compiled for, on an operating system that saves its
// registers.
bool cpu_has_ifma() noexcept;

// AVX2 and BMI2, as kernel_avx2.cpp is compiled for.
bool cpu_has_avx2() noexcept;

}  // namespace xvec
