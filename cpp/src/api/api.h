// What the public classes of rnnfast::v1 hold: classes of rnnfast::core, behind one pointer each.
#pragma once

#include "models/sampler.h"
#include "models/token_network.h"
#include "rnnfast/layers.hpp"
#include "runtime/dispatch.h"
#include "runtime/parallel.h"

namespace rnnfast {
inline namespace v1 {

using namespace core;  // hidden by public names that are the same

struct Vocabulary::Impl {
    TokenTable tokens;
};

struct State::Impl {
    StreamState stream;
    StreamMemory memory;                 // not part of what is copied or saved
    StepSizes one_step;                  // of that memory, for a step of this stream alone
    std::vector<StreamState*> together;  // of a call over several states
    bool taken = false;                  // by the call that looks for states that are there twice
};

// What a handle holds. `how` tells how to make one that is not empty.
template <class Impl>
const Impl& held(const std::shared_ptr<const Impl>& impl, const char* what, const char* how) {
    if (!impl)
        throw std::invalid_argument(std::string("this ") + what + " is empty: it was default-constructed or moved " +
                                    "from; " + how);
    return *impl;
}

// A cast can make any number of it.
Weights checked(Weights weights);
void check_pointer(const void* p, const char* what);
std::string_view checked_bytes(const void* bytes, size_t size);

std::unique_ptr<State::Impl> new_state(const StreamStack& stack, const StepSizes& one_step);
void check_fits(const StreamState& state, const StreamStack& stack);
// Streams of a call over several states, in the memory of the first.
StreamState* const* gather(State* const* states, size_t count, const StreamStack& stack);

}  // namespace v1
}  // namespace rnnfast
