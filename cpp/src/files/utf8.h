// UTF-8 characters and tables of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

namespace rnnfast::core {

// A code point of valid UTF-8 and its length; length 0 at the end.
struct Character {
    uint32_t code;
    size_t length;
};

inline Character character_at(std::string_view text, size_t at) {
    if (at >= text.size()) return {0, 0};
    const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[at + i])); };
    const uint32_t lead = byte(0);
    if (lead < 0x80) return {lead, 1};
    if (lead < 0xe0) return {(lead & 0x1f) << 6 | (byte(1) & 0x3f), 2};
    if (lead < 0xf0) return {(lead & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f), 3};
    return {(lead & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 | (byte(3) & 0x3f), 4};
}

inline void append_character(std::string& text, uint32_t code) {
    const auto add = [&](uint32_t byte) { text += static_cast<char>(byte); };
    if (code < 0x80) return add(code);
    if (code < 0x800)
        add(0xc0 | code >> 6);
    else if (code < 0x10000)
        add(0xe0 | code >> 12), add(0x80 | (code >> 6 & 0x3f));
    else
        add(0xf0 | code >> 18), add(0x80 | (code >> 12 & 0x3f)), add(0x80 | (code >> 6 & 0x3f));
    add(0x80 | (code & 0x3f));
}

struct CodeRange {
    uint32_t first, last;
};

// The range of a sorted table that contains c, or nullptr.
template <class Range, size_t Count>
const Range* range_of(const Range (&table)[Count], uint32_t c) {
    const Range* after = std::upper_bound(std::begin(table), std::end(table), c,
                                          [](uint32_t code, const Range& r) { return code < r.first; });
    return after != std::begin(table) && c <= after[-1].last ? after - 1 : nullptr;
}

}  // namespace rnnfast::core
