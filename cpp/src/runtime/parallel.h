// The only place that knows about threads. Work is split so that no result depends on how many there are.
#pragma once

#include <atomic>
#include <cstddef>

namespace rnnfast::core {

// Threads a parallel region may use: what set_num_threads said, else the smallest of the cores this process may use
// (its affinity and its container's CPU quota count), RNNFAST_NUM_THREADS and OMP_NUM_THREADS. Throws
// std::invalid_argument if RNNFAST_NUM_THREADS is not an integer from 1 to 4096. Never changes OpenMP's own setting,
// which other libraries share.
int num_threads();
void set_num_threads(int threads);

// OpenMP's version date, 0 without it.
int openmp_version();

struct Range {
    size_t begin, end;
    size_t size() const { return end - begin; }
};

// Part `index` of `count` things in `parts` nearly equal runs, cut at multiples of `grain`.
Range split(size_t count, size_t parts, size_t index, size_t grain = 1);

// All threads of a team meet. Spins, since the wait is shorter than a sleep would be; yields when it is not.
class Barrier {
public:
    void wait(int members);

private:
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<unsigned> round_{0};
};

struct Team {
    size_t index;
    size_t size;
    Barrier* barrier;
    void wait() const {
        if (size > 1) barrier->wait(static_cast<int>(size));
    }
};

void run_team(size_t threads, void (*body)(const void*, const Team&), const void* object);

// Runs body on up to `threads` threads. body must not throw: allocate before. In a forked child it runs on one thread,
// since OpenMP's threads do not survive fork.
template <class Body>
void parallel(size_t threads, const Body& body) {  // no std::function, which would allocate at every call
    run_team(threads, [](const void* object, const Team& team) { (*static_cast<const Body*>(object))(team); }, &body);
}

// Threads worth starting for this much arithmetic.
size_t threads_for(double flops);

}  // namespace rnnfast::core
