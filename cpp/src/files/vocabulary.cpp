#include "files/vocabulary.h"

#include <algorithm>
#include <iterator>
#include <stdexcept>

#include "files/lower_case.h"
#include "files/utf8.h"
#include "rnnfast/error.hpp"
#include "runtime/check.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

#include "files/unicode.inc"

bool is_word(uint32_t c) { return range_of(word_characters, c) != nullptr; }
bool is_space(uint32_t c) { return range_of(spaces, c) != nullptr; }

bool is_mark(uint32_t c) { return range_of(marks, c) != nullptr; }

using Holds = bool (*)(uint32_t);
bool never(uint32_t) { return false; }

size_t end_of_run_of(Holds holds, std::string_view text, size_t at) {
    for (;;) {
        const Character c = character_at(text, at);
        if (c.length == 0 || !holds(c.code)) return at;
        at += c.length;
    }
}

// The end of a word that starts at `at`: a word character, then word characters and marks. `at` if there is no word.
template <Holds IsMark>
size_t end_of_word(std::string_view text, size_t at) {
    const auto continues = [](uint32_t c) { return is_word(c) || IsMark(c); };
    const Character c = character_at(text, at);
    return c.length && is_word(c.code) ? end_of_run_of(continues, text, at + c.length) : at;
}

// The end of the token that starts at `at`, or `at` for a space to skip. The pattern is <W>|W(?:['’]W)*|[^\w\s]M*|\n,
// where M is a mark and W is \w[\wM]*. Words of old models have no marks.
template <Holds IsMark>
size_t end_of_word_token(std::string_view text, size_t at) {
    const Character c = character_at(text, at);
    if (c.code == '\n') return at + 1;
    if (c.code == '<') {
        const size_t end = end_of_word<IsMark>(text, at + 1);
        if (end > at + 1 && end < text.size() && text[end] == '>') return end + 1;
    }
    if (!is_word(c.code)) return is_space(c.code) ? at : end_of_run_of(IsMark, text, at + c.length);
    size_t end = end_of_word<IsMark>(text, at);
    for (;;) {
        const Character apostrophe = character_at(text, end);
        if (apostrophe.length == 0 || (apostrophe.code != '\'' && apostrophe.code != 0x2019)) return end;
        const size_t further = end_of_word<IsMark>(text, end + apostrophe.length);
        if (further == end + apostrophe.length) return end;
        end = further;
    }
}

constexpr std::string_view no_space_before[] = {".", ",", ";", ":", "!", "?", ")", "]", "}", "%", "…", "’", "”"};
constexpr std::string_view no_space_after[] = {"(", "[", "{", "$", "“"};
constexpr std::string_view end_of_sentence = "<eos>";

template <size_t Count>
bool is_one_of(const std::string_view (&marks)[Count], std::string_view token) {
    return std::find(std::begin(marks), std::end(marks), token) != std::end(marks);
}

// The end of the token that starts at `at`, or `at` for a space to skip.
size_t end_of_character(std::string_view text, size_t at) { return at + character_at(text, at).length; }

size_t end_of_run(std::string_view text, size_t at) {
    if (text[at] == '\n') return at + 1;
    for (;;) {
        const Character c = character_at(text, at);
        if (c.length == 0 || is_space(c.code)) return at;
        at += c.length;
    }
}

// Between two tokens of a text.
bool never_space(std::string_view, std::string_view) { return false; }
bool always_space(std::string_view, std::string_view) { return true; }
bool space_between_lines(std::string_view before, std::string_view after) {
    return before != end_of_sentence && after != end_of_sentence;
}
bool space_between_words(std::string_view before, std::string_view after) {
    return space_between_lines(before, after) && !is_one_of(no_space_after, before) &&
           !is_one_of(no_space_before, after);
}

// Letters a to z and single spaces.
std::string letters_of(std::string_view text) {
    std::string letters;
    for (const char c : text) {
        const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        if (lower >= 'a' && lower <= 'z')
            letters += lower;
        else if (letters.empty() || letters.back() != ' ')
            letters += ' ';
    }
    return letters;
}

// In lower case with plain spaces, one before each of , . ! ?
std::string sentence_of(std::string_view text) {
    std::string apart;
    bool space = true;  // before: also at the start
    for (size_t at = 0; at < text.size();) {
        const Character c = character_at(text, at);
        const bool blank = c.code == ' ' || c.code == 0xa0 || c.code == 0x202f;
        if (!space && (c.code == ',' || c.code == '.' || c.code == '!' || c.code == '?')) apart += ' ';
        apart += blank ? " " : text.substr(at, c.length);
        space = blank;
        at += c.length;
    }
    return lower_case(apart);
}

struct TokenizerInfo {
    const char* name_in_file;
    const char* name;
    size_t (*end_of_token)(std::string_view, size_t);   // nullptr: only Python tokenizes this way
    bool (*space)(std::string_view, std::string_view);  // nullptr: only Python joins such tokens
    bool lines;                                         // "\n" is the token <eos>
    std::string (*prepare)(std::string_view);           // applied before a text is tokenized; nullptr: nothing
};
constexpr TokenizerInfo tokenizers[] = {
    {"char", "char", end_of_character, never_space, false, nullptr},
    {"word-v2", "word", end_of_word_token<is_mark>, space_between_words, true, nullptr},
    {"word", "word-v1", end_of_word_token<never>, space_between_words, true, nullptr},  // the rule of version 0.1
    {"whitespace", "whitespace", end_of_run, space_between_lines, true, nullptr},
    {"unicode", "unicode", nullptr, space_between_words, true, nullptr},
    {"jieba", "jieba", nullptr, never_space, false, nullptr},
    {"bpe", "bpe", nullptr, nullptr, false, nullptr},
    {"d2l-char", "d2l-char", end_of_character, never_space, false, letters_of},
    {"d2l-word", "d2l-word", end_of_run, always_space, false, letters_of},
    {"d2l-nmt", "d2l-nmt", end_of_run, space_between_lines, true, sentence_of},
};

