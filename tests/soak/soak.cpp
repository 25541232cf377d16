// Uses the library as a service does for months: threads load models, step streams alone and together, sample, save and
// restore, until the time is over.
//
//     soak FOLDER SECONDS [THREADS [MB]]       FOLDER: tests/golden
//
// Ends with status 1 if a result has other bits than the first one, if the resident memory grew by more than 1 MB, or
// the given number, after the first fifth of the time (at most a minute), or if a call threw. Times of steps are
// printed.
#include <rnnfast/rnnfast.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Logits = std::vector<float>;

constexpr int kSeeds = 16;  // different streams of each model
constexpr int kSteps = 48;  // of one stream

const std::array<const char*, 3> kFiles = {"language_model_v1", "language_model_v2_bf16", "language_model_v2_int8"};

// Of the numbers' bits, by FNV-1a.
class Hash {
public:
    void add(const float* numbers, size_t count) {
        for (size_t i = 0; i < count; ++i) {
            uint32_t bits;
            std::memcpy(&bits, numbers + i, sizeof bits);
            value_ = (value_ ^ bits) * 0x100000001b3u;
        }
    }
    uint64_t value() const { return value_; }

private:
    uint64_t value_ = 0xcbf29ce484222325u;
};

// Times of steps, each within 2%.
class Times {
public:
    void add(Clock::duration time) {
        const double ns = std::max(1.0, std::chrono::duration<double, std::nano>(time).count());
        ++counts_[std::min(counts_.size() - 1, static_cast<size_t>(std::log2(ns) * 32))];
    }
    void add(const Times& other) {
        for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    }
    // Microseconds.
    double percentile(double share) const {
        uint64_t all = 0, seen = 0;
        for (const uint64_t count : counts_) all += count;
        size_t i = 0;
        while (i + 1 < counts_.size() && static_cast<double>(seen += counts_[i]) < share * static_cast<double>(all))
            ++i;
        return std::exp2(static_cast<double>(i) / 32) / 1000;
    }

private:
    std::array<uint64_t, 32 * 40> counts_{};  // up to 18 minutes
};

enum Phase { kWarm, kFirst, kMiddle, kLast, kOver };

struct Soak {
    std::vector<std::string> paths;
    std::vector<rnnfast::LanguageModel> models;   // shared by all threads
    std::vector<std::vector<uint64_t>> expected;  // by model and seed
    std::atomic<int> phase{kWarm};
    std::atomic<uint64_t> rounds{0}, steps{0}, loads{0}, wrong{0};
};

struct Worker {
    Times first, last;
    uint64_t random;

    size_t below(size_t size) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;  // xorshift64
        return random % size;
    }
};

// One stream: steps and samples; `pause` interrupts it halfway.
template <class Pause, class Step>
uint64_t stream(const rnnfast::LanguageModel& model, uint64_t seed, Step&& step, Pause&& pause) {
    rnnfast::State state = model.initial_state();
    rnnfast::Sampler sampler(0.8, seed % 2 ? 4 : 0, seed);
    Logits logits(model.vocab_size());
    Hash hash;
    int32_t token = static_cast<int32_t>(seed % model.vocab_size());
    for (int t = 0; t < kSteps; ++t) {
        if (t == kSteps / 2) pause(state, sampler);
        step(token, state, logits);
        hash.add(logits.data(), logits.size());
        token = sampler.sample(logits);
    }
    return hash.value();
}

// All streams of the model together, as one batch.
void together(Soak& soak, size_t which) {
    const rnnfast::LanguageModel& model = soak.models[which];
    const size_t vocabulary = model.vocab_size();
    std::vector<rnnfast::State> states(kSeeds, model.initial_state());
    std::vector<rnnfast::State*> pointers;
    std::vector<rnnfast::Sampler> samplers;
    std::vector<int32_t> tokens;
    std::vector<Hash> hashes(kSeeds);
    for (size_t seed = 0; seed < kSeeds; ++seed) {
        pointers.push_back(&states[seed]);
        samplers.emplace_back(0.8, seed % 2 ? 4 : 0, seed);
        tokens.push_back(static_cast<int32_t>(seed % vocabulary));
    }
    Logits logits(kSeeds * vocabulary);
    for (int t = 0; t < kSteps; ++t) {
        model.step(tokens.data(), pointers.data(), kSeeds, logits.data());
        for (size_t seed = 0; seed < kSeeds; ++seed) {
            const float* own = logits.data() + seed * vocabulary;
            hashes[seed].add(own, vocabulary);
            tokens[seed] = samplers[seed].sample(own, vocabulary);
        }
    }
    for (size_t seed = 0; seed < kSeeds; ++seed) soak.wrong += hashes[seed].value() != soak.expected[which][seed];
    soak.steps += kSeeds * kSteps;
}

