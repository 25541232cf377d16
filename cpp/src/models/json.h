// A small strict JSON reader for text nobody vouches for, and the escaping a writer needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rnnfast {

struct Json {
    enum class Kind { null, boolean, integer, number, string, array, object };
    Kind kind = Kind::null;
    bool boolean = false;
    uint64_t integer = 0;  // numbers written as plain non-negative digits
    double number = 0;
    std::string string;
    std::vector<Json> items;                            // array
    std::vector<std::pair<std::string, Json>> members;  // object, in order

    const Json* find(std::string_view key) const;
};

// Throws Error with the place and the reason. Depth is limited, duplicate keys and invalid UTF-8 are refused.
Json parse_json(std::string_view text);

// The text in quotes, escaped.
std::string json_quoted(std::string_view text);

// Offset of the first byte that is not part of valid UTF-8, or npos.
size_t invalid_utf8(std::string_view text);

}  // namespace rnnfast
