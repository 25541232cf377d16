#include "runtime/machine_rates.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/dispatch.h"
#include "runtime/parallel.h"
#include "runtime/sentence.h"

namespace rnnfast::core {

namespace {

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// work(thread) returns the amount of its work. All threads start together; the slowest one counts, as in a layer.
double best_rate(int threads, double seconds, const std::function<double(size_t)>& work) {
    if (threads < 1 || threads > 4096) refuse({"threads is ", threads, ", expected 1 to 4096"});
    const double deadline = seconds_now() + seconds;
    double best = 0;
    do {
        std::vector<double> done(static_cast<size_t>(threads), 0.0), taken = done;
        parallel(static_cast<size_t>(threads), [&](const Team& team) {
            work(team.index);  // warms the caches and the clock
            team.wait();
            const double started = seconds_now();
            done[team.index] = work(team.index);
            taken[team.index] = seconds_now() - started;
        });
        double sum = 0;
        for (const double d : done) sum += d;
        best = std::max(best, sum / *std::max_element(taken.begin(), taken.end()));
    } while (seconds_now() < deadline);
    return best;
}

// One buffer per thread, so that no two threads write the same cache line.
std::vector<Buffer> buffers_for(int threads, size_t floats) {
    std::vector<Buffer> buffers;
    for (int t = 0; t < threads; ++t) {
        buffers.emplace_back(floats);
        std::fill_n(buffers.back().data(), floats, 0.5f);
    }
    return buffers;
}

constexpr size_t chain_rounds = 100'000;  // about 0.3 ms
constexpr float chain_start[3] = {0.5f, 0.5f, 0.5f};

}  // namespace

double multiply_add_rate(int threads, double seconds) {
    auto out = buffers_for(threads, 64);
    return best_rate(threads, seconds, [&](size_t thread) {
        return active().multiply_add_rate(chain_rounds, chain_start, out[thread].data());
    });
}

double bf16_rate(int threads, double seconds) {
    auto out = buffers_for(threads, 64);
    return best_rate(threads, seconds,
                     [&](size_t thread) { return active().bf16_rate(chain_rounds, chain_start, out[thread].data()); });
}

double read_rate(size_t bytes, int threads, double seconds) {
    const size_t multiple = 8 * active().lanes;  // what the kernel reads in one iteration
    const size_t floats = std::max<size_t>(1, bytes / (multiple * sizeof(float))) * multiple;
    const auto data = buffers_for(threads, floats);
    const size_t passes = std::max<size_t>(1, (1u << 22) / floats);  // at least 16 MiB per run: about 0.1 ms
    std::vector<float> sums(static_cast<size_t>(threads));
    return best_rate(threads, seconds, [&](size_t thread) {
        sums[thread] = active().read_rate(floats, passes, data[thread].data());
        return static_cast<double>(passes * floats * sizeof(float));
    });
}

}  // namespace rnnfast::core
