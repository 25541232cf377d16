#include "runtime/log.h"

#include <new>

namespace rnnfast::core {

namespace {

Log log = nullptr;
void* log_user = nullptr;

}  // namespace

void set_log(Log given, void* user) {
    log = given;
    log_user = user;
}

void report(LogLevel level, Sentence sentence) noexcept {
    if (!log) return;
    std::string text;
    try {
        text = joined(sentence);
    } catch (const std::bad_alloc&) {  // an event is not worth more
        return;
    }
    log(log_user, level, text.c_str());
}

}  // namespace rnnfast::core
