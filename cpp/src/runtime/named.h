// Enums whose values have names, which JSON, Python and the command line share.
#pragma once

#include <initializer_list>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>

#include "rnnfast/weights.hpp"
#include "runtime/sentence.h"

namespace rnnfast::core {

// Specialize for each enum: `names` in the order of its values.
template <class Enum>
struct Named;

template <>
struct Named<Weights> {
    static constexpr std::string_view names[] = {"f32", "bf16", "int8"};
};

template <class Enum>
std::string name_of(Enum value) {
    return std::string(Named<Enum>::names[static_cast<size_t>(value)]);
}

// The value with this name. Throws std::invalid_argument that lists the names; `option` starts the sentence.
template <class Enum>
Enum named(const char* option, std::string_view name) {
    std::string all;
    for (size_t i = 0; i < std::size(Named<Enum>::names); ++i) {
        if (Named<Enum>::names[i] == name) return static_cast<Enum>(i);
        all += (i ? ", '" : "'") + std::string(Named<Enum>::names[i]) + "'";
    }
    refuse({option, " is '", name, "': expected one of ", all});
}

// Some values of an enum.
template <class Enum>
class SetOf {
public:
    SetOf() = default;
    SetOf(std::initializer_list<Enum> values) {
        for (const Enum value : values) add(value);
    }
    void add(Enum value) { bits_ |= bit(value); }
    bool has(Enum value) const { return bits_ & bit(value); }
    bool operator==(const SetOf& other) const { return bits_ == other.bits_; }

private:
    static unsigned bit(Enum value) { return 1u << static_cast<unsigned>(value); }
    unsigned bits_ = 0;
};

}  // namespace rnnfast::core
