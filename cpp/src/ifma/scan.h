// Choosing an entry of a table by a secret index: every pass reads its entries whatever the index is, and no address
// depends on it.
#pragma once

#include "lanes.h"

namespace xvec::ifma {
namespace {

// Entries that one pass looks at: as many masks fit the mask registers.
constexpr int kScanEntries = 5;

// One pass of a scan of a table of sixteen: to = entries[i] in the lanes of masks[i], else *from.
template <class Element>
struct ScanPass {
  const Element* from;
  const Element* entries;  // kScanEntries
  Element* to;
  __mmask8 masks[kScanEntries];
};

// The passes of a scan, which read the whole table whatever the digit is.
constexpr int kScanPasses = 3;
static_assert(1 + kScanPasses * kScanEntries == 16);

template <class Element>
XVEC_INLINE ScanPass<Element> scan_pass(int pass, const Element* table, Element& chosen, std::uint64_t digit) {
  const int first = 1 + pass * kScanEntries;
  ScanPass<Element> scan{pass == 0 ? table : &chosen, table + first, &chosen, {}};
  for (int i = 0; i < kScanEntries; ++i) {
    scan.masks[i] = _mm512_cmpeq_epi64_mask(broadcast(digit), broadcast(static_cast<std::uint64_t>(first + i)));
  }
  return scan;
}

template <class Element>
XVEC_NOINLINE void run_scan(const ScanPass<Element>& scan) noexcept {
  constexpr int kVectors = sizeof(Element) / sizeof(Lanes);
  const Lanes* from = reinterpret_cast<const Lanes*>(scan.from);
  const Lanes* entries = reinterpret_cast<const Lanes*>(scan.entries);
  Lanes* to = reinterpret_cast<Lanes*>(scan.to);
  XVEC_ROLLED for (int k = 0; k < kVectors; ++k) {
    Lanes chosen = from[k];
    XVEC_UNROLL for (int i = 0; i < kScanEntries; ++i) {
      chosen = _mm512_mask_mov_epi64(chosen, scan.masks[i], entries[i * kVectors + k]);
    }
    to[k] = chosen;
  }
}

}  // namespace
}  // namespace xvec::ifma
