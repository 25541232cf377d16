// A text in lower case, as Python's str.lower() makes it.
#pragma once

#include <string>
#include <string_view>

namespace rnnfast::core {

// Text must be valid UTF-8.
std::string lower_case(std::string_view text);

}  // namespace rnnfast::core
