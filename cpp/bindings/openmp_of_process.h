// The OpenMP runtime that another extension module, such as PyTorch's, has brought into the process. A build without
// OpenMP runs its teams there: after each of its regions that runtime's idle threads spin for milliseconds, and threads
// of our own would wait for the cores meanwhile. Nothing is linked; the functions are looked up.
#pragma once

#include <cstddef>
#include <string>

namespace rnnfast::bindings {

// Calls run(job, index, size) for every index below a size of at most `threads`. False, without a call, if the process
// has no OpenMP runtime, or is the child of a fork, in which the runtime's threads may be gone.
bool run_on_openmp_of_process(size_t threads, void (*run)(void* job, size_t index, size_t size), void* job);

// The file of that runtime; empty without one.
std::string openmp_of_process();

}  // namespace rnnfast::bindings
