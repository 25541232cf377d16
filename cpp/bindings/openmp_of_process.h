// The OpenMP runtime that another extension module, such as PyTorch's, has brought into the process. Nothing is linked:
// its functions are looked up.
#pragma once

#include <string>

namespace rnnfast::bindings {

// A function of that runtime by its name; null without one. For core::set_openmp_of_process.
void* function_of_openmp(const char* name);

// The file of that runtime; empty without one.
std::string openmp_of_process();

}  // namespace rnnfast::bindings
