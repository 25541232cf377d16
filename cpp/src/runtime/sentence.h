// Exceptions whose sentence is put together from texts and numbers. They are thrown out of line, so that a check costs
// its caller little code: refuse({"x has ", rows, " rows, expected ", wanted});
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace rnnfast::core {

// A part of a sentence. Texts must outlive it.
class Word {
public:
    Word(const char* text) : text_(text), value_(std::strlen(text)) {}
    Word(std::string_view text) : text_(text.data() ? text.data() : ""), value_(text.size()) {}
    Word(const std::string& text) : text_(text.data()), value_(text.size()) {}
    template <class Unsigned, class = std::enable_if_t<std::is_unsigned_v<Unsigned>>>
    Word(Unsigned number) : value_(number) {}
    template <class Signed, class = std::enable_if_t<std::is_signed_v<Signed> && std::is_integral_v<Signed>>,
              class = void>
    Word(Signed number) : text_(number < 0 ? minus : nullptr), value_(magnitude(number)) {}
    void append_to(std::string& sentence) const;

private:
    static constexpr char minus[] = "-";
    static constexpr uint64_t magnitude(int64_t n) {
        return n < 0 ? -static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
    }
    const char* text_ = nullptr;  // nullptr: a number; minus: one below zero
    uint64_t value_;              // or the length of the text
};
using Sentence = std::initializer_list<Word>;

std::string joined(Sentence sentence);
[[noreturn]] void refuse(Sentence sentence);        // std::invalid_argument
[[noreturn]] void refuse_index(Sentence sentence);  // std::out_of_range
[[noreturn]] void refuse_file(Sentence sentence);   // Error

}  // namespace rnnfast::core
