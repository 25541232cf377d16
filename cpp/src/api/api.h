// The implementations of the public classes of rnnfast::v1: classes of rnnfast::core, each behind one pointer.
#pragma once

#include "files/vocabulary.h"
#include "models/network.h"
#include "models/sampler.h"
#include "rnnfast/layers.hpp"
#include "runtime/dispatch.h"
#include "runtime/parallel.h"
#include "runtime/sentence.h"

namespace rnnfast {
inline namespace v1 {

using namespace core;  // hidden by public names that are the same

struct Vocabulary::Impl {
    TokenTable tokens;
};

struct State::Impl {
    StreamState stream;
    NetworkWorkspace workspace;                               // neither copied nor saved
    std::shared_ptr<const NetworkWorkspace::Sizes> one_step;  // its sizes for a step of this stream alone
    std::vector<StreamState*> together;                       // the streams of a call over several states
    bool taken = false;                                       // set by the call that looks for repeated states
};

[[noreturn]] void refuse_empty(const char* what, const char* how);
// The implementation of a handle. `how` describes how to create one that is not empty.
template <class Impl>
const Impl& held(const std::shared_ptr<const Impl>& impl, const char* what, const char* how) {
    if (!impl) refuse_empty(what, how);
    return *impl;
}

// Checked, because a cast can give it any value.
Weights checked(Weights weights);
void check_pointer(const void* p, const char* what);
std::string_view checked_bytes(const void* bytes, size_t size);

using OneStep = std::shared_ptr<const NetworkWorkspace::Sizes>;
std::unique_ptr<State::Impl> new_state(const StreamShape& shape, const OneStep& one_step);
void check_fits(const StreamState& state, const StreamShape& shape);
// The streams of a call over several states, in the workspace of the first.
StreamState* const* gather(State* const* states, size_t count, const StreamShape& shape);

}  // namespace v1
}  // namespace rnnfast
