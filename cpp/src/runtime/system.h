// What each operating system does its own way, except files (files/system_file). Where a system has nothing of the
// kind, a function does nothing or says so.
#pragma once

#include <cstddef>
#include <memory>

namespace rnnfast::core {

// `bytes` is a multiple of the alignment; null: no memory. free_aligned accepts null.
void* allocate_aligned(size_t bytes, size_t alignment);
void free_aligned(void* memory) noexcept;
// Asks for large pages; false: the system has none.
bool advise_huge_pages(void* memory, size_t bytes);

// The cores that this process may run on; 0: unknown.
int cores_of_affinity();

// Calls the function in every child of a fork.
void at_fork_in_child(void (*function)());

// While it lives, new threads get no signals: the program's own threads handle them.
class SignalsBlocked {
public:
    SignalsBlocked();
    ~SignalsBlocked();
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    struct Before;
    std::unique_ptr<Before> before_;
};

}  // namespace rnnfast::core
