// What Python's recurrent layers hold.
#pragma once

#include "layers/recurrent.h"
#include "runtime/dispatch.h"
#include "runtime/fork.h"

namespace rnnfast::bindings {

using namespace core;

struct Layer {
    explicit Layer(RecurrentOptions options, uint64_t seed) : rnn(std::move(options), seed, active()) {}
    const Kernels& kernels() const { return rnn.kernels(); }
    Parameters parameters() {
        Parameters all;
        for (Parameter& p : rnn.parameters) all.push_back(&p);
        return all;
    }
    void weights_changed() { rnn.weights_changed(); }
    Recurrent rnn;
    ForkSafeMutex& gradients_mutex() { return gradients_mutex_; }
    Pool<RecurrentTape> inference;

    // A tape that backward has used up serves the next forward: new memory would cost a page fault every 4 KB.
    std::unique_ptr<RecurrentTape> training_tape() {
        const ForkLock lock(used_tape_mutex_, [&] { replace_abandoned(used_tape_); });
        return used_tape_ ? std::move(used_tape_) : std::make_unique<RecurrentTape>();
    }
    void take_back(RecurrentTape&& tape) {
        auto used = std::make_unique<RecurrentTape>(std::move(tape));
        const ForkLock lock(used_tape_mutex_, [&] { replace_abandoned(used_tape_); });
        used_tape_ = std::move(used);
    }

private:
    ForkSafeMutex gradients_mutex_, used_tape_mutex_;
    std::unique_ptr<RecurrentTape> used_tape_;
};

}  // namespace rnnfast::bindings
