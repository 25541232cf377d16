// A translator as the library runs it: one model, many threads, memory that the caller owns.
#include <thread>

#include "allocations.h"
#include "helpers.h"
#include "models/seq2seq/seq2seq.h"
#include "ops/elementwise.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

Seq2SeqOptions options_of(const std::string& cell, bool bidirectional, bool readout_all) {
    Seq2SeqOptions o;
    o.cell = cell;
    o.source_vocabulary = 31;
    o.target_vocabulary = 37;
    o.embedding_size = 12;
    o.hidden_size = 20;
    o.num_layers = 2;
    o.bidirectional = bidirectional;
    o.readout = readout_all ? Readout::all : Readout::state;
    return o;
}

constexpr size_t source_steps = 6, rows = 4, target_steps = 5;
const int64_t lengths[rows] = {6, 1, 4, 3};

std::vector<int32_t> ids(size_t count, size_t vocabulary, uint64_t key) {
    std::vector<int32_t> all(count);
    for (size_t i = 0; i < count; ++i) all[i] = static_cast<int32_t>(random_bits(key, i) % vocabulary);
    return all;
}

struct Translation {
    EncodedSource encoded;
    Seq2Seq::Memory memory;
    std::vector<float> logits = std::vector<float>(rows * 37);

    uint64_t run(const Seq2Seq& model, const std::vector<int32_t>& source, const std::vector<int32_t>& tokens) {
        model.encode(source.data(), lengths, source_steps, rows, encoded, memory);
        DecoderState state = model.initial_state(encoded);
        uint64_t hash = 1;
        for (size_t t = 0; t < target_steps; ++t) {
            model.step(encoded, tokens.data() + t * rows, state, logits.data(), nullptr, memory);
            hash = hash_bits(logits.data(), logits.size(), hash);
        }
        return hash;
    }
};

}  // namespace

TEST_CASE("threads that share a translator get the same results as one thread") {
    for (const char* cell : {"gru", "lstm"})
        for (const bool both : {false, true}) {
            CAPTURE(cell);
            CAPTURE(both);
            const Seq2Seq model(options_of(cell, both, both), 5, active());
            const auto source = ids(source_steps * rows, 31, 1), tokens = ids(target_steps * rows, 37, 2);
            constexpr size_t count = 3;
            uint64_t hashes[count] = {};
            std::vector<std::thread> threads;
            for (size_t i = 0; i < count; ++i)  // all find the weights not packed yet
                threads.emplace_back([&, i] { hashes[i] = Translation().run(model, source, tokens); });
            for (std::thread& thread : threads) thread.join();
            const uint64_t alone = Translation().run(model, source, tokens);
            for (const uint64_t hash : hashes) CHECK(hash == alone);
        }
}

TEST_CASE("a step allocates nothing after the first") {
    for (const bool both : {false, true}) {
        const Seq2Seq model(options_of("lstm", both, true), 5, active());
        const auto source = ids(source_steps * rows, 31, 1), tokens = ids(target_steps * rows, 37, 2);
        Translation t;
        t.run(model, source, tokens);
        DecoderState state = model.initial_state(t.encoded);
        model.step(t.encoded, tokens.data(), state, t.logits.data(), nullptr, t.memory);
        const long before = allocations;
        for (size_t step = 1; step < target_steps; ++step)
            model.step(t.encoded, tokens.data() + step * rows, state, t.logits.data(), nullptr, t.memory);
        CHECK(allocations == before);
    }
}

TEST_CASE("tanh of any number of floats, and its gradient") {
    for (const size_t size : {1, 15, 16, 17, 50, 150}) {
        CAPTURE(size);
        const auto x = random_vector(size, 1, 3.0), dy = random_vector(size, 2);
        std::vector<float> y = x, dx = dy;
        std::vector<double> expected(size), slope(size);
        for (size_t i = 0; i < size; ++i) {
            expected[i] = std::tanh(static_cast<double>(x[i]));
            slope[i] = static_cast<double>(dy[i]) * (1.0 - expected[i] * expected[i]);
        }
        tanh_(active(), size, y.data());
        check_close(y.data(), expected.data(), size, 1e-6);
        tanh_gradient_(active(), size, y.data(), dx.data());
        check_close(dx.data(), slope.data(), size, 1e-5);
    }
}
