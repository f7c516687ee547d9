// What anybody may know although it comes from secrets: whether a draw or an answer was accepted. The test that looks
// for branches on secrets (tests/constant_time.cpp) compiles this with XVEC_TRACK_SECRETS.
#pragma once

#ifdef XVEC_TRACK_SECRETS
#include <valgrind/memcheck.h>
#endif

namespace xvec {

inline bool declassified(bool known) noexcept {
#ifdef XVEC_TRACK_SECRETS
  (void)VALGRIND_MAKE_MEM_DEFINED(&known, sizeof known);
#endif
  return known;
}

}  // namespace xvec
