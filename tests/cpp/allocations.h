// How often the library has asked for memory.
#pragma once

#include <atomic>

namespace rnnfast::tests {

extern std::atomic<long> allocations;

}  // namespace rnnfast::tests
