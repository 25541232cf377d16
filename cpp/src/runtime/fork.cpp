#include "runtime/fork.h"

#include <stdexcept>
#include <string>

#include "runtime/system.h"

namespace rnnfast::core {

namespace {

std::atomic<unsigned> forks{0};

// Runs when the library is loaded, so that it sees every fork.
[[maybe_unused]] const bool hooked = (at_fork_in_child([] { forks.fetch_add(1); }), true);

}  // namespace

unsigned fork_count() { return forks.load(std::memory_order_relaxed); }

void ForkSafeMutex::renew() {
    const unsigned ready = 2 * fork_count(), renewing = ready + 1;
    for (unsigned seen = generation_.load(); seen != ready; seen = generation_.load()) {
        if (seen == renewing) {
            yield();
            continue;
        }
        if (!generation_.compare_exchange_strong(seen, renewing)) continue;
        mutex_.make();
        if (held_.load()) abandoned_.store(true);
        held_.store(false);
        generation_.store(ready);
    }
}

SoleUse::SoleUse(ForkSafeMutex& mutex, const char* what, const char* remedy, bool writes_all)
    : lock_(mutex, std::try_to_lock) {
    if (!lock_) throw std::runtime_error(std::string(what) + " is in use by another thread: give each thread its own");
    if (writes_all) mutex.settled();
    if (mutex.abandoned())
        throw std::runtime_error(
            std::string(what) +
            " was in use by another thread when this process was forked, so it is incomplete: " + remedy);
}

GradientLock::GradientLock(ForkSafeMutex& mutex) : lock_(mutex) {
    if (mutex.abandoned())
        throw std::runtime_error(
            "this process was forked while another thread was adding to these gradients, so they are incomplete: call "
            "zero_grad() before backward()");
}

}  // namespace rnnfast::core
