// Language models whose gates read two steps of input: the state has a third part, x of the step before.
#include <algorithm>
#include <cmath>
#include <optional>

#include "allocations.h"
#include "model_files.h"
#include "models/language_model.h"
#include "models/seq2seq/translator_file.h"
#include "rnnfast/error.hpp"
#include "rnnfast/rnnfast.h"
#include "rnnfast/rnnfast.hpp"
#include "runtime/parallel.h"

using namespace rnnfast::tests;
using rnnfast::State;
using rnnfast::Weights;
namespace core = rnnfast::core;

namespace {

constexpr size_t vocabulary = 9, steps = 8;
const int32_t ids[] = {1, 5, 0, 2, 2, 4, 8, 7, 3};

struct Form {
    const char* name;
    size_t carried;  // numbers of x in a state
    core::LanguageModelOptions options;
};

core::LanguageModelOptions options_of(size_t embedding, size_t layers) {
    core::LanguageModelOptions o;
    o.cell = "qrnn";
    o.window = 2;
    o.vocabulary = vocabulary;
    o.embedding_size = embedding;
    o.hidden_size = 21;
    o.num_layers = layers;
    return o;
}

std::vector<Form> forms() {
    std::vector<Form> all = {{"stack", 5, options_of(5, 3)},
                             {"norm", 5 + 2 * 21, options_of(5, 3)},
                             {"residual", 2 * 21, options_of(21, 2)}};
    all[1].options.norm = core::Norm::layer;
    all[2].options.norm = core::Norm::rms;
    all[2].options.residual = true;
    return all;
}

std::string bytes_of(const core::LanguageModelOptions& o) {
    core::LanguageModel model(o, 4, core::active());
    std::map<std::string, core::TensorView> tensors;
    for (const core::Parameter* p : model.parameters()) tensors[p->name] = {p->shape, p->value.data(), p->size()};
    return core::safetensors_bytes(tensors,
                                   {{"format", "rnnfast"},
                                    {"format_version", "1"},
                                    {"kind", "language_model"},
                                    {"config", core::write_options(o)}},
                                   "bytes");
}

rnnfast::v1::LanguageModel model_of(const core::LanguageModelOptions& o, Weights weights = Weights::f32) {
    const std::string bytes = bytes_of(o);
    return rnnfast::v1::LanguageModel::load(bytes.data(), bytes.size(), weights);
}

}  // namespace

TEST_CASE("windows: steps, runs, scores and streams together agree, and a saved state has x") {
    for (const Form& form : forms())
        for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
            CAPTURE(form.name);
            CAPTURE(static_cast<int>(weights));
            const rnnfast::v1::LanguageModel model = model_of(form.options, weights);
            State stepped = model.initial_state(), ran = stepped, scored = stepped, first = stepped, second = stepped;
            const size_t size = (2 * form.options.num_layers * 21 + form.carried) * sizeof(float);
            CHECK(stepped.saved_size() == 48 + size);
            std::vector<float> logits(vocabulary), last(vocabulary), both(2 * vocabulary);
            const std::vector<double> log_p = model.score({ids, ids + steps + 1}, scored);
            State* const pair[] = {&second, &first};
            std::vector<uint8_t> saved;
            for (size_t t = 0; t < steps; ++t) {
                model.step(ids[t], stepped, logits);
                const int32_t two[] = {ids[t], ids[t]};
                model.step(two, pair, 2, both.data());
                CHECK(std::equal(logits.begin(), logits.end(), both.begin()));
                CHECK(std::equal(logits.begin(), logits.end(), both.begin() + vocabulary));
                double sum = 0;
                for (const float v : logits) sum += std::exp(static_cast<double>(v));
                CHECK(std::abs(static_cast<double>(logits[static_cast<size_t>(ids[t + 1])]) - std::log(sum) -
                               log_p[t]) < 1e-5);
                if (t == 3) saved = stepped.save();
            }
            model.run({ids, ids + steps}, ran, last);
            CHECK(last == logits);
            for (const State* state : {&ran, &scored, &first, &second}) CHECK(state->save() == stepped.save());

            State restored = model.initial_state();
            restored.restore(saved.data(), saved.size());
            const State copy = restored;
            CHECK(copy.save() == saved);
            model.run({ids + 4, ids + steps}, restored, last);
            CHECK(last == logits);
            std::fill(saved.end() - static_cast<ptrdiff_t>(form.carried * sizeof(float)), saved.end(), uint8_t{0});
            restored.restore(saved.data(), saved.size());
            model.run({ids + 4, ids + 5}, restored, last);
            State whole = copy;
            model.run({ids + 4, ids + 5}, whole, logits);
            CHECK(last != logits);  // x decides too

            restored.reset();
            CHECK(restored.save() == model.initial_state().save());
            State warm = copy;
            model.step(1, warm, logits);
            State again = warm;
            const long before = allocations;
            model.step(2, warm, logits);
            model.step(2, again, logits);
            CHECK(allocations == before);
        }
}

TEST_CASE("windows: a state of a model without one is refused, and damaged bytes too") {
    core::LanguageModelOptions narrow = options_of(5, 3);
    narrow.window.reset();
    const rnnfast::v1::LanguageModel one = model_of(narrow), two = model_of(options_of(5, 3));
    State of_one = one.initial_state(), of_two = two.initial_state();
    std::vector<float> logits;
    CHECK(
        sentence_of([&] { two.step(1, of_one, logits); }) ==
        "the state belongs to another model: it is of a qrnn of 3 layers of 21, the model is a qrnn of 3 layers of 21 "
        "and 5 carried inputs; make it with this model's initial_state()");
    CHECK_THROWS_AS(one.step(1, of_two, logits), std::invalid_argument);
    std::vector<uint8_t> saved = of_two.save();
    CHECK_THROWS_AS(of_one.restore(saved.data(), saved.size()), std::invalid_argument);
    for (size_t size = 0; size < saved.size(); ++size)
        CHECK_THROWS_AS(of_two.restore(saved.data(), size), std::invalid_argument);
    saved[saved.size() - 1] = saved[saved.size() - 2] = 0xff;  // NaN in x
    CHECK_THROWS_AS(of_two.restore(saved.data(), saved.size()), std::invalid_argument);
}

