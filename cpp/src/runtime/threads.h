// The standard library's threads, or what stands in for them where it has none: WebAssembly without threads.
#pragma once

#include <mutex>
#include <thread>
#include <utility>

#if defined(_LIBCPP_HAS_THREADS)
#define RNNFAST_HAS_THREADS _LIBCPP_HAS_THREADS
#elif defined(_LIBCPP_HAS_NO_THREADS)
#define RNNFAST_HAS_THREADS 0
#else
#define RNNFAST_HAS_THREADS 1
#endif

namespace rnnfast::core {

#if RNNFAST_HAS_THREADS
using Mutex = std::mutex;

inline void yield() { std::this_thread::yield(); }
inline unsigned hardware_threads() { return std::thread::hardware_concurrency(); }
#else
class Mutex {
public:
    void lock() { held_ = true; }
    bool try_lock() { return !std::exchange(held_, true); }
    void unlock() { held_ = false; }

private:
    bool held_ = false;
};

inline void yield() {}
inline unsigned hardware_threads() { return 1; }
#endif

}  // namespace rnnfast::core
