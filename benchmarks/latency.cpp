// Latency of one step of one stream on one thread, and many streams together against one by one.
//
//     cmake --preset release -DRNNFAST_BENCHMARKS=ON && cmake --build --preset release --target rnnfast_latency
//     taskset -c 0 build/release/rnnfast_latency [STEPS]
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/random.h"
#include "models/safetensors.h"
#include "rnnfast/layers.hpp"

namespace {

using rnnfast::Recurrent;
using rnnfast::State;
using rnnfast::Weights;
using Clock = std::chrono::steady_clock;

constexpr const char* names[] = {"f32", "bf16", "int8"};
constexpr size_t bytes_a_weight[] = {4, 2, 1};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

rnnfast::Tensors random_layer(size_t gates, size_t size) {
    std::map<std::string, std::vector<float>> values;
    std::map<std::string, rnnfast::TensorView> tensors;
    const auto add = [&](const std::string& name, std::vector<size_t> shape, size_t count) {
        std::vector<float>& v = values[name];
        for (size_t i = 0; i < count; ++i)
            v.push_back(static_cast<float>((2 * rnnfast::random_uniform(values.size(), i) - 1) / 16));
        tensors[name] = {std::move(shape), v.data(), count};
    };
    add("weight_ih_l0", {gates * size, size}, gates * size * size);
    add("weight_hh_l0", {gates * size, size}, gates * size * size);
    add("bias_ih_l0", {gates * size}, gates * size);
    add("bias_hh_l0", {gates * size}, gates * size);
    const std::string path = "/tmp/rnnfast-latency-" + std::to_string(getpid()) + ".safetensors";
    rnnfast::write_safetensors(path, tensors, {});
    auto file = rnnfast::Tensors::open(path);
    unlink(path.c_str());
    return file;
}

// Median and 99.9th percentile of `steps` steps, in microseconds.
void one_stream(const char* cell, size_t gates, size_t size, size_t steps) {
    const auto tensors = random_layer(gates, size);
    std::vector<float> x(size, 0.1f), y(size);
    double f32_median = 0;
    for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
        const Recurrent layer(tensors, "", cell, weights);
        State state = layer.initial_state();
        for (int i = 0; i < 1000; ++i) layer.step(x.data(), state, y.data());
        std::vector<double> times(steps);
        for (double& time : times) {
            const auto start = Clock::now();
            layer.step(x.data(), state, y.data());
            time = 1e6 * seconds_since(start);
        }
        std::sort(times.begin(), times.end());
        const double median = times[steps / 2], rare = times[steps * 999 / 1000];
        if (weights == Weights::f32) f32_median = median;
        const auto bytes = static_cast<double>(2 * gates * size * size * bytes_a_weight[static_cast<size_t>(weights)]);
        std::printf("%-4s %4zu %-4s  median %8.2f us  99.9%% %8.2f us  %6.1f GB/s of weights  %5.2f times f32\n", cell,
                    size, names[static_cast<size_t>(weights)], median, rare, bytes / median * 1e-3,
                    f32_median / median);
    }
}

// 256 streams as one batch and one by one, interleaved; medians.
void many_streams(const char* cell, size_t gates, size_t size) {
    constexpr size_t streams = 256, rounds = 41;
    const auto tensors = random_layer(gates, size);
    for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
        const Recurrent layer(tensors, "", cell, weights);
        std::vector<State> states(streams, layer.initial_state());
        std::vector<State*> pointers;
        for (State& state : states) pointers.push_back(&state);
        std::vector<float> x(streams * size, 0.1f), y(streams * size);
        std::vector<double> together(rounds), alone(rounds);
        for (size_t round = 0; round < rounds; ++round) {
            auto start = Clock::now();
            layer.step(x.data(), pointers.data(), streams, y.data());
            together[round] = seconds_since(start);
            start = Clock::now();
            for (size_t i = 0; i < streams; ++i) layer.step(x.data() + i * size, states[i], y.data() + i * size);
            alone[round] = seconds_since(start);
        }
        std::sort(together.begin(), together.end());
        std::sort(alone.begin(), alone.end());
        const double flops = 4.0 * static_cast<double>(streams * gates * size * size);
        std::printf("%-4s %4zu %-4s  256 streams together %8.3f ms (%5.1f GFLOP/s), one by one %8.3f ms: %4.2f times\n",
                    cell, size, names[static_cast<size_t>(weights)], 1e3 * together[rounds / 2],
                    flops / together[rounds / 2] * 1e-9, 1e3 * alone[rounds / 2],
                    alone[rounds / 2] / together[rounds / 2]);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const size_t steps = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100000;
    rnnfast::set_num_threads(1);
    std::printf("rnnfast %s, %s, one thread, %zu steps\n", rnnfast::version().c_str(),
                rnnfast::instruction_set().c_str(), steps);
    for (const size_t size : {64, 128, 256, 512}) {
        one_stream("lstm", 4, size, steps);
        one_stream("gru", 3, size, steps);
    }
    for (const size_t size : {256, 512}) {
        many_streams("lstm", 4, size);
        many_streams("gru", 3, size);
    }
}
