// Identifies weights by a number that no other weights have had, in any layer. forward records it and backward compares
// it, because gradients are meaningless if the weights are not those of the output.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>

#include "runtime/sentence.h"

namespace rnnfast::core {

class WeightsStamp {
public:
    uint64_t now() const { return value_.load(std::memory_order_acquire); }
    void renew() { value_.store(next(), std::memory_order_release); }
    // forward: what now() was then
    void check(uint64_t forward) const {
        if (forward != now())
            refuse(
                {"the weights changed between forward and backward (optimizer.step or load_state_dict): call forward "
                 "again"});
    }

private:
    static uint64_t next() {
        static std::atomic<uint64_t> last{0};
        return ++last;
    }
    std::atomic<uint64_t> value_{next()};
};

}  // namespace rnnfast::core
