// Counts what steps allocate after each state's first: allocations MODEL. Prints a line for every kind of call.
#include <rnnfast/layers.hpp>

#include <cstdio>
#include <cstdlib>

namespace {

size_t allocations = 0;

}  // namespace

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t size) {
    ++allocations;
    return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
    ++allocations;
    return __libc_calloc(count, size);
}
void* realloc(void* p, size_t size) {
    ++allocations;
    return __libc_realloc(p, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
    ++allocations;
    return __libc_memalign(alignment, size);
}
}

int main(int, char** argv) {
    using rnnfast::Weights;
    rnnfast::set_num_threads(1);
    for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
        const auto model = rnnfast::LanguageModel::load(argv[1], weights);
        rnnfast::State state = model.initial_state();
        std::vector<rnnfast::State> many(20, state);
        std::vector<rnnfast::State*> pointers;
        for (rnnfast::State& each : many) pointers.push_back(&each);
        std::vector<int32_t> tokens(many.size(), 1);
        std::vector<float> logits(model.vocab_size()), all(many.size() * model.vocab_size());
        rnnfast::Sampler sampler(0.8, 3, 7);
        const auto one = [&] { model.step(sampler.sample(logits), state, logits.data()); };
        const auto together = [&] { model.step(tokens.data(), pointers.data(), tokens.size(), all.data()); };
        one();
        together();
        const size_t at_load = allocations;
        std::fprintf(stderr, "steps begin\n");  // so that a trace of system calls can be cut here
        for (int i = 0; i < 1000; ++i) one();
        std::fprintf(stderr, "steps end\n");
        const size_t after_one = allocations;
        for (int i = 0; i < 100; ++i) together();
        const size_t at_end = allocations;
        std::printf("%d: loading %zu, 1000 steps %zu, 100 steps of 20 streams %zu\n", static_cast<int>(weights),
                    at_load, after_one - at_load, at_end - after_one);
        if (at_load == 0 || at_end != at_load) return 1;
    }
    return 0;
}
