#include "files/json.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <unordered_set>

#include "rnnfast/error.hpp"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

constexpr size_t deepest = 8;
constexpr size_t most_items = 1024;     // of an array, except of strings or numbers: no shape is longer
constexpr size_t most_members = 16384;  // of an object: tensors of a file

class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Json document() {
        Json value = parse(0);
        skip_space();
        if (at_ != text_.size()) fail("text after the end of the value");
        return value;
    }

private:
    [[noreturn]] void fail(const std::string& reason) const { refuse_file({"JSON at byte ", at_, ": ", reason}); }
    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    void skip_space() {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
            ++at_;
    }
    bool take(char c) {
        if (peek() != c || at_ >= text_.size()) return false;
        ++at_;
        return true;
    }
    void expect(char c) {
        if (!take(c)) fail(std::string("expected '") + c + "'");
    }

    Json parse(size_t depth) {
        if (depth > deepest) fail("nested deeper than " + std::to_string(deepest));
        skip_space();
        Json value;
        switch (peek()) {
            case '{':
                return object(depth);
            case '[':
                return array(depth);
            case '"':
                value.kind = Json::Kind::string;
                value.string = string();
                return value;
            case 't':
                return word("true", Json::Kind::boolean, true);
            case 'f':
                return word("false", Json::Kind::boolean, false);
            case 'n':
                return word("null", Json::Kind::null, false);
            default:
                return number();
        }
    }

    Json word(std::string_view spelled, Json::Kind kind, bool truth) {
        if (text_.substr(at_, spelled.size()) != spelled) fail("unknown word");
        at_ += spelled.size();
        Json value;
        value.kind = kind;
        value.boolean = truth;
        return value;
    }

    Json object(size_t depth) {
        Json value;
        value.kind = Json::Kind::object;
        std::unordered_set<std::string> seen;
        expect('{');
        skip_space();
        if (take('}')) return value;
        do {
            skip_space();
            std::string key = string();
            if (!seen.insert(key).second) fail("duplicate key " + json_quoted(key));
            skip_space();
            expect(':');
            Json member = parse(depth + 1);
            if (value.members.size() == most_members)
                fail("an object of more than " + std::to_string(most_members) + " members");
            value.members.emplace_back(std::move(key), std::move(member));
            skip_space();
        } while (take(','));
        expect('}');
        return value;
    }

    Json array(size_t depth) {
        Json value;
        value.kind = Json::Kind::array;
        expect('[');
        skip_space();
        if (take(']')) return value;
        if (peek() == '"') return strings();
        do {
            if (value.items.size() == most_items) return numbers(value.items);
            value.items.push_back(parse(depth + 1));
            skip_space();
        } while (take(','));
        expect(']');
        return value;
    }

    // The rest of an array that is too long for items, all of them numbers.
    Json numbers(const std::vector<Json>& first) {
        Json value;
        value.kind = Json::Kind::numbers;
        value.numbers.reserve(first.size() + (text_.size() - at_) / 2);  // a number and its comma: 4 times the text
        const auto add = [&](const Json& item) {
            if (item.kind != Json::Kind::integer && item.kind != Json::Kind::number)
                fail("an array of more than " + std::to_string(most_items) + " values that are not numbers");
            value.numbers.push_back(item.number);
        };
        for (const Json& item : first) add(item);
        do {
            skip_space();
            add(number());
            skip_space();
        } while (take(','));
        expect(']');
        value.numbers.shrink_to_fit();
        return value;
    }

    Json strings() {
        Json value;
        value.kind = Json::Kind::strings;
        do {
            skip_space();
            value.string += string();
            value.ends.push_back(static_cast<uint32_t>(value.string.size()));
            skip_space();
        } while (take(','));
        expect(']');
        return value;
    }

    size_t digits() {
        const size_t start = at_;
        while (peek() >= '0' && peek() <= '9') ++at_;
        if (at_ == start) fail("expected a value");
        return at_ - start;
    }

    Json number() {
        const size_t start = at_;
        const bool negative = take('-');
        const size_t first = at_;
        const size_t length = digits();
        if (length > 1 && text_[first] == '0') fail("number with a leading zero");
        bool plain = !negative;
        if (take('.')) {
            digits();
            plain = false;
        }
        if (peek() == 'e' || peek() == 'E') {
            ++at_;
            if (!take('+')) take('-');
            digits();
            plain = false;
        }
        const std::string spelled(text_.substr(start, at_ - start));
        Json value;
        value.kind = plain ? Json::Kind::integer : Json::Kind::number;
        value.number = std::strtod(spelled.c_str(), nullptr);
        if (!plain) return value;
        errno = 0;
        value.integer = std::strtoull(spelled.c_str(), nullptr, 10);
        if (errno == ERANGE) fail("integer too large");
        return value;
    }

    uint32_t hex4() {
        uint32_t value = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            const char c = peek();
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) fail("expected four hexadecimal digits");
            value = value * 16 + static_cast<uint32_t>(digit);
        }
        return value;
    }

    static void append_utf8(std::string& out, uint32_t c) {
        const auto byte = [&](uint32_t b) { out += static_cast<char>(b); };
        if (c < 0x80) {
            byte(c);
        } else if (c < 0x800) {
            byte(0xc0 | c >> 6);
            byte(0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
            byte(0xe0 | c >> 12);
            byte(0x80 | (c >> 6 & 0x3f));
            byte(0x80 | (c & 0x3f));
        } else {
            byte(0xf0 | c >> 18);
            byte(0x80 | (c >> 12 & 0x3f));
            byte(0x80 | (c >> 6 & 0x3f));
            byte(0x80 | (c & 0x3f));
        }
    }

    std::string string() {
        expect('"');
        std::string out;
        for (;;) {
            if (at_ >= text_.size()) fail("text ends inside a string");
            const char c = text_[at_++];
            if (c == '"') return out;
            if (static_cast<unsigned char>(c) < 0x20) fail("control character inside a string");
            if (c != '\\') {
                out += c;
                continue;
            }
            if (at_ >= text_.size()) fail("text ends inside a string");
            const char escaped = text_[at_++];
            static constexpr std::string_view names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
            if (const size_t known = names.find(escaped); known != names.npos) {
                out += values[known];
                continue;
            }
            if (escaped != 'u') fail("unknown escape");
            uint32_t code = hex4();
            if (code >= 0xdc00 && code < 0xe000) fail("lone surrogate");
            if (code >= 0xd800 && code < 0xdc00) {
                if (!take('\\') || !take('u')) fail("lone surrogate");
                const uint32_t low = hex4();
                if (low < 0xdc00 || low >= 0xe000) fail("lone surrogate");
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
            append_utf8(out, code);
        }
    }

    std::string_view text_;
    size_t at_ = 0;
};

}  // namespace

