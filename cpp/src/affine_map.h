// The portable kernel's affine map, modulo a number of any size.
#pragma once

#include <memory>

#include "kernel.h"
#include "mpn.h"

namespace xvec {

// Takes a time that depends on lengths only, like its runs.
std::unique_ptr<AffineMap> make_portable_affine_map(const AffineMapKey& key);

// y = x mod m.
void reduce(Limb* y, const Limb* x, std::size_t x_limbs, const Modulus& m);

}  // namespace xvec
