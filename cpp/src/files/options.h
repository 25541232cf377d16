// Options described once. Options::fields(options, visit) calls visit(option, member, rule) for each of them; the JSON
// reader and writer, the check for unknown keys and the messages follow from that one list.
#pragma once

#include <algorithm>
#include <optional>
#include <type_traits>

#include "files/json.h"
#include "runtime/named.h"

namespace rnnfast::core {

// Readers accept a configuration without an option that is not required. Writers leave out a `later` option that is
// false, empty or absent, which must be its default: then older versions read the files that do not use it.
struct Option {
    enum Kind { required, usual, later };
    const char* name;
    Kind kind;
};
constexpr Option required(const char* name) { return {name, Option::required}; }
constexpr Option usual(const char* name) { return {name, Option::usual}; }
constexpr Option later(const char* name) { return {name, Option::later}; }

// Rules for numbers.
struct Size {
    size_t least;  // ... to 2^31 - 1, so that products of two sizes fit 64 bits
};
struct Share {
    bool may_be_one = false;  // from 0 to 1, or to below 1
};
struct Number {
    double least = -3e38, most = 3e38;  // finite floats
};
struct Seed {};  // any integer below 2^64

// Sets members from a configuration. Throws std::invalid_argument for a value that an option cannot have.
class OptionsReader {
public:
    explicit OptionsReader(const Json& config) : config_(config) {}

    void operator()(Option option, std::string& value) const;
    void operator()(Option option, bool& value) const;
    void operator()(Option option, size_t& value, Size rule) const;
    void operator()(Option option, uint64_t& value, Seed) const;
    void operator()(Option option, double& value, Share rule) const;
    void operator()(Option option, double& value, Number rule) const;
    template <class T, class Rule>
    void operator()(Option option, std::optional<T>& value, Rule rule) const {
        if (config_.find(option.name)) (*this)(option, value.emplace(), rule);
    }
    void operator()(Option option, std::vector<size_t>& value, Size rule) const;
    template <class Enum, class = std::enable_if_t<std::is_enum_v<Enum>>>
    void operator()(Option option, Enum& value) const {
        if (const Json* found = find(option, Json::Kind::string, "a name"))
            value = named<Enum>(option.name, found->string);
    }
    template <class Enum, class = std::enable_if_t<std::is_enum_v<Enum>>>
    void operator()(Option option, std::optional<Enum>& value) const {
        if (config_.find(option.name)) (*this)(option, value.emplace());
    }
    template <class Enum>
    void operator()(Option option, SetOf<Enum>& value) const {
        value = {};
        for (const std::string& name : list(option)) value.add(named<Enum>(option.name, name));
    }

private:
    // nullptr if the option is missing and may be.
    const Json* find(Option option, Json::Kind kind, const char* expected) const;
    std::vector<std::string> list(Option option) const;
    static size_t size_of(Option option, const Json& found, Size rule);

    const Json& config_;
};

// Writes a JSON object.
class OptionsWriter {
public:
    void operator()(Option option, const std::string& value) { put(option, json_quoted(value)); }
    void operator()(Option option, bool value) {
        if (value || option.kind != Option::later) put(option, value ? "true" : "false");
    }
    void operator()(Option option, size_t value, Size) { put(option, std::to_string(value)); }
    void operator()(Option option, uint64_t value, Seed) { put(option, std::to_string(value)); }
    void operator()(Option option, double value, Share) { put(option, json_number(value)); }
    void operator()(Option option, double value, Number) { put(option, json_number(value)); }
    template <class T, class Rule>
    void operator()(Option option, const std::optional<T>& value, Rule rule) {
        if (value) (*this)(option, *value, rule);
    }
    void operator()(Option option, const std::vector<size_t>& value, Size) {
        std::string sizes;
        for (const size_t size : value) sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
        if (!value.empty()) put(option, "[" + sizes + "]");
    }
    template <class Enum, class = std::enable_if_t<std::is_enum_v<Enum>>>
    void operator()(Option option, Enum value) {
        put(option, json_quoted(name_of(value)));
    }
    template <class Enum, class = std::enable_if_t<std::is_enum_v<Enum>>>
    void operator()(Option option, const std::optional<Enum>& value) {
        if (value) (*this)(option, *value);
    }
    template <class Enum>
    void operator()(Option option, const SetOf<Enum>& value) {
        std::string names;
        for (size_t i = 0; i < std::size(Named<Enum>::names); ++i)
            if (value.has(static_cast<Enum>(i)))
                names += (names.empty() ? "" : ",") + json_quoted(Named<Enum>::names[i]);
        put(option, "[" + names + "]");
    }
    std::string text() const { return "{" + text_ + "}"; }

private:
    void put(Option option, const std::string& value) {
        text_ += (text_.empty() ? "" : ",") + json_quoted(option.name) + ":" + value;
    }
    std::string text_;
};

// Throws std::invalid_argument for a member of the configuration that is not among the names: it would change the
// results.
void check_known(const Json& config, const std::vector<std::string_view>& names);

template <class Options>
Options read_options(const Json& config) {
    Options options;
    std::vector<std::string_view> names;
    Options::fields(options, [&](Option option, const auto&...) { names.emplace_back(option.name); });
    check_known(config, names);
    Options::fields(options, OptionsReader(config));
    return options;
}

template <class Options>
std::string write_options(const Options& options) {
    OptionsWriter writer;
    Options::fields(options, writer);
    return writer.text();
}

}  // namespace rnnfast::core
