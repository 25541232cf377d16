// Measures one step of one stream on one thread, and compares many streams as one batch with many streams one by one.
//
// limit: 1.2 times the time to read the weights from their cache at the measured rate, plus 0.3 us.
// idle: the 99.9th percentile of a loop that takes as long but reads no memory: the machine's own interruptions.
//
//     cmake --preset release -DRNNFAST_BENCHMARKS=ON && cmake --build --preset release --target rnnfast_latency
//     taskset -c 0 build/release/rnnfast_latency [STEPS]
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "files/safetensors.h"
#include "rnnfast/layers.hpp"
#include "runtime/machine_rates.h"
#include "runtime/random.h"

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
    std::map<std::string, rnnfast::core::TensorView> tensors;
    const auto add = [&](const std::string& name, std::vector<size_t> shape, size_t count) {
        std::vector<float>& v = values[name];
        for (size_t i = 0; i < count; ++i)
            v.push_back(static_cast<float>((2 * rnnfast::core::random_uniform(values.size(), i) - 1) / 16));
        tensors[name] = {std::move(shape), v.data(), count};
    };
    add("weight_ih_l0", {gates * size, size}, gates * size * size);
    add("weight_hh_l0", {gates * size, size}, gates * size * size);
    add("bias_ih_l0", {gates * size}, gates * size);
    add("bias_hh_l0", {gates * size}, gates * size);
    const std::string path = "/tmp/rnnfast-latency-" + std::to_string(getpid()) + ".safetensors";
    rnnfast::core::write_safetensors(path, tensors, {});
    auto file = rnnfast::Tensors::open(path);
    unlink(path.c_str());
    return file;
}

struct Rates {
    double l2 = rnnfast::core::read_rate(512 << 10, 1, 0.3), l3 = rnnfast::core::read_rate(4 << 20, 1, 0.3);
    double flops = rnnfast::core::multiply_add_rate(1, 0.3);
};

struct Percentiles {
    double median, rare;  // 50th and 99.9th percentile, in microseconds
};

template <typename Call>
Percentiles percentiles(size_t calls, const Call& call) {
    std::vector<double> times(calls);
    for (double& time : times) {
        const auto start = Clock::now();
        call();
        time = 1e6 * seconds_since(start);
    }
    std::sort(times.begin(), times.end());
    return {times[calls / 2], times[calls * 999 / 1000]};
}

// A chain of dependent multiply-adds, which never waits for memory.
void idle(size_t turns) {
    volatile double sink;
    double value = 1;
    for (size_t i = 0; i < turns; ++i) value = value * 0.999 + 1;
    sink = value;
    (void)sink;
}

double idle_rare(double microseconds, size_t calls) {
    constexpr size_t turns = 1000;
    const double each = percentiles(1001, [] { idle(turns); }).median / turns;
    return percentiles(calls, [&] { idle(static_cast<size_t>(microseconds / each)); }).rare;
}

// Median and 99.9th percentile of `steps` steps, in microseconds.
void one_stream(const char* cell, size_t gates, size_t size, size_t steps, const Rates& rates) {
    const auto tensors = random_layer(gates, size);
    std::vector<float> x(size, 0.1f), y(size);
    double f32_median = 0;
    for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
        const Recurrent layer(tensors, "", cell, weights);
        State state = layer.initial_state();
        for (int i = 0; i < 1000; ++i) layer.step(x.data(), state, y.data());
        const Percentiles took = percentiles(steps, [&] { layer.step(x.data(), state, y.data()); });
        if (weights == Weights::f32) f32_median = took.median;
        const auto bytes = static_cast<double>(2 * gates * size * size * bytes_a_weight[static_cast<size_t>(weights)]);
        const double limit = 1.2e6 * bytes / (bytes > 1 << 20 ? rates.l3 : rates.l2) + 0.3;
        std::printf("%-4s %4zu %-4s  median %7.2f us (limit %6.2f)  99.9%% %7.2f us (idle %6.2f)  %5.2f times f32\n",
                    cell, size, names[static_cast<size_t>(weights)], took.median, limit, took.rare,
                    idle_rare(took.median, steps), f32_median / took.median);
    }
}

// 256 streams as one batch and one by one, interleaved; prints medians.
void many_streams(const char* cell, size_t gates, size_t size, const Rates& rates) {
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
        const double rate = flops / together[rounds / 2];
        std::printf(
            "%-4s %4zu %-4s  256 streams together %7.3f ms (%5.1f GFLOP/s, %4.2f of f32's), one by one %7.3f ms: %4.2f "
            "times\n",
            cell, size, names[static_cast<size_t>(weights)], 1e3 * together[rounds / 2], rate * 1e-9,
            rate / rates.flops, 1e3 * alone[rounds / 2], alone[rounds / 2] / together[rounds / 2]);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const size_t steps = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100000;
    rnnfast::set_num_threads(1);
    std::printf("rnnfast %s, %s, one thread, %zu steps\n", rnnfast::version().c_str(),
                rnnfast::instruction_set().c_str(), steps);
    const Rates rates;
    std::printf("L2 %.0f GB/s, L3 %.0f GB/s, %.1f GFLOP/s\n", rates.l2 * 1e-9, rates.l3 * 1e-9, rates.flops * 1e-9);
    for (const size_t size : {64, 128, 256, 512}) {
        one_stream("lstm", 4, size, steps, rates);
        one_stream("gru", 3, size, steps, rates);
    }
    for (const size_t size : {256, 512}) {
        many_streams("lstm", 4, size, rates);
        many_streams("gru", 3, size, rates);
    }
}
