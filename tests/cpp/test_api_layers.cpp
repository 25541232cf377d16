// Layers on tensors of one's own, in the public C++ API.
#include "model_files.h"

#include <map>

#include "rnnfast/layers.hpp"

using namespace rnnfast::tests;
using rnnfast::LanguageModel;
using rnnfast::State;

TEST_CASE("layers run on your own tensors") {
    const std::string bytes = model_bytes({"gru", 3, 6, 4, 17, 2});
    const auto tensors = rnnfast::Tensors::parse(bytes.data(), bytes.size());
    CHECK(tensors.shape("rnn.weight_hh_l1") == std::vector<size_t>{51, 17});
    const rnnfast::Recurrent gru(tensors, "rnn.", "gru");
    CHECK(gru.input_size() == 4);
    CHECK(gru.num_layers() == 2);
    const rnnfast::Linear output(tensors, "output.weight", "output.bias");
    const std::vector<float> table = tensors.values("embedding.weight");

    const LanguageModel model = LanguageModel::load(bytes.data(), bytes.size());
    State model_state = model.initial_state(), state = gru.initial_state();
    std::vector<float> expected, logits(6), h(17);
    for (const int32_t token : {1, 2, 3}) {
        model.step(token, model_state, expected);
        gru.step(table.data() + 4 * token, state, h.data());
        output.forward(h.data(), logits.data());
        CHECK(logits == expected);
    }
    CHECK_THROWS_AS(rnnfast::Recurrent(tensors, "rnn.", "lstm"), std::invalid_argument);
    CHECK_THROWS_AS(rnnfast::Recurrent(tensors, "other.", "gru"), std::invalid_argument);
    CHECK_THROWS_AS(rnnfast::Linear(tensors, "output.bias", ""), std::invalid_argument);
}

namespace {

// A file of tensors with these names and shapes, of small numbers.
rnnfast::Tensors tensors_of(const std::map<std::string, std::vector<size_t>>& shapes) {
    std::map<std::string, std::vector<float>> values;
    std::map<std::string, rnnfast::TensorView> tensors;
    for (const auto& [name, shape] : shapes) {
        size_t size = 1;
        for (const size_t n : shape) size *= n;
        values[name] = random_vector(size, values.size() + 1, 0.5);
        tensors[name] = {shape, values[name].data(), size};
    }
    const TemporaryFile path("layers");
    rnnfast::write_safetensors(path, tensors, {});
    const std::string bytes = read_bytes(path);
    return rnnfast::Tensors::parse(bytes.data(), bytes.size());
}

}  // namespace

