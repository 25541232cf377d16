// Runs a model with a log: log MODEL. Prints the events, and how many came while states stepped.
#include <rnnfast/rnnfast.h>
#include <rnnfast/rnnfast.hpp>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace {

void print(void* user, rnnfast::LogLevel level, const char* message) noexcept {
    ++*static_cast<std::atomic<int>*>(user);
    std::printf("%s: %s\n", level == rnnfast::LogLevel::warning ? "warning" : "info", message);
    std::fflush(stdout);
}

void print_in_c(void* user, int level, const char* message) {
    std::printf("%s %d: %s\n", static_cast<const char*>(user), level == RNNFAST_LOG_WARNING, message);
}

// So many streams that small models use threads, too.
void step_many(const rnnfast::LanguageModel& model) {
    std::vector<rnnfast::State> states(4000, model.initial_state());
    std::vector<rnnfast::State*> pointers;
    for (rnnfast::State& state : states) pointers.push_back(&state);
    std::vector<float> logits(states.size() * model.vocab_size());
    model.step(std::vector<int32_t>(states.size()).data(), pointers.data(), states.size(), logits.data());
}

}  // namespace

int main(int, char** argv) {
    std::atomic<int> events{0};
    rnnfast::set_log(print, &events);
    const auto model = rnnfast::LanguageModel::load(argv[1]);
    std::ifstream stream(argv[1], std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    rnnfast::LanguageModel::load(bytes.data(), bytes.size());
    const int before = events;
    rnnfast::State state = model.initial_state();
    std::vector<float> logits;
    for (int i = 0; i < 100; ++i) model.step(0, state, logits);
    step_many(model);
    std::printf("steps: %d\n", events - before);
    std::fflush(stdout);
#if defined(__unix__)
    if (const pid_t child = fork()) {
        waitpid(child, nullptr, 0);
    } else {
        step_many(model);
        step_many(model);
        _exit(0);
    }
#endif
    char user[] = "C";
    rnnfast_set_log(print_in_c, user);
    rnnfast_model* again = nullptr;
    rnnfast_model_load(argv[1], RNNFAST_AS_STORED, &again);
    rnnfast_model_free(again);
    rnnfast_set_log(nullptr, nullptr);
    rnnfast::LanguageModel::load(argv[1]);
    return 0;
}
