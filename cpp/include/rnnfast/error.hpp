// The exception types that rnnfast adds to those of the standard library.
#pragma once

#include <stdexcept>

#include "rnnfast/export.hpp"

namespace rnnfast {

// A file is missing, damaged or inconsistent. Wrong arguments throw std::invalid_argument; ids and indices outside
// their range throw std::out_of_range.
class RNNFAST_API Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// The environment variable RNNFAST_ISA names an unavailable instruction set, or this CPU supports none of the build.
class RNNFAST_API UnsupportedCpu : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

}  // namespace rnnfast
