// What Python's layers hold.
#pragma once

#include "layers/recurrent.h"
#include "runtime/dispatch.h"
#include "runtime/fork.h"

namespace rnnfast::bindings {

using namespace core;

// A tape that backward has used up serves the next forward: new memory would cost a page fault every 4 KB.
template <class Tape>
class UsedTape {
public:
    std::unique_ptr<Tape> take() {
        const ForkLock lock(mutex_, [&] { replace_abandoned(tape_); });
        return tape_ ? std::move(tape_) : std::make_unique<Tape>();
    }
    void put(Tape&& tape) {
        auto used = std::make_unique<Tape>(std::move(tape));
        const ForkLock lock(mutex_, [&] { replace_abandoned(tape_); });
        tape_ = std::move(used);
    }

private:
    ForkSafeMutex mutex_;
    std::unique_ptr<Tape> tape_;
};

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
    UsedTape<RecurrentTape> used_tape;

private:
    ForkSafeMutex gradients_mutex_;
};

}  // namespace rnnfast::bindings