TEST_CASE("windows: C has the bits of C++, and its states have x") {
    for (const Form& form : forms()) {
        CAPTURE(form.name);
        const std::string bytes = bytes_of(form.options);
        const rnnfast::v1::LanguageModel model = model_of(form.options);
        State state = model.initial_state();
        std::vector<float> logits(vocabulary), in_c(vocabulary);
        model.run({ids, ids + steps}, state, logits);
        rnnfast_model* of_c;
        rnnfast_state *first, *second;
        REQUIRE(rnnfast_model_load_memory(bytes.data(), bytes.size(), RNNFAST_F32, &of_c) == RNNFAST_OK);
        REQUIRE(rnnfast_state_new(of_c, &first) == RNNFAST_OK);
        REQUIRE(rnnfast_state_new(of_c, &second) == RNNFAST_OK);
        CHECK(rnnfast_run(of_c, ids, 3, first, in_c.data(), vocabulary) == RNNFAST_OK);
        size_t size = 0;
        CHECK(rnnfast_state_size(first, &size) == RNNFAST_OK);
        CHECK(size == state.saved_size());
        std::vector<uint8_t> saved(size);
        CHECK(rnnfast_state_save(first, saved.data(), &size) == RNNFAST_OK);
        CHECK(rnnfast_state_restore(second, saved.data(), size) == RNNFAST_OK);
        CHECK(rnnfast_run(of_c, ids + 3, steps - 3, second, in_c.data(), vocabulary) == RNNFAST_OK);
        CHECK(in_c == logits);
        size = saved.size();
        CHECK(rnnfast_state_save(second, saved.data(), &size) == RNNFAST_OK);
        CHECK(saved == state.save());
        rnnfast_state_free(second);
        rnnfast_state_free(first);
        rnnfast_model_free(of_c);
    }
}

namespace {

// Of two training steps, the second from the state after the first, with dropout and all gradients.
uint64_t bits(core::LanguageModelOptions o, const core::Kernels& kernels) {
    constexpr size_t rows = 3, length = 5;
    o.dropout = 0.2;
    core::LanguageModel model(o, 4, kernels);
    const size_t size = model.state_size(rows), carried = rows * model.carried_inputs();
    std::vector<float> h(size), c(size), x(carried);
    std::vector<int32_t> read(rows * (length + 1));
    for (size_t i = 0; i < read.size(); ++i) read[i] = ids[i % steps];
    std::vector<double> nll(rows * length);
    uint64_t hash = 0;
    for (const uint64_t key : {5, 6}) {
        model.loss(read.data(), read.data() + rows, length, rows, {h.data(), c.data(), x.data()},
                   {h.data(), c.data(), x.data()}, nll.data(), true, key);
        model.backward();
        const std::vector<float> losses(nll.begin(), nll.end());
        for (const auto& part : {losses, h, c, x}) hash = hash_bits(part.data(), part.size(), hash);
        CHECK(std::any_of(x.begin(), x.end(), [](float v) { return v != 0; }));
    }
    for (const core::Parameter* p : model.parameters()) hash = hash_bits(p->grad.data(), p->size(), hash);
    return hash;
}

}  // namespace

TEST_CASE("windows: training has the same bits on every ISA with FMA and any number of threads") {
    const int before = core::num_threads();
    for (const Form& form : forms()) {
        CAPTURE(form.name);
        std::optional<uint64_t> expected;
        for (const core::Isa& isa : core::isas()) {
            if (!isa.supported || std::string(isa.kernels->name) == "baseline") continue;
            for (const int threads : {1, 2, 3}) {
                core::set_num_threads(threads);
                const uint64_t found = bits(form.options, *isa.kernels);
                CHECK(found == expected.value_or(found));
                expected = found;
            }
        }
    }
    core::set_num_threads(before);
}

TEST_CASE("windows: options that do not fit are refused with a sentence") {
    const auto refused = [](auto change) {
        core::LanguageModelOptions o = options_of(5, 1);
        change(o);
        return sentence_of([&] { core::LanguageModel(o, 1, core::active()); });
    };
    CHECK(refused([](auto& o) { o.window = 3; }) == "window is 3: expected 1 or 2");
    CHECK(refused([](auto& o) { o.cell = "lstm"; }) ==
          "window is 2 and the cell 'lstm': expected the cell 'qrnn', whose gates can read two steps of input, or "
          "window 1");
    CHECK(refused([](auto& o) { o.cell = "mingru"; }) != "");
    CHECK(contains(refused([](auto& o) { o.embedding_size = 0; }), "embedding_size is 0 (one-hot input)"));
    CHECK(refused([](auto& o) { o.cell = "lstm", o.window = 1; }) == "");
    core::Seq2SeqOptions translator;
    translator.cell = "qrnn";
    translator.source_vocabulary = translator.target_vocabulary = 9;
    translator.embedding_size = translator.hidden_size = 4;
    translator.encoder_window = 3;
    const auto made = [&] { core::Seq2Seq(translator, 1, core::active()); };
    CHECK(sentence_of(made) == "encoder_window is 3: expected 1 or 2");
    translator.encoder_window = 2;
    CHECK(sentence_of(made) == "");
    translator.cell = "gru";
    CHECK(contains(sentence_of(made), "encoder_window is 2 and the cell 'gru'"));
}
