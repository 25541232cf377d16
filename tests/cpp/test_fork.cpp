// Locks in the child of a fork: see runtime/fork.h.
#include <doctest/doctest.h>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "helpers.h"
#include "layers/packed.h"
#include "runtime/buffer.h"
#include "runtime/fork.h"

using namespace rnnfast;

namespace {

// Runs body while another thread holds the mutex.
template <class Body>
void while_held(ForkSafeMutex& mutex, const Body& body) {
    std::atomic<bool> held{false}, done{false};
    std::thread other([&] {
        const std::lock_guard<ForkSafeMutex> lock(mutex);
        held = true;
        while (!done) std::this_thread::yield();
    });
    while (!held) std::this_thread::yield();
    body();
    done = true;
    other.join();
}

// Whether check() is true in a forked child; a child that hangs is ended by its alarm.
template <class Check>
bool in_child(const Check& check) {
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(120);
        bool good = false;
        try {
            good = check();
        } catch (...) {
        }
        _exit(good ? 0 : 1);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("a mutex that another thread held is free in a forked child, and in the child's child [M3]") {
    ForkSafeMutex mutex;
    while_held(mutex, [&] {
        CHECK(in_child([&] {
            if (!in_child([&] {
                    const std::lock_guard<ForkSafeMutex> lock(mutex);
                    return mutex.abandoned() && fork_count() == 2;
                }))
                return false;
            const std::lock_guard<ForkSafeMutex> lock(mutex);
            const bool abandoned = mutex.abandoned();
            mutex.settled();
            return abandoned && !mutex.abandoned() && fork_count() == 1;
        }));
        CHECK(!mutex.try_lock());
    });
    const std::lock_guard<ForkSafeMutex> lock(mutex);
    CHECK(!mutex.abandoned());
}

TEST_CASE("a mutex that nobody held is not abandoned in a forked child [M3]") {
    ForkSafeMutex mutex;
    CHECK(in_child([&] {
        const std::lock_guard<ForkSafeMutex> lock(mutex);
        return !mutex.abandoned();
    }));
}

TEST_CASE(
    "the gradients of a forked child are refused until they are zero, if another thread was adding to them [M3]") {
    ForkSafeMutex mutex;
    while_held(mutex, [&] {
        CHECK(in_child([&] {
            try {
                const GradientLock lock(mutex);
                return false;
            } catch (const std::runtime_error&) {
            }
            {
                const ForkLock zeroed(mutex, [] {});
            }
            const GradientLock lock(mutex);
            return true;
        }));
    });
}

TEST_CASE("a forked child rebuilds what is half-made [M3]") {
    Packed<std::vector<int>> prepared([] { return std::vector<int>{1}; });
    std::atomic<bool> inside{false}, done{false};
    std::thread other([&] {
        prepared.get([&](std::vector<int>& v) {
            v.push_back(2);
            inside = true;
            while (!done) std::this_thread::yield();
            v.push_back(3);
        });
    });
    while (!inside) std::this_thread::yield();
    CHECK(
        in_child([&] { return prepared.get([](std::vector<int>& v) { v.push_back(4); }) == std::vector<int>{1, 4}; }));
    done = true;
    other.join();
    CHECK(prepared.value() == std::vector<int>{1, 2, 3});
}

TEST_CASE("a pool lends a forked child memory, whether or not another thread has borrowed some [M3]") {
    Pool<Buffer> pool;
    {
        Pool<Buffer>::Loan lent(pool);
        CHECK(in_child([&] {
            Pool<Buffer>::Loan own(pool);
            own->reserve(10);
            return own->size() == 10;
        }));
    }
}
#endif
