// A language model made to run a file gives the bits of one made to train, with the same weights.
#include <deque>
#include <optional>
#include <stdexcept>

#include "allocations.h"
#include "layers/optim.h"
#include "model_files.h"
#include "models/language_model_file.h"
#include "rnnfast/error.hpp"
#include "runtime/parallel.h"

using namespace rnnfast;
using namespace rnnfast::core;
using namespace rnnfast::tests;

TEST_CASE("a language model gives the same bits for running as for training, and keeps no values but an embedding") {
    const int32_t ids[] = {1, 5, 0, 2, 2, 4};
    const size_t steps = 5;
    for (const size_t embedding : {size_t{0}, size_t{3}}) {
        const ModelSizes sizes{"lstm", 4, 6, embedding, 5, 2};
        const TemporaryFile path("running");
        write_model(path, sizes, metadata_of(sizes));
        const LanguageModelFile file(SafetensorsFile::open(path));
        for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
            LanguageModel running(file, weights, active());
            LanguageModelOptions options = file.options;
            options.weights = weights;
            LanguageModel training(options, 1, active());
            const FileValues values = [&](const Parameter& p, Buffer& buffer) {
                return tensor_values(file.file, p.name, p.shape, buffer);
            };
            for (Parameter* p : training.parameters()) copy_values(*p, values);
            training.weights_changed();

            StreamState state = running.initial_state(1), other = training.initial_state(1);
            NetworkWorkspace workspace;
            std::vector<float> logits(sizes.vocabulary), other_logits(sizes.vocabulary);
            running.run(ids, steps, state, logits.data(), workspace);
            for (size_t i = 0; i < steps; ++i) {
                StreamState* const states[] = {&other};
                training.step(ids + i, states, 1, other_logits.data(), workspace, 1);
            }
            CHECK(logits == other_logits);

            std::vector<double> nll(steps), scores(steps);
            training.loss(ids, ids + 1, steps, 1, {}, {}, nll.data(), false, 0);
            StreamState fresh = running.initial_state(1);
            running.score(ids, steps + 1, fresh, scores.data(), workspace);
            for (size_t i = 0; i < steps; ++i) CHECK(scores[i] == -nll[i]);

            for (const Parameter* p : running.parameters()) CHECK((p->size() != 0) == (p->name == "embedding.weight"));
            CHECK_THROWS_AS(running.loss(ids, ids + 1, steps, 1, {}, {}, nll.data(), false, 0), std::logic_error);
        }
    }
}

namespace {

LanguageModelOptions residual_options(Norm norm) {
    LanguageModelOptions o;
    o.cell = "sru";
    o.vocabulary = 9;
    o.embedding_size = o.hidden_size = 21;
    o.num_layers = 3;
    o.residual = true;
    o.norm = norm;
    return o;
}

const int32_t residual_ids[] = {1, 5, 0, 2, 2, 4, 8, 7};
constexpr size_t residual_steps = 7;

// Of a training step, with all gradients.
uint64_t bits(const LanguageModelOptions& o, const Kernels& kernels) {
    LanguageModel model(o, 4, kernels);
    std::vector<double> nll(residual_steps);
    const auto start = random_vector(model.state_size(1), 3);
    model.loss(residual_ids, residual_ids + 1, residual_steps, 1, {start.data(), start.data()}, {}, nll.data(), true,
               5);
    model.backward();
    std::vector<float> losses(nll.begin(), nll.end());
    uint64_t hash = hash_bits(losses.data(), losses.size());
    for (const Parameter* p : model.parameters()) hash = hash_bits(p->grad.data(), p->size(), hash);
    return hash;
}

}  // namespace

TEST_CASE("residual layers with norms give the same bits on every ISA with FMA and any number of threads") {
    const int before = num_threads();
    for (const Norm norm : {Norm::rms, Norm::layer}) {
        std::optional<uint64_t> expected;
        for (const Isa& isa : isas()) {
            if (!isa.supported || std::string(isa.kernels->name) == "baseline") continue;
            for (const int threads : {1, 2, 3}) {
                set_num_threads(threads);
                const uint64_t found = bits(residual_options(norm), *isa.kernels);
                CHECK(found == expected.value_or(found));
                expected = found;
            }
        }
    }
    set_num_threads(before);
}

namespace {

LanguageModelOptions output_options(Output output) {
    LanguageModelOptions o;
    o.cell = "gru";
    o.vocabulary = 90;
    o.embedding_size = 5;
    o.hidden_size = 37;
    o.output = output;
    if (output == Output::adaptive) {
        o.cutoffs = {4, 6};
        o.div_value = 3.0;
    } else {
        o.num_sampled = 17;
    }
    return o;
}

}  // namespace

