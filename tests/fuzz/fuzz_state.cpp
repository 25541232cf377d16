// libFuzzer on saved states of streams and of a sampler. An input is read as it is, and as changes of a good state: a
// state that is accepted is saved as the same bytes, and the next step ends.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "fuzz.h"
#include "rnnfast/network.hpp"
#include "rnnfast/rnnfast.hpp"

namespace {

using Bytes = std::vector<uint8_t>;

// `good` with the input's bytes on it, by exclusive or.
Bytes changed(Bytes good, const uint8_t* data, size_t size) {
    for (size_t i = 0; i < std::min(size, good.size()); ++i) good[i] ^= data[i];
    return good;
}

template <class State, class Step>
void restore(State state, const Bytes& bytes, const Step& step) {
    fuzz::use_or_refuse([&] {
        state.restore(bytes.data(), bytes.size());
        fuzz::expect(state.save() == bytes);
        step(state);
    });
}

struct Models {
    std::vector<rnnfast::LanguageModel> language;
    rnnfast::v1::Network network = rnnfast::v1::Network::load(RNNFAST_CORPUS "/network_stream_int8");

    Models() {
        for (const char* name : {"gru_f32", "lstm_bf16", "rnn_int8"})
            language.push_back(rnnfast::LanguageModel::load(std::string(RNNFAST_CORPUS "/") + name));
    }
};

const Models& models() {
    static const Models all;
    return all;
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    rnnfast::set_num_threads(1);
    models();
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const Bytes raw(data, data + size);
    std::vector<float> logits;
    for (const rnnfast::LanguageModel& model : models().language) {
        const rnnfast::State fresh = model.initial_state();
        const auto step = [&](rnnfast::State& state) { model.step(0, state, logits); };
        restore(fresh, raw, step);
        restore(fresh, changed(fresh.save(), data, size), step);
    }
    const rnnfast::v1::Network& network = models().network;
    const rnnfast::NetworkState fresh = network.initial_state();
    const std::vector<float> x(network.inputs()[0].size);
    std::vector<float> y(network.outputs()[0].width);
    const auto step = [&](rnnfast::NetworkState& state) {
        const rnnfast::NetworkData input(x.data());
        float* output = y.data();
        network.step(&input, state, &output);
    };
    restore(fresh, raw, step);
    restore(fresh, changed(fresh.save(), data, size), step);
    fuzz::use_or_refuse([&] {
        rnnfast::Sampler sampler;
        const Bytes bytes = changed(sampler.save(), data, size);
        sampler.restore(bytes.data(), bytes.size());
        fuzz::expect(sampler.save() == bytes);
    });
    return 0;
}