const TokenizerInfo* tokenizer_with(const char* TokenizerInfo::*field, std::string_view name) {
    const auto* found =
        std::find_if(std::begin(tokenizers), std::end(tokenizers), [&](const auto& t) { return name == t.*field; });
    return found == std::end(tokenizers) ? nullptr : found;
}
const TokenizerInfo* tokenizer_named(std::string_view name) { return tokenizer_with(&TokenizerInfo::name, name); }

uint64_t hash(std::string_view token) {  // FNV-1a
    uint64_t h = 0xcbf29ce484222325u;
    for (const char c : token) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return h ^ h >> 32;
}

}  // namespace

TokenTable::TokenTable(std::string_view json) : TokenTable(parse_json(json)) {}

TokenTable::TokenTable(Json root) {
    const auto fail = [](const std::string& why) { refuse_file({"its vocabulary cannot be used: ", why}); };
    const Json* tokenizer = root.find("tokenizer");
    const bool is_name = tokenizer && tokenizer->kind == Json::Kind::string;
    const TokenizerInfo* known = is_name ? tokenizer_with(&TokenizerInfo::name_in_file, tokenizer->string) : nullptr;
    if (!known) fail("its tokenizer is not known here; update rnnfast");
    tokenizer_ = known->name;
    if (const Json* lower = root.find("lower")) {
        if (lower->kind != Json::Kind::boolean) fail("expected true or false for lower");
        lower_ = lower->boolean;
    }
    const Json* rules = root.find("rules");
    const bool has_rules = rules && rules->kind == Json::Kind::string;
    if ((rules && !has_rules) || has_rules != (tokenizer_ == "bpe"))
        fail("expected rules, as a string, with the tokenizer bpe and no other");
    for (auto& [key, value] : root.members)
        if (key == "tokens") tokens_ = std::move(value);
    if (tokens_.kind != Json::Kind::strings || token(0) != "<unk>")
        fail("expected a list of tokens that starts with <unk>");
    if (size() > 0x7fffffff) fail("more tokens than an id can count");
    size_t places = 2;
    while (places < 2 * size()) places *= 2;
    slots_.resize(places);
    for (size_t id = 0; id < size(); ++id) {
        uint32_t& slot = slots_[slot_of(token(id))];
        if (slot) fail("the token " + json_quoted(token(id)) + " occurs twice");
        slot = static_cast<uint32_t>(id + 1);
    }
}

size_t TokenTable::slot_of(std::string_view token_) const {
    size_t at = hash(token_) & (slots_.size() - 1);
    while (slots_[at] && token(slots_[at] - 1) != token_) at = (at + 1) & (slots_.size() - 1);
    return at;
}

int32_t TokenTable::id_of(std::string_view token_) const {
    const uint32_t id_after = slots_[slot_of(token_)];
    return id_after ? static_cast<int32_t>(id_after - 1) : 0;
}

std::vector<int32_t> TokenTable::encode(std::string_view text) const {
    if (!size()) refuse({"the model has no vocabulary to read a text with; give token ids"});
    if (const size_t bad = invalid_utf8(text); bad != std::string_view::npos)
        refuse({"the text is not UTF-8 at byte ", bad, "; convert it first"});
    const TokenizerInfo& tokenizer = *tokenizer_named(tokenizer_);
    if (!tokenizer.end_of_token)
        refuse({"texts for the tokenizer \"", tokenizer_, "\" are tokenized in Python only; give ids"});
    std::string prepared;
    if (lower_) text = prepared = lower_case(text);
    if (tokenizer.prepare) text = prepared = tokenizer.prepare(text);
    std::vector<int32_t> ids;
    for (size_t at = 0; at < text.size();) {
        const size_t end = tokenizer.end_of_token(text, at);
        if (end == at) {
            at = end_of_character(text, at);
            continue;
        }
        const std::string_view token_ = text.substr(at, end - at);
        ids.push_back(id_of(tokenizer.lines && token_ == "\n" ? end_of_sentence : token_));
        at = end;
    }
    return ids;
}

std::string TokenTable::decode(const int32_t* ids, size_t count) const {
    if (!size()) refuse({"the model has no vocabulary to write a text with; use the ids"});
    if (!tokenizer_named(tokenizer_)->space)
        refuse({"tokens of \"", tokenizer_, "\" are converted to text in Python only; use their ids"});
    std::string text;
    std::string_view before;
    check_ids(ids, count, {size()});
    for (size_t i = 0; i < count; ++i) {
        const TokenizerInfo& tokenizer = *tokenizer_named(tokenizer_);
        const std::string_view token_ = token(static_cast<size_t>(ids[i]));
        if (i && tokenizer.space(before, token_)) text += ' ';
        text += tokenizer.lines && token_ == end_of_sentence ? "\n" : token_;
        before = token_;
    }
    return text;
}

}  // namespace rnnfast::core
