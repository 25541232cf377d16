// The one exception type of rnnfast beyond the standard library's.
#pragma once

#include <stdexcept>

#include "rnnfast/export.hpp"

namespace rnnfast {

// A file that cannot be trusted, or a CPU that cannot run what was asked for. Wrong arguments are
// std::invalid_argument, ids and indices outside their range std::out_of_range.
class RNNFAST_API Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

}  // namespace rnnfast
