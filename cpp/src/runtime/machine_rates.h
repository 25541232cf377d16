// The machine's own speed with the active kernels: what no program can beat, for the bounds of the benchmarks.
#pragma once

#include <cstddef>

namespace rnnfast::core {

// Floating-point operations a second of `threads` threads together: fp32 multiply-adds, and dot products of bf16 pairs
// (0 where the active ISA has none). Best of several short runs within `seconds`.
double multiply_add_rate(int threads, double seconds);
double bf16_rate(int threads, double seconds);

// Bytes a second that `threads` threads together read, each again and again from `bytes` of its own.
double read_rate(size_t bytes, int threads, double seconds);

}  // namespace rnnfast::core
