// Packed weights: made from Parameters when training, or straight from a file's tensors when running.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "runtime/fork.h"

namespace rnnfast::core {

// A T made from the weights at its first use, and again after they have changed. Fork-safe.
template <class T>
class Packed {
public:
    // empty() returns a T that nothing has been packed into.
    explicit Packed(std::function<T()> empty = [] { return T(); }) : shared_(std::make_unique<Shared>(empty)) {}

    // Calls fill(T&) if the weights have changed since the last call; other threads wait for it. Otherwise takes no
    // lock.
    template <class Fill>
    const T& get(const Fill& fill) const {
        Shared& s = *shared_;
        if (!s.ready.load(std::memory_order_acquire)) {
            const ForkLock lock(s.mutex, [&] { s.renew(); });
            if (!s.ready.load(std::memory_order_relaxed)) fill(s.value);
            s.ready.store(true, std::memory_order_release);
        }
        return s.value;
    }
    // The result of the last get().
    const T& value() const { return shared_->value; }

    void weights_changed() {
        const ForkLock lock(shared_->mutex, [&] { shared_->renew(); });
        shared_->ready.store(false, std::memory_order_release);
    }

private:
    struct Shared {
        explicit Shared(std::function<T()>& empty_) : empty(std::move(empty_)), value(empty()) {}
        void renew() {
            ready.store(false, std::memory_order_release);
            replace_abandoned(value, empty());
        }

        std::function<T()> empty;
        ForkSafeMutex mutex;
        std::atomic<bool> ready{false};
        T value;
    };
    std::unique_ptr<Shared> shared_;  // so that a layer can be moved
};

}  // namespace rnnfast::core