TEST_CASE("adaptive and sampled softmax give the same bits on every ISA with FMA and any number of threads") {
    const int before = num_threads();
    for (const Output output : {Output::adaptive, Output::sampled}) {
        std::optional<uint64_t> expected;
        for (const Isa& isa : isas()) {
            if (!isa.supported || std::string(isa.kernels->name) == "baseline") continue;
            for (const int threads : {1, 2, 3}) {
                set_num_threads(threads);
                const uint64_t found = bits(output_options(output), *isa.kernels);
                CHECK(found == expected.value_or(found));
                expected = found;
            }
        }
    }
    set_num_threads(before);
}

TEST_CASE("an adaptive softmax from a file scores as it was trained, and steps without allocating") {
    const LanguageModelOptions o = output_options(Output::adaptive);
    LanguageModel training(o, 4, active());
    std::map<std::string, TensorView> tensors;
    for (const Parameter* p : training.parameters()) tensors[p->name] = {p->shape, p->value.data(), p->size()};
    const TemporaryFile path("adaptive");
    std::map<std::string, std::string> metadata = metadata_of({"gru", 3, o.vocabulary, 5, 37, 1});
    metadata.erase("vocabulary");
    metadata["config"] = write_options(o);
    write_safetensors(path, tensors, metadata);
    for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
        LanguageModelOptions as = o;
        as.weights = weights;
        LanguageModel same(as, 4, active()), running(LanguageModelFile(SafetensorsFile::open(path)), weights, active());
        std::vector<double> nll(residual_steps), scores(residual_steps);
        same.loss(residual_ids, residual_ids + 1, residual_steps, 1, {}, {}, nll.data(), false, 0);
        StreamState scored = running.initial_state(1), stepped = running.initial_state(1);
        NetworkWorkspace workspace, own;
        running.score(residual_ids, residual_steps + 1, scored, scores.data(), workspace);
        own.reserve(running.one_step());
        std::vector<float> logits(o.vocabulary);
        StreamState* const states[] = {&stepped};
        for (size_t i = 0; i < residual_steps; ++i) {
            CHECK(scores[i] == -nll[i]);
            const long allocated = allocations;
            running.step(residual_ids + i, states, 1, logits.data(), own, 1);
            CHECK(allocations == allocated);
            const double log_p = static_cast<double>(logits[static_cast<size_t>(residual_ids[i + 1])]);
            CHECK(log_p == doctest::Approx(scores[i]).epsilon(1e-5));
        }
    }
}

TEST_CASE("residual layers from a file stream as one state, with the bits of the model that wrote them") {
    const LanguageModelOptions o = residual_options(Norm::layer);
    LanguageModel training(o, 4, active());
    std::map<std::string, TensorView> tensors;
    for (const Parameter* p : training.parameters()) tensors[p->name] = {p->shape, p->value.data(), p->size()};
    const TemporaryFile path("residual");
    std::map<std::string, std::string> metadata = metadata_of({"sru", 3, o.vocabulary, 21, 21, 3});
    metadata["config"] = write_options(o);
    write_safetensors(path, tensors, metadata);
    LanguageModel running(LanguageModelFile(SafetensorsFile::open(path)), Weights::f32, active());

    std::vector<double> nll(residual_steps), scores(residual_steps);
    std::vector<float> h(training.state_size(1)), c(h.size()), end_h(h.size()), end_c(h.size());
    training.loss(residual_ids, residual_ids + 1, residual_steps, 1, {}, {h.data(), c.data()}, nll.data(), false, 0);
    StreamState scored = running.initial_state(1), stepped = running.initial_state(1);
    NetworkWorkspace workspace;
    running.score(residual_ids, residual_steps + 1, scored, scores.data(), workspace);
    std::vector<float> logits(o.vocabulary);
    StreamState* const states[] = {&stepped};
    for (size_t i = 0; i < residual_steps; ++i) {
        CHECK(scores[i] == -nll[i]);
        running.step(residual_ids + i, states, 1, logits.data(), workspace, 1);
    }
    for (const StreamState* state : {&scored, &stepped}) {
        state->get(end_h.data(), end_c.data());
        CHECK(end_h == h);
        CHECK(end_c == c);
    }

    const auto refusal = [&](const char* name) {
        auto more = tensors;
        more[name] = {{1}, h.data(), 1};
        write_safetensors(path, more, metadata);
        try {
            LanguageModel(LanguageModelFile(SafetensorsFile::open(path)), Weights::f32, active());
        } catch (const Error& error) {
            return std::string(error.what());
        }
        return std::string();
    };
    CHECK(refusal("other.weight").empty());
    CHECK(contains(refusal("layers.3.norm.weight"), "has layers.3.norm.weight, which its configuration does not"));
    CHECK(contains(refusal("norm.scale"), "has norm.scale"));
}

