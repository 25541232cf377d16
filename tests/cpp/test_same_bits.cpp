// Training gives the same bits on every ISA with fused multiply-adds, on any number of threads.
#include <stdexcept>

#include "core/parallel.h"
#include "helpers.h"
#include "models/language_model.h"

using namespace rnnfast;
using namespace rnnfast::tests;

namespace {

// Fifty steps of a small model; the hash of all its weights.
uint64_t train(const Kernels& kernels, const std::string& cell, OptimizerKind kind, Weights weights = Weights::f32) {
    LanguageModelOptions options;
    options.cell = cell;
    options.weights = weights;
    options.vocabulary = 37;
    options.hidden_size = 41;
    options.num_layers = 2;
    options.dropout = 0.25f;
    LanguageModel model(options, 5, kernels);
    OptimizerOptions update;
    update.kind = kind;
    update.momentum = 0.9;
    Optimizer optimizer(kernels, model.parameters(), update);
    const size_t steps = 7, rows = 5;
    std::vector<int32_t> ids((steps + 1) * rows);
    std::vector<double> nll(steps * rows);
    std::vector<float> h(model.state_size(rows)), c(model.state_size(rows));
    for (size_t step = 0; step < 50; ++step) {
        for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(random_bits(random_key(9, step), i) % 37);
        model.loss(ids.data(), ids.data() + rows, steps, rows, {h.data(), c.data()}, {h.data(), c.data()}, nll.data(),
                   true, step);
        model.backward();
        clip_grad_norm(kernels, model.parameters(), 0.25);
        optimizer.step(0.05);
        zero_grad(model.parameters());
        model.weights_changed();
    }
    uint64_t hash = 0xcbf29ce484222325u;
    for (const Parameter* p : model.parameters()) hash = hash_bits(p->value.data(), p->size(), hash);
    return hash;
}

struct Golden {
    const char* cell;
    OptimizerKind kind;
    Weights weights;
    uint64_t hash;
};

}  // namespace

TEST_CASE("fifty steps of training leave the bits written down here, on every ISA with FMA") {
    const Golden golden[] = {
        {"rnn", OptimizerKind::sgd, Weights::f32, 5844879978805282628u},
        {"rnn_relu", OptimizerKind::adamw, Weights::f32, 17589981202812454424u},
        {"lstm", OptimizerKind::adam, Weights::f32, 4822801165126409079u},
        {"gru", OptimizerKind::adam, Weights::f32, 9093509559051876122u},
        {"rnn", OptimizerKind::sgd, Weights::bf16, 10330821174733920421u},
        {"lstm", OptimizerKind::adam, Weights::bf16, 3563101457867028983u},
        {"gru", OptimizerKind::adam, Weights::bf16, 16052065572730695601u},
    };
    const int before = num_threads();
    for (const Golden& g : golden) {
        CAPTURE(std::string(g.cell));
        set_num_threads(1);
        const uint64_t one = train(active(), g.cell, g.kind, g.weights);
        for (const int threads : {2, 3}) {
            set_num_threads(threads);
            CHECK(train(active(), g.cell, g.kind, g.weights) == one);
        }
        if (std::string(active().name) != "baseline") CHECK(one == g.hash);
    }
    set_num_threads(before);
}

TEST_CASE("two tables in one process agree where both have FMA") {
    const Kernels* first = nullptr;
    for (const Isa& isa : isas()) {
        if (!isa.supported || std::string(isa.kernels->name) == "baseline") continue;
        if (!first) first = isa.kernels;
        for (const Weights weights : {Weights::f32, Weights::bf16})
            CHECK(train(*isa.kernels, "lstm", OptimizerKind::sgd, weights) ==
                  train(*first, "lstm", OptimizerKind::sgd, weights));
    }
    if (!first) MESSAGE("skipped: this CPU has no ISA with fused multiply-adds");
}

TEST_CASE("an int8 model gives the same bits on every ISA with FMA, and cannot be trained") {
    struct Golden8 {
        const char* cell;
        uint64_t hash;
    };
    for (const Golden8& golden : {Golden8{"rnn", 15369270782229086461u}, Golden8{"lstm", 5648488646430782539u},
                                  Golden8{"gru", 3630029661667481967u}}) {
        const std::string cell = golden.cell;
        CAPTURE(cell);
        for (const Isa& isa : isas()) {
            if (!isa.supported || std::string(isa.kernels->name) == "baseline") continue;
            LanguageModelOptions options;
            options.cell = cell;
            options.vocabulary = 37;
            options.embedding_size = 11;
            options.hidden_size = 41;
            options.num_layers = 2;
            options.weights = Weights::int8;
            LanguageModel model(options, 5, *isa.kernels);
            const size_t steps = 20, rows = 9;
            std::vector<int32_t> ids((steps + 1) * rows);
            for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(random_bits(3, i) % 37);
            std::vector<double> nll(steps * rows);
            std::vector<float> h(model.state_size(rows)), c(model.state_size(rows));
            const auto loss = [&](bool train) {
                model.loss(ids.data(), ids.data() + rows, steps, rows, {}, {h.data(), c.data()}, nll.data(), train, 1);
            };
            loss(false);
            CHECK(hash_bits(h.data(), h.size()) == golden.hash);
            CHECK_THROWS_AS(loss(true), std::invalid_argument);
        }
    }
}
