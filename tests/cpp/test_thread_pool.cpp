// Teams of the library's own threads, which builds without OpenMP use.
#include "runtime/thread_pool.h"

#include <array>
#include <atomic>
#include <string>
#include <thread>

#include "helpers.h"
#include "runtime/parallel.h"
#include "runtime/spin.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#endif

using namespace rnnfast;

namespace {

struct Seen {
    std::array<std::atomic<int>, 16> calls{};
    std::atomic<size_t> here{0}, size{0};
};

// Every member waits for all others, so it returns only if they run at the same time.
void meet(void* job, size_t index, size_t threads) {
    auto& seen = *static_cast<Seen*>(job);
    ++seen.calls[index];
    seen.size = threads;
    ++seen.here;
    for (Spin spin; seen.here < threads;) spin.wait();
}

// The size of a team that was asked to have `threads` members, after a check that each was called once.
size_t team_of(ThreadPool& pool, size_t threads) {
    Seen seen;
    pool.run(threads, meet, &seen);
    for (size_t i = 0; i < seen.calls.size(); ++i) CHECK(seen.calls[i] == (i < seen.size ? 1 : 0));
    return seen.size;
}

}  // namespace

TEST_CASE("a team has the threads asked for, each runs once, all at the same time") {
    ThreadPool pool;
    for (const size_t threads : {1, 2, 5, 3, 1, 16, 2}) CHECK(team_of(pool, threads) == threads);
    for (int i = 0; i < 2000; ++i) CHECK(team_of(pool, 3) == 3);
}

TEST_CASE("workers that sleep wake for the next job") {
    ThreadPool pool;
    for (int i = 0; i < 3; ++i) {
        CHECK(team_of(pool, 4) == 4);
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
    }
}

TEST_CASE("callers at the same time share the workers, and a job may start a job") {
    ThreadPool pool;
    std::vector<std::thread> callers;
    for (int c = 0; c < 6; ++c)
        callers.emplace_back([&] {
            for (int i = 0; i < 300; ++i) {
                Seen seen;
                pool.run(3, meet, &seen);
                CHECK((seen.size >= 1 && seen.size <= 3));
            }
        });
    for (std::thread& caller : callers) caller.join();
    CHECK(team_of(pool, 3) == 3);

    std::atomic<int> inner{0};
    struct Both {
        ThreadPool& pool;
        std::atomic<int>& inner;
    } both{pool, inner};
    const auto nested = [](void* job, size_t, size_t) {
        auto& b = *static_cast<Both*>(job);
        b.pool.run(3, [](void* count, size_t, size_t) { ++*static_cast<std::atomic<int>*>(count); }, &b.inner);
    };
    pool.run(3, nested, &both);
    CHECK(inner >= 3);
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RNNFAST_THREAD_SANITIZER  // which lets no forked child start threads
#endif
#elif defined(__SANITIZE_THREAD__)
#define RNNFAST_THREAD_SANITIZER
#endif

#if defined(__unix__) || defined(__APPLE__)
#ifndef RNNFAST_THREAD_SANITIZER
TEST_CASE("a forked child starts threads of its own") {
    ThreadPool pool;
    CHECK(team_of(pool, 3) == 3);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(120);
        _exit(team_of(pool, 3) == 3 ? 0 : 1);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
    CHECK(team_of(pool, 3) == 3);
}

#endif

TEST_CASE("workers leave signals to the program's own threads") {
    ThreadPool pool;
    std::array<std::atomic<bool>, 2> blocked{};
    const auto look = [](void* job, size_t index, size_t) {
        sigset_t set;
        pthread_sigmask(SIG_SETMASK, nullptr, &set);
        (*static_cast<std::array<std::atomic<bool>, 2>*>(job))[index] = sigismember(&set, SIGINT) == 1;
    };
    pool.run(2, look, &blocked);
    CHECK(!blocked[0]);
    CHECK(blocked[1]);
}
#endif

namespace {

// A runtime with two threads, whatever is asked for.
thread_local int number = 0;
void run_twice(void (*body)(void*), void* object, unsigned, unsigned) {
    std::thread other([&] {
        number = 1;
        body(object);
    });
    body(object);
    other.join();
}
void* function_of_two(const char* name) {
    const std::string wanted = name;
    if (wanted == "GOMP_parallel") return reinterpret_cast<void*>(run_twice);
    int (*const get)() = wanted == "omp_get_thread_num" ? [] { return number; } : [] { return 2; };
    return reinterpret_cast<void*>(get);
}

}  // namespace

TEST_CASE("a team runs on the OpenMP runtime of the process as soon as it has one") {
    static int asked;
    asked = 0;
    std::array<std::atomic<size_t>, 3> sizes{};
    const auto note = [](void* job, size_t index, size_t size) {
        (*static_cast<std::array<std::atomic<size_t>, 3>*>(job))[index] = size;
    };
    set_openmp_of_process([](const char* name) { return ++asked == 1 ? nullptr : function_of_two(name); });
    CHECK_FALSE(run_on_openmp_of_process(3, note, &sizes));
    CHECK(sizes[0] == 0);
    for (int i = 0; i < 3; ++i) CHECK(run_on_openmp_of_process(3, note, &sizes));
    CHECK((sizes[0] == 2 && sizes[1] == 2 && sizes[2] == 0));
    CHECK(asked == 4);  // once in vain, then once for each of three functions
    std::array<std::atomic<int>, 2> calls{};
    parallel(2, [&](const Team& team) {
        ++calls[team.index];
        team.wait();
    });
    CHECK((calls[0] == 1 && calls[1] == 1));
    set_openmp_of_process(nullptr);
    CHECK_FALSE(run_on_openmp_of_process(2, note, &sizes));
}
