// Counts the page faults of a first step: prefault API MODEL COUNT PREFAULT, with PREFAULT 0 or 1, and API lm or
// network, or in C c (a language model) or n (a network). Prints the count, which Linux has for a thread, and the sum
// of the results.
#include <rnnfast/rnnfast.h>
#include <rnnfast/network.hpp>

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/resource.h>
#endif

namespace {

long faults() {
#if defined(__linux__)
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_minflt + usage.ru_majflt;
#else
    return 0;
#endif
}

// y is the caller's own memory, which must be there already.
template <class Step>
void count_faults(const Step& step, const std::vector<float>& y) {
    const long before = faults();
    step();
    const long after = faults();
    std::printf("%ld %a\n", after - before, std::accumulate(y.begin(), y.end(), 0.0));
}

template <class State, class Model>
struct States {
    States(const Model& model, size_t count) : all(count, model.initial_state()) {
        for (State& state : all) pointers.push_back(&state);
    }
    std::vector<State> all;
    std::vector<State*> pointers;
};

void language_model(const char* path, size_t count, bool prefault) {
    const auto model = rnnfast::LanguageModel::load(path);
    const States<rnnfast::State, rnnfast::LanguageModel> states(model, count);
    std::vector<float> logits(count * model.vocab_size(), 1.0f);
    const std::vector<int32_t> tokens(count, 1);
    if (prefault) model.prefault(states.pointers.data(), count);
    count_faults([&] { model.step(tokens.data(), states.pointers.data(), count, logits.data()); }, logits);
}

void network(const char* path, size_t count, bool prefault) {
    const auto network = rnnfast::Network::load(path);
    const States<rnnfast::NetworkState, rnnfast::Network> states(network, count);
    const std::vector<float> x(count * network.inputs()[0].size, 0.5f);
    std::vector<float> y(count * network.outputs()[0].width, 1.0f);
    const rnnfast::NetworkData input(x.data());
    float* const output = y.data();
    if (prefault) network.prefault(states.pointers.data(), count);
    count_faults([&] { network.step(&input, states.pointers.data(), count, &output); }, y);
}

void check(rnnfast_status status) {
    if (status == RNNFAST_OK) return;
    std::printf("%s\n", rnnfast_last_error());
    std::exit(1);
}

void language_model_in_c(const char* path, size_t count, bool prefault) {
    rnnfast_model* model = nullptr;
    size_t vocabulary = 0;
    check(rnnfast_model_load(path, RNNFAST_AS_STORED, &model));
    check(rnnfast_model_vocab_size(model, &vocabulary));
    std::vector<rnnfast_state*> states(count);
    for (rnnfast_state*& state : states) check(rnnfast_state_new(model, &state));
    std::vector<float> logits(count * vocabulary, 1.0f);
    const std::vector<int32_t> tokens(count, 1);
    if (prefault) check(rnnfast_model_prefault(model, states.data(), count));
    const auto step = [&] {
        check(rnnfast_step_many(model, tokens.data(), states.data(), count, logits.data(), logits.size()));
    };
    count_faults(step, logits);
    for (rnnfast_state* state : states) rnnfast_state_free(state);
    rnnfast_model_free(model);
}

void network_in_c(const char* path, size_t count, bool prefault) {
    rnnfast_network* network = nullptr;
    size_t size = 0, width = 0;
    check(rnnfast_network_load(path, RNNFAST_AS_STORED, &network));
    check(rnnfast_network_input(network, 0, &size, nullptr));
    check(rnnfast_network_output(network, 0, &width, nullptr));
    std::vector<rnnfast_network_state*> states(count);
    for (rnnfast_network_state*& state : states) check(rnnfast_network_state_new(network, &state));
    const std::vector<float> x(count * size, 0.5f);
    std::vector<float> y(count * width, 1.0f);
    const rnnfast_values in{x.data(), nullptr, x.size()};
    const rnnfast_result out{y.data(), y.size()};
    if (prefault) check(rnnfast_network_prefault(network, states.data(), count));
    count_faults([&] { check(rnnfast_network_step_many(network, &in, 1, states.data(), count, &out, 1)); }, y);
    for (rnnfast_network_state* state : states) rnnfast_network_state_free(state);
    rnnfast_network_free(network);
}

}  // namespace

int main(int, char** argv) {
    const std::string api = argv[1];
    const auto count = static_cast<size_t>(std::atol(argv[3]));
    const auto run = api == "lm"        ? language_model
                     : api == "network" ? network
                     : api == "c"       ? language_model_in_c
                                        : network_in_c;
    run(argv[2], count, argv[4][0] == '1');
    return 0;
}
