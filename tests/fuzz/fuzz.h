// What the fuzzers share: an input is used, or refused by an exception with a sentence.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "rnnfast/error.hpp"

namespace fuzz {

inline void expect(bool holds) {
    if (!holds) std::abort();
}

template <class Body>
void use_or_refuse(const Body& body) {
    try {
        body();
    } catch (const rnnfast::Error& error) {
        expect(std::string_view(error.what()).size() >= 8);
    } catch (const std::invalid_argument& error) {
        expect(std::string_view(error.what()).size() >= 8);
    } catch (const std::domain_error&) {  // weights so large that their sums are infinite
    }
}

}  // namespace fuzz
