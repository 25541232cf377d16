// Events for the log of the program. The library itself writes nothing.
#pragma once

#include "rnnfast/host.hpp"
#include "runtime/sentence.h"

namespace rnnfast::core {

// Without a function, events are not reported.
void set_log(Log log, void* user);

// For a first use, a file that is read, or falling back to something slower.
void report(LogLevel level, Sentence sentence) noexcept;

}  // namespace rnnfast::core
