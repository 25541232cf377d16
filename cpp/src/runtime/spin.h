// How a thread waits for another one for a moment.
#pragma once

#include "runtime/threads.h"

namespace rnnfast::core {

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Spins, because the wait is usually shorter than a sleep; yields if it is longer: there may be more threads than
// cores.
class Spin {
public:
    void wait() {
        if (spins_ < 4096) {
            ++spins_;
            pause();
        } else {
            yield();
        }
    }

private:
    int spins_ = 0;
};

}  // namespace rnnfast::core
