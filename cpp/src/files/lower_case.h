// A text in lower case, as by Python's str.lower().
#pragma once

#include <string>
#include <string_view>

namespace rnnfast::core {

// Text must be valid UTF-8.
std::string lower_case(std::string_view text);

}  // namespace rnnfast::core
