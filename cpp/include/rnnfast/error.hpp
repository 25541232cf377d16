// The one exception type of rnnfast beyond the standard library's.
#pragma once

#include <stdexcept>

#include "rnnfast/export.hpp"

namespace rnnfast {

// A file that cannot be trusted. Wrong arguments are
// std::invalid_argument, ids and indices outside their range std::out_of_range.
class RNNFAST_API Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// The environment variable RNNFAST_ISA names an instruction set that is not there, or this CPU has none of the build's.
class RNNFAST_API UnsupportedCpu : public std::invalid_argument {
public:
    using std::invalid_argument::invalid_argument;
};

}  // namespace rnnfast