TEST_CASE("layers whose tensors do not fit together are refused by name [R8] [R13]") {
    using Shapes = std::map<std::string, std::vector<size_t>>;
    const auto stack = [](std::initializer_list<const char*> layers, bool biases = true) {
        Shapes shapes;
        for (const std::string layer : layers) {
            shapes["weight_ih_l" + layer] = {20, layer == "0" ? 3u : 5u};
            shapes["weight_hh_l" + layer] = {20, 5};
            if (biases) shapes["bias_ih_l" + layer] = shapes["bias_hh_l" + layer] = {20};
        }
        return shapes;
    };
    const auto refused = [](Shapes shapes, const std::string& without = "", const Shapes& with = {}) {
        shapes.erase(without);
        shapes.insert(with.begin(), with.end());
        return sentence_of([&] {
            try {
                rnnfast::Recurrent(tensors_of(shapes), "", "lstm");
            } catch (const rnnfast::Error& error) {
                throw std::invalid_argument(error.what());
            }
        });
    };
    CHECK(refused(stack({"0", "1", "2"})) == "");
    CHECK(refused(stack({"0", "1"}, false)) == "");
    CHECK(refused(stack({"0"}), "", {{"bn.weight_ih_l7", {3}}, {"weight_ih_lx", {2}}}) == "");
    CHECK(contains(refused(stack({"0", "2"})), "has bias_hh_l2, but no weight_ih_l1: a layer is missing"));
    CHECK(contains(refused(stack({"1"})), "has bias_hh_l1, but no weight_ih_l0: a layer is missing"));
    CHECK(contains(refused(stack({"0", "1"}), "weight_ih_l1"), "no tensor weight_ih_l1"));
    CHECK(contains(refused(stack({"0", "1"}), "weight_hh_l1"), "weight_hh_l1 are missing"));
    CHECK(contains(refused(stack({"0", "1"}), "bias_hh_l1"), "bias_hh_l1 is missing, but bias_ih_l0 is there"));
    CHECK(contains(refused(stack({"0", "1"}), "bias_ih_l1"), "bias_ih_l1 is missing, but bias_ih_l0 is there"));
    Shapes half = stack({"0", "1"});
    half.erase("bias_ih_l1");
    CHECK(contains(refused(half, "bias_hh_l1"), "bias_ih_l1 is missing"));
    CHECK(contains(refused(stack({"0"}), "bias_ih_l0"), "bias_hh_l0 is there, but there is no bias_ih_l0"));
    CHECK(contains(refused(stack({"0"}), "", {{"weight_hr_l0", {2, 5}}}), "weight_hr_l0 projects the hidden state"));
    CHECK(contains(refused(stack({"0"}), "", {{"weight_ih_l0_reverse", {20, 3}}}), "backward direction"));
    CHECK(contains(refused(stack({"0"}), "weight_hh_l0", {{"weight_hh_l0", {5, 20}}}), "has shape [5, 20]"));
    CHECK(contains(refused(stack({"0"}), "weight_hh_l0", {{"weight_hh_l0", {20, 4}}}),
                   "a lstm has 4 gates, so [16, 4] is expected"));
    CHECK(contains(refused(stack({"0", "1"}), "weight_ih_l1", {{"weight_ih_l1", {20, 3}}}), "the layer below gives 5"));
}

TEST_CASE("cells without a recurrent product run on your own tensors, and other tensors are refused") {
    using Shapes = std::map<std::string, std::vector<size_t>>;
    const Shapes shapes = {{"weight_ih_l0", {20, 3}}, {"bias_ih_l0", {20}}, {"weight_c_l0", {10}},
                           {"weight_ih_l1", {15, 5}}, {"bias_ih_l1", {15}}, {"weight_c_l1", {10}}};
    const rnnfast::Recurrent sru(tensors_of(shapes), "", "sru");
    CHECK(sru.hidden_size() == 5);
    CHECK(sru.num_layers() == 2);
    const std::vector<float> x = random_vector(4 * 3, 1);
    std::vector<float> whole(4 * 5), y(5);
    State start = sru.initial_state(), state = sru.initial_state();
    sru.run(x.data(), 4, start, whole.data());
    for (size_t t = 0; t < 4; ++t) {
        sru.step(x.data() + 3 * t, state, y.data());
        CHECK(std::equal(y.begin(), y.end(), whole.begin() + static_cast<ptrdiff_t>(5 * t)));
    }
    const auto refused = [](const Shapes& wrong, const char* cell) {
        return sentence_of([&] { rnnfast::Recurrent(tensors_of(wrong), "", cell); });
    };
    const Shapes lstm = {{"weight_ih_l0", {20, 3}}, {"weight_hh_l0", {20, 5}}};
    CHECK(contains(refused(lstm, "mingru"), "a mingru has no recurrent product"));
    CHECK(contains(refused({{"weight_ih_l0", {7, 3}}}, "minlstm"), "a multiple of 3 rows is expected"));
    CHECK(contains(refused({{"weight_ih_l0", {20, 3}}}, "sru"), "no tensor weight_c_l0"));
    CHECK(contains(refused({{"weight_ih_l0", {20, 3}}, {"weight_c_l0", {9}}}, "sru"), "no vector of 2 numbers"));
}
