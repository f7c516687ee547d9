// The IFMA kernel's table.
#include "cpu.h"
#include "ifma/affine_tables.h"
#include "ifma_makers.h"

namespace xvec {

constinit const Keccak ifma::kKeccak8{8, ifma::permute};

extern const Kernel kIfma;
constinit const Kernel kIfma{
    "ifma",
    "AVX-512 IFMA, eight items at a time",
    cpu_has_ifma,
    ifma::make_product,
    ifma::make_decryptor,
    ifma::make_owner_encryptor,
    ifma::make_public_encryptor,
    ifma::make_affine_map,
    &ifma::kKeccak8,
};

}  // namespace xvec
