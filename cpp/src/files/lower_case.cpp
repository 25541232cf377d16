#include "files/lower_case.h"

#include <cstdint>

#include "files/utf8.h"

namespace rnnfast::core {

namespace {

struct CaseRange {
    uint32_t first, last, step;
    int32_t shift;  // to the lower-case letter
};
#include "files/lower_case.inc"

constexpr uint32_t capital_i_with_dot = 0x130, capital_sigma = 0x3a3, small_sigma = 0x3c3, final_sigma = 0x3c2;

size_t start_of_character_before(std::string_view text, size_t end) {
    do --end;
    while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80);
    return end;
}

// Whether the sigma in text[begin, end) ends a word: a letter before it and no letter after it, ignoring accents and
// similar characters.
bool is_final(std::string_view text, size_t begin, size_t end) {
    bool letter_before = false;
    while (begin > 0) {
        begin = start_of_character_before(text, begin);
        const uint32_t c = character_at(text, begin).code;
        if (range_of(ignored, c)) continue;
        letter_before = range_of(cased, c) != nullptr;
        break;
    }
    if (!letter_before) return false;
    for (;;) {
        const Character c = character_at(text, end);
        if (c.length == 0) return true;
        if (!range_of(ignored, c.code)) return range_of(cased, c.code) == nullptr;
        end += c.length;
    }
}

}  // namespace

std::string lower_case(std::string_view text) {
    std::string lower;
    lower.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
        const Character c = character_at(text, at);
        const CaseRange* range = range_of(capitals, c.code);
        if (c.code == capital_sigma)
            append_character(lower, is_final(text, at, at + c.length) ? final_sigma : small_sigma);
        else if (c.code == capital_i_with_dot)
            lower += "i\u0307";
        else if (range && (c.code - range->first) % range->step == 0)
            append_character(lower, static_cast<uint32_t>(static_cast<int32_t>(c.code) + range->shift));
        else
            lower += text.substr(at, c.length);
        at += c.length;
    }
    return lower;
}

}  // namespace rnnfast::core