namespace {

// Ids [steps, rows] of a text in which neighbours differ.
std::vector<int32_t> even_ids(size_t steps, Range rows, size_t vocabulary) {
    std::vector<int32_t> ids;
    for (size_t t = 0; t < steps; ++t)
        for (size_t n = rows.begin; n < rows.end; ++n)
            ids.push_back(static_cast<int32_t>((7 * n + 3 * t * t + t) % vocabulary));
    return ids;
}

// Adds to the model's gradients those of some rows, alone or in groups.
void add_gradients(LanguageModel& model, Range rows, const RowGroups& keys) {
    const size_t steps = 5, vocabulary = model.options().vocabulary;
    const std::vector<int32_t> x = even_ids(steps, rows, vocabulary), y = even_ids(steps, rows, vocabulary - 1);
    std::vector<double> nll(x.size());
    model.loss(x.data(), y.data(), steps, rows.size(), {}, {}, nll.data(), true, keys);
    CHECK(model.unfinished() == model.parameters().size());
    model.backward();
    CHECK(model.unfinished() == 0);
}

}  // namespace

TEST_CASE("groups of rows give the bits of each alone, added in a tree") {
    for (const char* cell : {"lstm", "gru", "sru"})
        for (const size_t embedding : {size_t{0}, size_t{6}}) {
            if (embedding == 0 && std::string(cell) == "sru") continue;  // adds its input to what it gives
            CAPTURE(cell);
            LanguageModelOptions o;
            o.cell = cell;
            o.vocabulary = 11;
            o.embedding_size = embedding;
            o.hidden_size = 18;
            o.num_layers = 2;
            o.dropout = 0.25;
            LanguageModel together(o, 4, active());
            RowGroups keys(1);
            keys.keys = {21, 22, 23, 24};
            add_gradients(together, {0, 12}, keys);
            std::vector<std::vector<Buffer>> alone;
            for (size_t g = 0; g < 4; ++g) {
                LanguageModel model(o, 4, active());
                add_gradients(model, {3 * g, 3 * g + 3}, keys.keys[g]);
                alone.emplace_back();
                for (Parameter* p : model.parameters()) alone.back().push_back(std::move(p->grad));
            }
            for (size_t i = 0; i < alone[0].size(); ++i)
                for (size_t j = 0; j < alone[0][i].size(); ++j) {
                    const auto of = [&](size_t g) { return alone[g][i].data()[j]; };
                    const float sum = (of(0) + of(1)) + (of(2) + of(3));
                    REQUIRE(together.parameters()[i]->grad.data()[j] == sum);
                }
        }
}

TEST_CASE("optimizers that share the elements of a model move them as one does") {
    LanguageModelOptions o;
    o.cell = "gru";
    o.vocabulary = 11;
    o.embedding_size = 6;
    o.hidden_size = 18;
    OptimizerOptions adam;
    adam.kind = OptimizerKind::adamw;
    adam.weight_decay = 0.1;
    LanguageModel whole(o, 4, active()), split(o, 4, active());
    Optimizer one(active(), whole.parameters(), adam);
    std::deque<Optimizer> shares;
    for (int i = 0; i < 3; ++i) shares.emplace_back(active(), split.parameters(), adam);
    size_t total = 0;
    for (const Parameter* p : split.parameters()) total += p->size();
    for (size_t i = 0; i < 3; ++i) shares[i].keep({total * i / 3, total * (i + 1) / 3});
    for (int step = 0; step < 3; ++step) {
        for (LanguageModel* model : {&whole, &split}) add_gradients(*model, {0, 4}, RowGroups(7));
        one.step(0.01);
        for (Optimizer& share : shares) share.step(0.01);
        for (LanguageModel* model : {&whole, &split}) model->weights_changed();
    }
    size_t held = 0;
    for (const Optimizer& share : shares)
        for (const Buffer& state : share.second) held += state.size();
    CHECK(held == total);
    for (size_t i = 0; i < whole.parameters().size(); ++i) {
        const Buffer &a = whole.parameters()[i]->value, &b = split.parameters()[i]->value;
        CHECK(std::equal(a.data(), a.data() + a.size(), b.data()));
    }
}
