// Scores the lines of a text with several threads that share one model. Prints log P of each line, in the order of
// the file, and the perplexity of the whole text.
//
//     score MODEL FILE [THREADS]
#include <rnnfast/rnnfast.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

struct Line {
    std::string text;
    double log_probability = 0;
    size_t tokens = 0;
};

std::vector<Line> read_lines(const char* path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error(std::string(path) + " cannot be opened");
    std::vector<Line> lines;
    for (Line line; std::getline(file, line.text);) lines.push_back(line);
    return lines;
}

// Each thread takes the next free line. It has its own state; all threads share the model.
void score(const rnnfast::LanguageModel& model, std::vector<Line>& lines, std::atomic<size_t>& next) {
    rnnfast::State state = model.initial_state();
    for (size_t i; (i = next++) < lines.size();) {
        const std::vector<int32_t> ids = model.vocab().encode(lines[i].text);
        if (ids.size() < 2) continue;  // there is nothing to predict
        state.reset();
        for (const double log_probability : model.score(ids, state)) lines[i].log_probability += log_probability;
        lines[i].tokens = ids.size() - 1;
    }
}

void run(int argc, char** argv) {
    const auto model = rnnfast::LanguageModel::load(argv[1]);
    rnnfast::set_num_threads(1);  // this program has its own threads
    std::vector<Line> lines = read_lines(argv[2]);
    std::atomic<size_t> next{0};
    std::vector<std::thread> threads;
    const int count = argc > 3 ? std::atoi(argv[3]) : static_cast<int>(std::thread::hardware_concurrency());
    for (int i = 0; i < std::max(count, 1); ++i) threads.emplace_back([&] { score(model, lines, next); });
    for (std::thread& thread : threads) thread.join();

    double total = 0;
    size_t tokens = 0;
    for (const Line& line : lines) {
        std::printf("%.9g\t%s\n", line.log_probability, line.text.c_str());
        total += line.log_probability;
        tokens += line.tokens;
    }
    std::printf("perplexity %.6f on %zu tokens\n", tokens ? std::exp(-total / static_cast<double>(tokens)) : NAN,
                tokens);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s MODEL FILE [THREADS]\n", argv[0]);
        return 2;
    }
    try {
        run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