const Json* Json::find(std::string_view key) const {
    for (const auto& [name, value] : members)
        if (name == key) return &value;
    return nullptr;
}

Json parse_json(std::string_view text) {
    if (text.size() > 0xffffffffu) refuse_file({"JSON of more than 4 GB"});
    if (const size_t bad = invalid_utf8(text); bad != std::string_view::npos)
        refuse_file({"JSON at byte ", bad, ": invalid UTF-8"});
    return Parser(text).document();
}

std::string json_number(double value) {
    char text[32];
    for (int digits = 15; digits <= 17; ++digits) {
        std::snprintf(text, sizeof text, "%.*g", digits, value);
        if (std::strtod(text, nullptr) == value) break;
    }
    std::string spelled(text);
    std::replace(spelled.begin(), spelled.end(), ',', '.');  // some locales
    return spelled.find_first_of(".e") == std::string::npos ? spelled + ".0" : spelled;
}

std::string json_quoted(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            static constexpr char digits[] = "0123456789abcdef";
            out += "\\u00";
            out += digits[c >> 4];
            out += digits[c & 15];
        } else {
            out += c;
        }
    }
    return out + '"';
}

size_t invalid_utf8(std::string_view text) {
    const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    for (size_t i = 0; i < text.size();) {
        const unsigned lead = byte(i);
        const size_t length = lead < 0x80                   ? 1
                              : lead >= 0xc2 && lead < 0xe0 ? 2
                              : lead >= 0xe0 && lead < 0xf0 ? 3
                              : lead >= 0xf0 && lead < 0xf5 ? 4
                                                            : 0;
        if (length == 0) return i;
        for (size_t j = 1; j < length; ++j)
            if ((byte(i + j) & 0xc0) != 0x80) return i;
        const unsigned second = byte(i + 1);  // overlong forms, surrogates, beyond U+10FFFF
        if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0) || (lead == 0xf0 && second < 0x90) ||
            (lead == 0xf4 && second >= 0x90))
            return i;
        i += length;
    }
    return std::string_view::npos;
}

}  // namespace rnnfast::core
