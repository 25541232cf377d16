// Locks that survive fork(). A forked child has one thread: a lock that another thread of the parent held is never
// released in the child, and the guarded memory may be half-written. Every lock of this library is one of these. The
// child takes the lock and then rebuilds the guarded memory or refuses, but never waits for ever.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/threads.h"

namespace rnnfast::core {

// Forks between the process that loaded this library and the current one.
unsigned fork_count();

// A mutex that is free in a forked child. Satisfies Lockable, for std::lock_guard and std::unique_lock.
class ForkSafeMutex {
public:
    void lock() {
        renew_after_fork();
        mutex_.get()->lock();
        held_.store(true, std::memory_order_release);
    }
    bool try_lock() {
        renew_after_fork();
        if (!mutex_.get()->try_lock()) return false;
        held_.store(true, std::memory_order_release);
        return true;
    }
    void unlock() {
        held_.store(false, std::memory_order_release);
        mutex_.get()->unlock();
    }

    // Call while holding it: true in a child that was forked while another thread held it, until settled() is called.
    // The guarded memory may then be half-written.
    bool abandoned() const { return abandoned_.load(); }
    void settled() { abandoned_.store(false); }

private:
    // Storage of the mutex, so that a new mutex can replace the old one, which must not be destroyed while it is
    // locked.
    class InPlace {
    public:
        InPlace() { make(); }
        ~InPlace() { get()->~Mutex(); }
        InPlace(const InPlace&) = delete;
        InPlace& operator=(const InPlace&) = delete;
        void make() { new (memory_) Mutex; }
        Mutex* get() { return std::launder(reinterpret_cast<Mutex*>(memory_)); }

    private:
        alignas(Mutex) unsigned char memory_[sizeof(Mutex)];
    };

    void renew_after_fork() {
        if (generation_.load(std::memory_order_acquire) != 2 * fork_count()) renew();
    }
    void renew();

    InPlace mutex_;
    std::atomic<unsigned> generation_{2 * fork_count()};  // odd: a thread of this process is creating the new mutex
    std::atomic<bool> held_{false}, abandoned_{false};
};

// Replaces an object that may be half-written. The old object is not destroyed, because its pointers may be invalid:
// the child of a fork leaks it once.
template <class T>
void replace_abandoned(T& old, T fresh = T()) {
    static_cast<void>(new T(std::move(old)));
    old = std::move(fresh);
}

// Holds a mutex whose guarded memory can be rebuilt: renew() runs first if the mutex was abandoned.
class ForkLock {
public:
    template <class Renew>
    ForkLock(ForkSafeMutex& mutex, const Renew& renew) : lock_(mutex) {
        if (!mutex.abandoned()) return;
        renew();
        mutex.settled();
    }

private:
    std::lock_guard<ForkSafeMutex> lock_;
};

// Holds the mutex of a layer's gradients; throws std::runtime_error in a child that was forked while another thread was
// adding to them, until zero_grad() settles it.
class GradientLock {
public:
    explicit GradientLock(ForkSafeMutex& mutex);

private:
    std::lock_guard<ForkSafeMutex> lock_;
};

// Holds an object that belongs to one thread at a time, for one call. Throws std::runtime_error that names `what` if
// another thread uses it, and one with the `remedy` in a child that was forked during such a use, where the object may
// be half-written.
class SoleUse {
public:
    // writes_all: the call replaces everything that may be half-written
    SoleUse(ForkSafeMutex& mutex, const char* what, const char* remedy, bool writes_all = false);

private:
    std::unique_lock<ForkSafeMutex> lock_;
};

// Workspaces for calls: one T per concurrent call, reused.
template <class T>
class Pool {
public:
    // A T for the length of one call.
    class Loan {
    public:
        explicit Loan(Pool& pool) : pool_(pool), item_(pool.take()) {}
        Loan(const Loan&) = delete;
        Loan& operator=(const Loan&) = delete;
        ~Loan() { pool_.put(std::move(item_)); }
        T& operator*() { return *item_; }
        T* operator->() { return item_.get(); }

    private:
        Pool& pool_;
        std::unique_ptr<T> item_;
    };

private:
    using Items = std::vector<std::unique_ptr<T>>;

    std::unique_ptr<T> take() {
        {
            const ForkLock lock(mutex_, [&] { renew(); });
            if (!idle_.empty()) {
                auto item = std::move(idle_.back());
                idle_.pop_back();
                return item;
            }
            idle_.reserve(++made_);  // so that the return never allocates
        }
        return std::make_unique<T>();
    }
    void put(std::unique_ptr<T> item) {
        const ForkLock lock(mutex_, [&] { renew(); });
        idle_.push_back(std::move(item));
    }
    void renew() {
        replace_abandoned(idle_);
        idle_.reserve(made_ + 1);
    }

    ForkSafeMutex mutex_;
    Items idle_;
    size_t made_ = 0;
};

}  // namespace rnnfast::core
