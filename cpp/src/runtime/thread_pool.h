// Teams of standard threads, for builds without OpenMP: a second OpenMP runtime in a process would fight with the first
// for the cores.
#pragma once

#include <memory>
#include <vector>

#include "runtime/fork.h"

namespace rnnfast::core {

// Workers wait for the next job: they spin for a moment, since regions follow one another closely, then sleep. Callers
// that run at the same time share the workers, so the process never has more than the largest team asked for, less its
// caller. In a forked child the pool starts anew.
class ThreadPool {
public:
    using Run = void (*)(void* job, size_t index, size_t threads);

    ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;
    ~ThreadPool();

    // Calls run(job, index, size) for every index below `size` at the same time, index 0 on this thread, and returns
    // when all have ended. `size` is at most `threads`, and smaller while other callers use the workers or if the
    // system starts no more threads. run must not throw.
    void run(size_t threads, Run run, void* job);

private:
    struct Job;
    struct Worker;

    struct Workers {  // a list: a region allocates nothing
        Worker* first = nullptr;
        size_t count = 0;
    };

    Workers take(size_t count);
    bool start_worker();
    static void work(Worker& self);

    ForkSafeMutex mutex_;  // of what follows
    std::vector<std::unique_ptr<Worker>> workers_;
    Workers idle_;
    unsigned forks_ = fork_count();  // when the workers were started
};

// The pool of this process.
ThreadPool& thread_pool();

}  // namespace rnnfast::core
