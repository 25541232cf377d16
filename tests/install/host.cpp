// Runs a model with the program's own memory and threads: host MODEL. Prints what they were asked for.
#include <rnnfast/rnnfast.h>
#include <rnnfast/rnnfast.hpp>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

class Memory : public rnnfast::Allocator {
public:
    void* allocate(size_t bytes, size_t alignment) override {
        if (refuses) return nullptr;
        ++blocks;
        ++asked;
        void* memory = std::aligned_alloc(alignment, bytes);
        std::memset(memory, 0x7f, bytes);  // nothing may be read that was not written: 0x7f7f7f7f is 3.4e38
        return memory;
    }
    void release(void* memory) noexcept override {
        --blocks;
        std::free(memory);
    }
    std::atomic<long> blocks{0}, asked{0};
    bool refuses = false;
};

// A thread for each part but one; at most `most` parts.
class Threads : public rnnfast::Executor {
public:
    explicit Threads(size_t most_) : most(most_) {}
    void execute(size_t threads, Run run, void* job) override {
        ++regions;
        const size_t size = threads < most ? threads : most;
        std::vector<std::thread> others;
        for (size_t i = 1; i < size; ++i) others.emplace_back(run, job, i, size);
        run(job, 0, size);
        for (std::thread& other : others) other.join();
    }
    size_t most;
    std::atomic<long> regions{0};
};

void execute_in_c(void* user, size_t threads, rnnfast_run_part run, void* job) {
    static_cast<Threads*>(user)->execute(threads, run, job);
}

// Calls what is not a part of the contract: nobody runs.
void execute_nothing(void*, size_t, rnnfast_run_part, void*) {}

// So many streams that small models use threads, too.
std::vector<float> scores(const rnnfast::LanguageModel& model) {
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 4; ++i) ids.push_back(i % static_cast<int32_t>(model.vocab_size()));
    std::vector<rnnfast::State> states(4000, model.initial_state());
    std::vector<rnnfast::State*> pointers;
    for (rnnfast::State& state : states) pointers.push_back(&state);
    std::vector<float> logits(states.size() * model.vocab_size());
    for (const int32_t id : ids) {
        const std::vector<int32_t> tokens(states.size(), id);
        model.step(tokens.data(), pointers.data(), tokens.size(), logits.data());
    }
    return logits;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

int main(int, char** argv) {
    Memory memory;
    rnnfast::set_allocator(&memory);
    rnnfast::set_num_threads(4);
    std::vector<float> alone;
    {
        const auto model = rnnfast::LanguageModel::load(argv[1]);
        alone = scores(model);
        std::printf("memory was asked for: %d\n", memory.asked > 0);
        try {
            rnnfast::set_allocator(nullptr);
        } catch (const std::exception& error) {
            std::printf("%s\n", error.what());
        }
        std::printf("C: %d\n", rnnfast_set_allocator(nullptr, nullptr, nullptr));
        std::printf("%s\n", rnnfast_last_error());
        for (const size_t most : {size_t{1}, size_t{3}, size_t{9}}) {
            Threads threads(most);
            rnnfast::set_executor(&threads);
            const bool equal = same(scores(model), alone);
            std::printf("%zu parts: %d %d\n", most, equal, threads.regions > 0);
        }
        Threads threads(2);
        rnnfast_set_executor(execute_in_c, &threads);
        const bool equal = same(scores(model), alone);
        std::printf("C: %d %d\n", equal, threads.regions > 0);
        rnnfast_set_executor(execute_nothing, nullptr);
        try {
            scores(model);
        } catch (const std::exception& error) {
            std::printf("%s\n", error.what());
        }
        rnnfast::set_executor(nullptr);
        std::printf("%d\n", same(scores(model), alone));
        memory.refuses = true;
        try {
            rnnfast::LanguageModel::load(argv[1]);
        } catch (const std::bad_alloc&) {
            std::printf("no memory\n");
        }
        memory.refuses = false;
    }
    std::printf("C: %d\n", rnnfast_set_allocator(nullptr, [](void*, void*) {}, nullptr));
    return 0;
}
