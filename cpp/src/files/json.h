// A small strict JSON reader for untrusted text, and the escaping for a writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rnnfast::core {

struct Json {
    enum class Kind { null, boolean, integer, number, string, array, strings, numbers, object };
    Kind kind = Kind::null;
    bool boolean = false;
    uint64_t integer = 0;  // numbers written as plain non-negative digits
    double number = 0;
    std::string string;
    // strings: an array of at least one string. `string` holds them one after another, and each has its end: a
    // vocabulary takes no more memory than its text.
    std::vector<uint32_t> ends;
    std::string_view item(size_t i) const {
        const size_t begin = i ? ends[i - 1] : 0;
        return std::string_view(string).substr(begin, ends[i] - begin);
    }
    // numbers: an array of so many numbers that no shape is as long, of 8 bytes each.
    std::vector<double> numbers;
    std::vector<Json> items;                            // any other array
    std::vector<std::pair<std::string, Json>> members;  // object, in order

    const Json* find(std::string_view key) const;
    // False if this is not an integer, or larger than memory: sizes in files have 64 bits, addresses may have 32.
    bool to_size(size_t& size) const {
        return kind == Kind::integer && !__builtin_add_overflow(integer, uint64_t{0}, &size);
    }
};

// Throws Error with the position and the reason. Refuses duplicate keys and invalid UTF-8, and text that would need
// much more memory than its size: deep nesting, and more values in an array or members in an object than any model has.
Json parse_json(std::string_view text);

// The text in quotes, escaped.
std::string json_quoted(std::string_view text);

// The shortest spelling that reads back as the same number, with a decimal point or an exponent.
std::string json_number(double value);

// Offset of the first byte that is not part of valid UTF-8, or npos.
size_t invalid_utf8(std::string_view text);

}  // namespace rnnfast::core
