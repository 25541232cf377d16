// The library's own names beside the public ones of rnnfast::v1: both have a Recurrent and a Sampler, so the inner ones
// get a second name before the public header is read.
#pragma once

#include "core/dispatch.h"
#include "core/parallel.h"
#include "models/sampler.h"
#include "models/token_network.h"

namespace rnnfast::internal {
using TokenSampler = rnnfast::Sampler;
using TokenSamplerOptions = rnnfast::SamplerOptions;
inline void set_threads(int threads) { set_num_threads(threads); }
inline int threads() { return num_threads(); }
}  // namespace rnnfast::internal

#include "rnnfast/layers.hpp"

namespace rnnfast {
inline namespace v1 {

struct Vocabulary::Impl {
    TokenTable tokens;
};

struct State::Impl {
    StreamState stream;
    StreamMemory memory;                 // not part of what is copied or saved
    std::vector<StreamState*> together;  // of a call over several states
};

}  // namespace v1
}  // namespace rnnfast
