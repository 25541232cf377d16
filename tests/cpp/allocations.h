// The number of allocations of the library.
#pragma once

#include <atomic>

namespace rnnfast::tests {

extern std::atomic<long> allocations;

}  // namespace rnnfast::tests
