// The speed of the machine with the active kernels: an upper limit for every program, for the bounds of benchmarks.
#pragma once

#include <cstddef>

namespace rnnfast::core {

// Floating-point operations per second of `threads` threads together: fp32 multiply-adds, and dot products of bf16
// pairs (0 where the active ISA has none). Best of several short runs within `seconds`.
double multiply_add_rate(int threads, double seconds);
double bf16_rate(int threads, double seconds);

// Bytes per second that `threads` threads read together; each reads its own `bytes` again and again.
double read_rate(size_t bytes, int threads, double seconds);

}  // namespace rnnfast::core
