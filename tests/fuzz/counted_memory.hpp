#pragma once
// How much of a program's memory is in use, for fuzz targets of what must stay bounded.

#include <cstddef>

namespace storctl::fuzz {

/// By operator new, in this process. One thread.
size_t live_bytes();

}  // namespace storctl::fuzz
