// libFuzzer on the JSON reader and writer: what was read and is written reads as the same.
#include <cstdint>
#include <string>

#include "files/json.h"
#include "fuzz.h"

namespace {

using rnnfast::core::Json;

std::string written(const Json& json);

// Calls `write(i)` for all of a list or an object.
template <class Write>
std::string joined(size_t count, Write write) {
    std::string text;
    for (size_t i = 0; i < count; ++i) text += (i ? "," : "") + write(i);
    return text;
}

std::string list(const Json& json) {
    if (json.kind == Json::Kind::strings)
        return joined(json.ends.size(), [&](size_t i) { return rnnfast::core::json_quoted(json.item(i)); });
    if (json.kind == Json::Kind::numbers)
        return joined(json.numbers.size(), [&](size_t i) { return rnnfast::core::json_number(json.numbers[i]); });
    return joined(json.items.size(), [&](size_t i) { return written(json.items[i]); });
}

std::string written(const Json& json) {
    switch (json.kind) {
        case Json::Kind::null:
            return "null";
        case Json::Kind::boolean:
            return json.boolean ? "true" : "false";
        case Json::Kind::integer:
            return std::to_string(json.integer);
        case Json::Kind::number:
            return rnnfast::core::json_number(json.number);
        case Json::Kind::string:
            return rnnfast::core::json_quoted(json.string);
        case Json::Kind::object:
            return "{" +
                   joined(json.members.size(),
                          [&](size_t i) {
                              const auto& [key, value] = json.members[i];
                              return rnnfast::core::json_quoted(key) + ":" + written(value);
                          }) +
                   "}";
        default:
            return "[" + list(json) + "]";
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::use_or_refuse([&] {
        const std::string once = written(rnnfast::core::parse_json({reinterpret_cast<const char*>(data), size}));
        fuzz::expect(written(rnnfast::core::parse_json(once)) == once);
    });
    return 0;
}
