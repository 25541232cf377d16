// What the states of models and networks share: their numbers as bytes, and several states in one call.
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "api/api.h"
#include "runtime/finite.h"
#include "runtime/sentence.h"

namespace rnnfast {
inline namespace v1 {

// for_each_row(body) calls body(floats of a row, their number) for every row of a state, in order.
template <class ForEachRow>
void save_rows(ForEachRow for_each_row, uint8_t* at) {
    for_each_row([&](const float* row, size_t size) {
        std::memcpy(at, row, size * sizeof(float));
        at += size * sizeof(float);
    });
}

template <class ForEachRow>
void check_can_be_saved(ForEachRow for_each_row) {
    for_each_row([](const float* row, size_t size) {
        if (first_not_finite(row, size) != size)
            throw std::domain_error(
                "the state has NaN or infinity and cannot be saved: weights or inputs are too large; reset() it");
    });
}

// bytes: those of all rows, checked before any is copied.
template <class ForEachRow>
void restore_rows(ForEachRow for_each_row, const uint8_t* at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += sizeof(float)) {
        uint32_t number;
        std::memcpy(&number, at + i, sizeof number);
        if ((number & 0x7f800000u) == 0x7f800000u) refuse({"the saved state has NaN or infinity; it is damaged"});
    }
    for_each_row([&](float* row, size_t size) {
        std::memcpy(row, at, size * sizeof(float));
        at += size * sizeof(float);
    });
}

// Calls check(implementation) for each state of a call; refuses one that is null.
template <class State, class Check>
void check_states(State* const* states, size_t count, Check check) {
    if (!states || count == 0) refuse({"no states: expected at least one"});
    for (size_t i = 0; i < count; ++i) {
        if (!states[i]) refuse({"states[", i, "] is null"});
        check(states[i]->impl());
    }
}

// Calls place(index, implementation) for each state, and refuses one that is given twice: two rows of one state would
// overwrite each other's result. place must not throw.
template <class State, class Place>
void each_once(State* const* states, size_t count, Place place) {
    size_t once = 0;
    for (; once < count && !states[once]->impl().taken; ++once) {
        states[once]->impl().taken = true;
        place(once, states[once]->impl());
    }
    for (size_t i = 0; i < once; ++i) states[i]->impl().taken = false;
    if (once < count)
        refuse({"states[", once, "] is also states[",
                static_cast<size_t>(std::find(states, states + once, states[once]) - states),
                "]: a state can take one step in a call; copy it to continue it in two ways"});
}

}  // namespace v1
}  // namespace rnnfast
