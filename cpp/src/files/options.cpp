#include "files/options.h"
#include "runtime/sentence.h"

#include <stdexcept>

namespace rnnfast::core {

namespace {

constexpr size_t largest_size = 0x7fffffff;

[[noreturn]] void refuse_option(Option option, const std::string& expected) {
    refuse({option.name, " must be ", expected});
}

bool is_number(const Json* found) {
    return found && (found->kind == Json::Kind::integer || found->kind == Json::Kind::number);
}

}  // namespace

const Json* OptionsReader::find(Option option, Json::Kind kind, const char* expected) const {
    const Json* value = config_.find(option.name);
    if (value ? value->kind != kind : option.kind == Option::required) refuse_option(option, expected);
    return value;
}

void OptionsReader::operator()(Option option, std::string& value) const {
    if (const Json* found = find(option, Json::Kind::string, "a name")) value = found->string;
}

void OptionsReader::operator()(Option option, bool& value) const {
    if (value && option.kind == Option::later)
        throw std::logic_error(std::string(option.name) + ": a later option is false by default");
    if (const Json* found = find(option, Json::Kind::boolean, "true or false")) value = found->boolean;
}

size_t OptionsReader::size_of(Option option, const Json& found, Size rule) {
    if (found.kind != Json::Kind::integer || found.integer < rule.least || found.integer > largest_size)
        refuse_option(option, "an integer from " + std::to_string(rule.least) + " to " + std::to_string(largest_size));
    return static_cast<size_t>(found.integer);
}

void OptionsReader::operator()(Option option, size_t& value, Size rule) const {
    const Json* found = config_.find(option.name);
    if (found || option.kind == Option::required) value = size_of(option, found ? *found : Json(), rule);
}

void OptionsReader::operator()(Option option, std::vector<size_t>& value, Size rule) const {
    const Json* found = find(option, Json::Kind::array, "a short list of integers");
    for (size_t i = 0; found && i < found->items.size(); ++i) value.push_back(size_of(option, found->items[i], rule));
}

void OptionsReader::operator()(Option option, uint64_t& value, Seed) const {
    if (const Json* found = find(option, Json::Kind::integer, "an integer from 0 to 2^64 - 1")) value = found->integer;
}

void OptionsReader::operator()(Option option, double& value, Share rule) const {
    const Json* found = config_.find(option.name);
    if (!found && option.kind != Option::required) return;
    if (!is_number(found) || !(found->number >= 0 && (rule.may_be_one ? found->number <= 1 : found->number < 1)))
        refuse_option(option, std::string("a number from 0 to ") + (rule.may_be_one ? "1" : "below 1"));
    value = found->number;
}

void OptionsReader::operator()(Option option, double& value, Number rule) const {
    const Json* found = config_.find(option.name);
    if (!found && option.kind != Option::required) return;
    if (!is_number(found) || !(found->number >= rule.least && found->number <= rule.most))
        refuse_option(option, "a number from " + json_number(rule.least) + " to " + json_number(rule.most));
    value = found->number;
}

std::vector<std::string> OptionsReader::list(Option option) const {
    const Json* found = config_.find(option.name);
    const bool empty = found && found->kind == Json::Kind::array && found->items.empty();
    std::vector<std::string> names;
    if (!empty && !find(option, Json::Kind::strings, "a list of names")) return names;
    for (size_t i = 0; !empty && i < found->ends.size(); ++i) names.emplace_back(found->item(i));
    return names;
}

void check_known(const Json& config, const std::vector<std::string_view>& names) {
    for (const auto& [key, value] : config.members)
        if (std::find(names.begin(), names.end(), key) == names.end())
            refuse({"the option ", json_quoted(key), " is not known here; update rnnfast"});
}

}  // namespace rnnfast::core