void one_round(Soak& soak, Worker& worker) {
    const size_t which = worker.below(soak.models.size()), seed = worker.below(kSeeds);
    if (worker.below(16) == 0) return together(soak, which);
    rnnfast::LanguageModel model = soak.models[which];
    if (worker.below(16) == 0) {
        model = rnnfast::LanguageModel::load(soak.paths[which]);
        ++soak.loads;
    }
    const auto step = [&](int32_t token, rnnfast::State& state, Logits& logits) {
        const auto started = Clock::now();
        model.step(token, state, logits);
        const auto time = Clock::now() - started;
        const int phase = soak.phase;
        if (phase == kFirst) worker.first.add(time);
        if (phase == kLast) worker.last.add(time);
    };
    const auto pause = [&](rnnfast::State& state, rnnfast::Sampler& sampler) {
        const std::vector<uint8_t> bytes = state.save(), position = sampler.save();
        state = model.initial_state();
        state.restore(bytes.data(), bytes.size());
        sampler = rnnfast::Sampler(1.0, 0, 99);
        sampler.restore(position.data(), position.size());
    };
    soak.wrong += stream(model, seed, step, pause) != soak.expected[which][seed];
    soak.steps += kSteps;
}

void work(Soak& soak, Worker& worker) {
    while (soak.phase != kOver) {
        try {
            one_round(soak, worker);
        } catch (const std::exception& error) {
            std::fprintf(stderr, "soak: %s\n", error.what());
            ++soak.wrong;
        }
        ++soak.rounds;
    }
}

// MB, of Linux.
double resident() {
    std::ifstream file("/proc/self/statm");
    double pages = 0;
    file >> pages >> pages;
    return pages * 4096 / (1 << 20);
}

void prepare(Soak& soak, const std::string& folder) {
    const auto step = [&](const rnnfast::LanguageModel& model) {
        return [&model](int32_t token, rnnfast::State& state, Logits& logits) { model.step(token, state, logits); };
    };
    const auto no_pause = [](rnnfast::State&, rnnfast::Sampler&) {};
    for (const char* name : kFiles) {
        soak.paths.push_back(folder + "/" + name + ".safetensors");
        soak.models.push_back(rnnfast::LanguageModel::load(soak.paths.back()));
        const rnnfast::LanguageModel& model = soak.models.back();
        soak.expected.emplace_back();
        for (uint64_t seed = 0; seed < kSeeds; ++seed)
            soak.expected.back().push_back(stream(model, seed, step(model), no_pause));
    }
}

int run(const std::string& folder, double seconds, size_t count, double most_growth) {
    Soak soak;
    prepare(soak, folder);
    std::vector<Worker> workers(count);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < count; ++i) {
        workers[i].random = 0x9e3779b97f4a7c15u * (i + 1);
        threads.emplace_back([&, i] { work(soak, workers[i]); });
    }
    const auto wait = [](double time) { std::this_thread::sleep_for(std::chrono::duration<double>(time)); };
    const double warm = std::min(seconds / 5, 60.0), window = (seconds - warm) / 4;
    wait(warm);
    const double before = resident();
    soak.phase = kFirst, wait(window);
    soak.phase = kMiddle, wait(2 * window);
    soak.phase = kLast, wait(window);
    const double after = resident();
    soak.phase = kOver;
    for (std::thread& thread : threads) thread.join();
    Times first, last;
    for (const Worker& worker : workers) first.add(worker.first), last.add(worker.last);
    std::printf("%zu threads, %.0f s: %llu rounds, %llu steps, %llu models loaded, %llu wrong\n", count, seconds,
                static_cast<unsigned long long>(soak.rounds), static_cast<unsigned long long>(soak.steps),
                static_cast<unsigned long long>(soak.loads), static_cast<unsigned long long>(soak.wrong));
    std::printf("resident memory: %.2f MB after %.0f s, %.2f MB at the end\n", before, warm, after);
    for (const double share : {0.5, 0.99, 0.999})
        std::printf("a step, %.1f%%: %.2f us in the first quarter, %.2f us in the last\n", 100 * share,
                    first.percentile(share), last.percentile(share));
    return soak.wrong != 0 || after - before > most_growth;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: soak FOLDER SECONDS [THREADS [MB]]\n");
        return 2;
    }
    const size_t threads = argc > 3 ? static_cast<size_t>(std::atoi(argv[3])) : 8;
    return run(argv[1], std::atof(argv[2]), threads, argc > 4 ? std::atof(argv[4]) : 1.0);
}
