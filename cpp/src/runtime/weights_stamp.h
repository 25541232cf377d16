// Which weights: a number that no other weights have had, of this layer or of another. A forward notes it and its
// backward compares, since gradients of other weights than the output came from are those of no function.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>

namespace rnnfast::core {

class WeightsStamp {
public:
    uint64_t now() const { return value_.load(std::memory_order_acquire); }
    void renew() { value_.store(next(), std::memory_order_release); }
    // forward: what now() was then
    void check(uint64_t forward) const {
        if (forward != now())
            throw std::invalid_argument(
                "the weights changed between forward and backward (optimizer.step or load_state_dict): call forward "
                "again");
    }

private:
    static uint64_t next() {
        static std::atomic<uint64_t> last{0};
        return ++last;
    }
    std::atomic<uint64_t> value_{next()};
};

}  // namespace rnnfast::core
