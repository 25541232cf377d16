// Tokens and their ids, and tokenization of texts, as in python/rnnfast/text/vocab.py and tokenise.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "files/json.h"

namespace rnnfast::core {

class TokenTable {
public:
    TokenTable() = default;
    // {"tokenizer": "char", "tokens": ["<unk>", ...]}; throws Error with what is wrong.
    explicit TokenTable(std::string_view json);
    explicit TokenTable(Json description);

    size_t size() const { return tokens_.ends.size(); }
    const std::string& tokenizer() const { return tokenizer_; }
    std::string_view token(size_t id) const { return tokens_.item(id); }

    // Text must be UTF-8, else std::invalid_argument.
    std::vector<int32_t> encode(std::string_view text) const;
    std::string decode(const int32_t* ids, size_t count) const;

private:
    int32_t id_of(std::string_view token) const;  // 0 if the token is unknown
    size_t slot_of(std::string_view token) const;

    std::string tokenizer_;
    bool lower_ = false;           // convert texts to lower case first
    Json tokens_;                  // Kind::strings
    std::vector<uint32_t> slots_;  // open addressing: id + 1, 0 for a free slot
};

}  // namespace rnnfast::core
