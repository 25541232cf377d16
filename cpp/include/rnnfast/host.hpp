// What a program may give to the library: its own threads, its own memory, and a log.
#pragma once

#include <cstddef>

#include "rnnfast/export.hpp"

namespace rnnfast {
inline namespace v1 {

// Runs the library's parallel work, in place of its threads.
class RNNFAST_API Executor {
public:
    using Run = void (*)(void* job, size_t index, size_t size);
    virtual ~Executor();
    // Calls run(job, index, size) once for every index below a size from 1 to `threads`, and returns when all calls
    // have returned. They must run at the same time, since they wait for one another: with too few free threads, the
    // size is smaller, 1 with none. Results do not depend on it. run throws nothing.
    virtual void execute(size_t threads, Run run, void* job) = 0;
};
// From the next call on; nullptr: the library's own threads. The executor lives until another one has taken its place
// and the calls that use it have ended. set_num_threads still limits the threads of a call.
RNNFAST_API void set_executor(Executor* executor);

// Memory for weights, states and what calls compute. Objects, names and texts still come from operator new.
class RNNFAST_API Allocator {
public:
    virtual ~Allocator();
    // nullptr: no memory, which the library reports as std::bad_alloc. The alignment is a power of two.
    virtual void* allocate(size_t bytes, size_t alignment) = 0;
    virtual void release(void* memory) noexcept = 0;
};
// nullptr: the system's. Throws std::logic_error while the library holds memory, because that must go back to where it
// came from: set it before anything else. The allocator lives as long as the program uses the library.
RNNFAST_API void set_allocator(Allocator* allocator);

enum class LogLevel { info, warning };

using Log = void (*)(void* user, LogLevel level, const char* message) noexcept;
// The function receives the few events that are worth a line in the program's log: the instruction set and the number
// of threads, at first use; the files that are read; and as warnings, where the library falls back to something slower.
// The message is one sentence without a line end, which is gone after the call. Any thread may call, several at the
// same time. The function calls nothing of the library. nullptr: no log, as at the start. Set it before anything else,
// because a first use is reported once. A step that allocates nothing reports nothing.
RNNFAST_API void set_log(Log log, void* user = nullptr);

}  // namespace v1
}  // namespace rnnfast
