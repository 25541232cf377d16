// libFuzzer on vocabularies and texts: a description in JSON, a zero byte, a text that it encodes. Without the zero
// byte, all of it is a text for a vocabulary of each tokenizer that C++ knows, in lower case or not.
#include <algorithm>
#include <cstdint>
#include <string>

#include "files/lower_case.h"
#include "files/vocabulary.h"
#include "fuzz.h"

namespace {

using rnnfast::core::TokenTable;

void encode(const TokenTable& table, std::string_view text) {
    const std::vector<int32_t> ids = table.encode(text);
    fuzz::expect(ids.size() <= text.size() + 1);
    for (const int32_t id : ids) fuzz::expect(id >= 0 && static_cast<size_t>(id) < table.size());
    fuzz::expect(rnnfast::core::invalid_utf8(table.decode(ids.data(), ids.size())) == std::string::npos);
}

const std::vector<TokenTable>& tables() {
    static const std::vector<TokenTable> all = [] {
        std::vector<TokenTable> made;
        for (const char* tokenizer : {"char", "word", "whitespace", "d2l-char", "d2l-word", "d2l-nmt"})
            for (const char* lower : {"false", "true"})
                fuzz::use_or_refuse([&] {
                    made.emplace_back(
                        std::string("{\"tokenizer\":\"") + tokenizer + "\",\"lower\":" + lower +
                        ",\"tokens\":[\"<unk>\",\"a\",\" \",\"the\",\"\xc3\x9f\",\"\xe4\xb8\x80\",\".\"]}");
                });
        fuzz::expect(made.size() >= 6);
        return made;
    }();
    return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const size_t zero = input.find('\0');
    if (zero != std::string_view::npos) {
        fuzz::use_or_refuse([&] { encode(TokenTable(input.substr(0, zero)), input.substr(zero + 1)); });
        return 0;
    }
    for (const TokenTable& table : tables()) fuzz::use_or_refuse([&] { encode(table, input); });
    if (rnnfast::core::invalid_utf8(input) != std::string::npos) return 0;
    fuzz::expect(rnnfast::core::invalid_utf8(rnnfast::core::lower_case(input)) == std::string::npos);
    return 0;
}
