#include "runtime/thread_pool.h"

#include <algorithm>
#include <condition_variable>
#include <system_error>

#include "runtime/log.h"
#include "runtime/spin.h"
#include "runtime/system.h"
#include "runtime/threads.h"

#if RNNFAST_HAS_THREADS

namespace rnnfast::core {

namespace {

constexpr int spins_before_sleep =
    20'000;  // about 0.2 to 1 ms: longer than the gap between two regions of a training step

}  // namespace

struct ThreadPool::Job {
    Run run;
    void* job;
    size_t threads;
    std::atomic<size_t> running;  // workers that have not ended
};

struct alignas(64) ThreadPool::Worker {
    std::atomic<Job*> job{nullptr};
    size_t index = 0;        // of this worker in the job's team
    Worker* next = nullptr;  // in a list of workers
    std::atomic<bool> asleep{false}, stop{false};
    std::mutex mutex;  // of the sleep
    std::condition_variable woken;
    std::thread thread;

    void give(Job& next, size_t team_index) {
        index = team_index;
        job.store(&next);  // sequentially consistent, as `asleep` is: either the worker sees the job, or this the sleep
        wake();
    }
    void wake() {
        if (!asleep.load()) return;
        const std::lock_guard<std::mutex> lock(mutex);
        woken.notify_one();
    }
};

void ThreadPool::work(Worker& self) {
    const auto has_news = [&] { return self.job.load(std::memory_order_acquire) || self.stop.load(); };
    for (;;) {
        for (int spins = 0; spins < spins_before_sleep && !has_news(); ++spins) pause();
        if (!has_news()) {
            std::unique_lock<std::mutex> lock(self.mutex);
            self.asleep.store(true);
            self.woken.wait(lock, [&] { return self.job.load() || self.stop.load(); });
            self.asleep.store(false);
        }
        Job* job = self.job.load(std::memory_order_acquire);
        if (!job) return;  // stopped
        job->run(job->job, self.index, job->threads);
        self.job.store(nullptr, std::memory_order_relaxed);
        job->running.fetch_sub(1, std::memory_order_release);  // the job is gone after this
    }
}

bool ThreadPool::start_worker() {
    const SignalsBlocked blocked;
    workers_.push_back(std::make_unique<Worker>());
    Worker& self = *workers_.back();
    try {
        self.thread = std::thread([&self] { work(self); });
    } catch (const std::system_error&) {  // the system has no more threads: a smaller team gives the same bits
        workers_.pop_back();
        return false;
    }
    self.next = idle_.first;
    idle_ = {&self, idle_.count + 1};
    return true;
}

ThreadPool::Workers ThreadPool::take(size_t count) {
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    if (mutex_.abandoned() || forks_ != fork_count()) {  // a child has none of its parent's threads
        replace_abandoned(workers_);
        idle_ = {};
        forks_ = fork_count();
        mutex_.settled();
    }
    while (workers_.size() < count && start_worker()) continue;
    const Workers team{idle_.first, std::min(count, idle_.count)};
    for (size_t i = 0; i < team.count; ++i) idle_.first = idle_.first->next;
    idle_.count -= team.count;
    return team;
}

void ThreadPool::run(size_t threads, Run run, void* job) {
    const Workers team = take(threads - 1);
    if (static std::atomic<bool> reported{false}; team.count < threads - 1 && !reported.exchange(true))
        report(LogLevel::warning,
               {"a call uses ", team.count + 1, " threads of ", threads, ": the system starts no more"});
    Job shared{run, job, team.count + 1, {team.count}};
    Worker* last = nullptr;
    for (size_t i = 0; i < team.count; ++i) {
        last = last ? last->next : team.first;
        last->give(shared, i + 1);
    }
    run(job, 0, shared.threads);
    for (Spin spin; shared.running.load(std::memory_order_acquire);) spin.wait();
    if (!last) return;
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    last->next = idle_.first;
    idle_ = {team.first, idle_.count + team.count};
}

ThreadPool::ThreadPool() = default;

// At exit. Threads of the program may still run: the workers they use are left to them.
ThreadPool::~ThreadPool() {
    if (forks_ == fork_count()) {
        const std::lock_guard<ForkSafeMutex> lock(mutex_);
        for (; idle_.count; --idle_.count, idle_.first = idle_.first->next) {
            idle_.first->stop.store(true);
            idle_.first->wake();
            idle_.first->thread.join();
        }
    }
    for (auto& worker : workers_)
        if (worker->thread.joinable()) static_cast<void>(worker.release());
}

ThreadPool& thread_pool() {
    static ThreadPool pool;
    return pool;
}

}  // namespace rnnfast::core

#endif
