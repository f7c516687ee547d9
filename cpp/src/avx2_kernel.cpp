// The AVX2 kernel's table. Encryption is left to the portable kernel.
#include "avx2_makers.h"
#include "cpu.h"

namespace xvec {

extern const Kernel kAvx2;
constinit const Kernel kAvx2{
    "avx2",  "AVX2, four or eight items at a time", cpu_has_avx2, avx2::make_product, avx2::make_decryptor, nullptr,
    nullptr,
};

}  // namespace xvec
