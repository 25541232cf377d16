// What Python's recurrent layers hold, and the memory their calls borrow.
#pragma once

#include "core/dispatch.h"
#include "core/recurrent.h"

namespace rnnfast::bindings {

// Working memory for calls that save nothing: as many tapes as there are calls at once, reused.
class TapePool {
public:
    // A tape for the length of one call.
    class Loan {
    public:
        explicit Loan(TapePool& pool) : pool_(pool), tape_(pool.take()) {}
        Loan(const Loan&) = delete;
        Loan& operator=(const Loan&) = delete;
        ~Loan() { pool_.put(std::move(tape_)); }
        RecurrentTape& tape() { return *tape_; }

    private:
        TapePool& pool_;
        std::unique_ptr<RecurrentTape> tape_;
    };

private:
    std::unique_ptr<RecurrentTape> take() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!idle_.empty()) {
                auto tape = std::move(idle_.back());
                idle_.pop_back();
                return tape;
            }
            idle_.reserve(++lent_);  // so that giving back never allocates
        }
        return std::make_unique<RecurrentTape>();
    }
    void put(std::unique_ptr<RecurrentTape> tape) {
        const std::lock_guard<std::mutex> lock(mutex_);
        idle_.push_back(std::move(tape));
    }

    std::mutex mutex_;
    std::vector<std::unique_ptr<RecurrentTape>> idle_;
    size_t lent_ = 0;  // tapes made
};

struct Layer {
    explicit Layer(RecurrentOptions options, uint64_t seed) : rnn(std::move(options), seed, active()) {}
    const Kernels& kernels() const { return rnn.kernels(); }
    Recurrent rnn;
    TapePool inference;
    std::mutex one_backward_at_a_time;  // they add to the same gradients

    // A tape that backward has used up serves the next forward: new memory would cost a page fault every 4 KB.
    std::unique_ptr<RecurrentTape> training_tape() {
        const std::lock_guard<std::mutex> lock(used_tape_mutex_);
        return used_tape_ ? std::move(used_tape_) : std::make_unique<RecurrentTape>();
    }
    void take_back(RecurrentTape&& tape) {
        auto used = std::make_unique<RecurrentTape>(std::move(tape));
        const std::lock_guard<std::mutex> lock(used_tape_mutex_);
        used_tape_ = std::move(used);
    }

private:
    std::mutex used_tape_mutex_;
    std::unique_ptr<RecurrentTape> used_tape_;
};

}  // namespace rnnfast::bindings
