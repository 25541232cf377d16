// Teams of threads: OpenMP's, or without it those of thread_pool.h. Work is split so that no result depends on their
// number.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>

namespace rnnfast::core {

// The number of threads of a parallel region: the value of set_num_threads, else the smallest of the allowed cores
// (by affinity and the container's CPU quota), RNNFAST_NUM_THREADS and OMP_NUM_THREADS. Throws std::invalid_argument if
// RNNFAST_NUM_THREADS is not an integer from 1 to 4096. Never changes OpenMP's own setting, which other libraries
// share.
int num_threads();
void set_num_threads(int threads);

// While it lives, num_threads() is this number on the thread that made it: for a caller with a thread count of its own.
class ThreadsForCall {
public:
    explicit ThreadsForCall(int threads);  // at least 1
    ~ThreadsForCall();
    ThreadsForCall(const ThreadsForCall&) = delete;
    ThreadsForCall& operator=(const ThreadsForCall&) = delete;

private:
    int before_;
};

// OpenMP's version date, 0 without it.
int openmp_version();
// The file of the OpenMP runtime that parallel regions run on, empty without one or where the system cannot tell.
std::string openmp_library();

struct Range {
    size_t begin, end;
    size_t size() const { return end - begin; }
};

// Part `index` of `count` things in `parts` nearly equal runs, cut at multiples of `grain`.
Range split(size_t count, size_t parts, size_t index, size_t grain = 1);

// Waits for all threads of a team.
class Barrier {
public:
    void wait(int members);

private:
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<unsigned> round_{0};
};

// How far a thread has come, for threads that follow it.
class Progress {
public:
    void reach(size_t place) { place_.store(place, std::memory_order_release); }
    void await(size_t place) const;

private:
    alignas(64) std::atomic<size_t> place_{0};
};

struct Team {
    size_t index;
    size_t size;
    Barrier* barrier;
    void wait() const {
        if (size > 1) barrier->wait(static_cast<int>(size));
    }
};

// The program's own threads, in place of the library's; without a function, the library's again. `execute` calls
// run(job, index, size) at the same time for every index below a size from 1 to `threads`.
struct TeamSource {
    void (*execute)(void* user, size_t threads, void (*run)(void* job, size_t index, size_t size), void* job) = nullptr;
    void* user = nullptr;
};
void set_team_source(const TeamSource& source);

// A function of the OpenMP runtime that another library has brought into the process, by its name; null without one.
using FunctionOfOpenMP = void* (*)(const char* name);
// From now on a build without OpenMP runs its teams on that runtime, as soon as there is one: after each of its regions
// the runtime's idle threads spin for milliseconds, and the library's own would wait for the cores meanwhile.
void set_openmp_of_process(FunctionOfOpenMP find);
// Calls run as TeamSource does. False, without a call, if there is no such runtime, or in the child of a fork, in which
// the runtime's threads may be gone.
bool run_on_openmp_of_process(size_t threads, void (*run)(void* job, size_t index, size_t size), void* job);

// Throws std::logic_error if a team source has not run every part.
void run_team(size_t threads, void (*body)(const void*, const Team&), const void* object);

// Runs body on up to `threads` threads. body must not throw, so allocate before the call. In a forked child of a build
// with OpenMP, body runs on one thread, because OpenMP's threads do not survive fork.
template <class Body>
void parallel(size_t threads, const Body& body) {  // no std::function, which would allocate at every call
    run_team(threads, [](const void* object, const Team& team) { (*static_cast<const Body*>(object))(team); }, &body);
}

// For callers that limit the threads of a call; 1: no lock, no system call.
constexpr size_t all_threads = static_cast<size_t>(-1);

// The number of threads that pay off for this amount of arithmetic.
size_t threads_for(double flops);

}  // namespace rnnfast::core
