// The AVX2 kernel's table. Encryption and masks' arithmetic are left to the portable kernel.
#include "avx2/avx2.h"
#include "avx2_makers.h"
#include "cpu.h"

namespace xvec {

constinit const Keccak avx2::kKeccak4{4, avx2::permute};

extern const Kernel kAvx2;
constinit const Kernel kAvx2{
    "avx2",
    "AVX2, four or eight items at a time",
    cpu_has_avx2,
    avx2::make_product,
    avx2::make_decryptor,
    nullptr,
    nullptr,
    nullptr,
    &avx2::kKeccak4,
};

}  // namespace xvec
