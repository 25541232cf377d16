// Cells without a recurrent product in the public C++ and C: layers of your own tensors, and networks.
#include <string>

#include "layers/recurrent.h"
#include "network_files.h"
// Inner headers first, because the public headers declare other classes with the same names.
#include "rnnfast/layers.hpp"
#include "rnnfast/network.hpp"
#include "rnnfast/rnnfast.h"

using namespace rnnfast::tests;
using rnnfast::Weights;

namespace {

constexpr size_t steps = 6, inputs = 5, hidden = 18;

struct Form {  // of a layer
    std::string cell;
    size_t window;
};

std::vector<Form> forms() {
    std::vector<Form> all;
    for (const rnnfast::core::CellInfo& cell : rnnfast::core::cells())
        if (!cell.recurrent) all.push_back({cell.name, 1});
    all.push_back({"qrnn", 2});
    return all;
}

rnnfast::core::Recurrent layer_of(const Form& form, Weights weights) {
    rnnfast::core::RecurrentOptions o;
    o.cell = form.cell;
    o.window = form.window;
    o.input_size = inputs;
    o.hidden_size = hidden;
    o.num_layers = 2;
    o.weights = weights;
    return {o, 3, rnnfast::core::active()};
}

// What the core's layer makes of one row.
std::vector<float> expected_of(const Form& form, Weights weights, const std::vector<float>& x) {
    const rnnfast::core::Recurrent layer = layer_of(form, weights);
    std::vector<float> y(steps * hidden);
    rnnfast::core::RecurrentTape tape;
    layer.forward({steps, 1, x.data()}, {}, y.data(), {}, tape, false);
    return y;
}

std::string tensors_of(const Form& form) {
    const rnnfast::core::Recurrent layer = layer_of(form, Weights::f32);
    std::map<std::string, rnnfast::core::TensorView> tensors;
    for (const rnnfast::core::Parameter& p : layer.parameters) tensors[p.name] = {p.shape, p.value.data(), p.size()};
    return rnnfast::core::safetensors_bytes(tensors, {}, "bytes");
}

// The same layer as the only one of a network.
std::string network_of(const Form& form) {
    const rnnfast::core::Recurrent layer = layer_of(form, Weights::f32);
    std::map<std::string, rnnfast::core::TensorView> tensors;
    for (const rnnfast::core::Parameter& p : layer.parameters)
        tensors["r." + p.name] = {p.shape, p.value.data(), p.size()};
    const std::string window = form.window > 1 ? ",\"window\":" + std::to_string(form.window) : "";
    const std::string config =
        R"({"inputs":[{"name":"x","size":5}],"layers":[{"name":"r","type":"recurrent","cell":")" + form.cell +
        R"(","hidden_size":18,"num_layers":2)" + window + "}]}";
    return rnnfast::core::safetensors_bytes(
        tensors, {{"format", "rnnfast"}, {"format_version", "1"}, {"kind", "network"}, {"config", config}}, "bytes");
}

std::vector<float> part(const std::vector<float>& y, size_t first, size_t count) {
    const auto at = y.begin() + static_cast<ptrdiff_t>(first * hidden);
    return {at, at + static_cast<ptrdiff_t>(count * hidden)};
}

// Calls body(form, weights, x, y) for every form of layer in every precision.
template <class Body>
void for_each_form(Body body) {
    const std::vector<float> x = random_vector(steps * inputs, 1);
    for (const Form& form : forms())
        for (const Weights weights : {Weights::f32, Weights::bf16, Weights::int8}) {
            CAPTURE(form.cell);
            CAPTURE(form.window);
            CAPTURE(static_cast<int>(weights));
            body(form, weights, x, expected_of(form, weights, x));
        }
}

}  // namespace

TEST_CASE("C++ and C: layers without a recurrent product give the core's bits, whole, stepwise and together") {
    for_each_form([](const Form& form, Weights weights, const std::vector<float>& x, const std::vector<float>& y) {
        if (form.window > 1) return;  // in networks
        const std::string bytes = tensors_of(form);
        const rnnfast::v1::Recurrent layer(rnnfast::Tensors::parse(bytes.data(), bytes.size()), "", form.cell, weights);
        std::vector<float> whole(y.size()), step(hidden), both(2 * hidden), two(2 * inputs);
        rnnfast::State state = layer.initial_state(), first = state, second = state, third = state;
        layer.run(x.data(), steps, state, whole.data());
        CHECK(whole == y);
        rnnfast::State* const states[] = {&second, &third};
        for (size_t t = 0; t < steps; ++t) {
            layer.step(x.data() + t * inputs, first, step.data());
            CHECK(step == part(y, t, 1));
            for (const size_t row : {0, 1}) std::copy_n(x.data() + t * inputs, inputs, two.data() + row * inputs);
            layer.step(two.data(), states, 2, both.data());
            CHECK(part(both, 1, 1) == step);
        }
        rnnfast_tensors* tensors;
        rnnfast_recurrent* in_c;
        rnnfast_state* of_c;
        REQUIRE(rnnfast_tensors_parse(bytes.data(), bytes.size(), &tensors) == RNNFAST_OK);
        REQUIRE(rnnfast_recurrent_new(tensors, "", form.cell.c_str(), static_cast<int>(weights), &in_c) == RNNFAST_OK);
        REQUIRE(rnnfast_recurrent_state_new(in_c, &of_c) == RNNFAST_OK);
        std::fill(whole.begin(), whole.end(), 0.0f);
        CHECK(rnnfast_recurrent_run(in_c, x.data(), x.size(), steps, of_c, whole.data(), whole.size()) == RNNFAST_OK);
        CHECK(whole == y);
        rnnfast_state_free(of_c);
        rnnfast_recurrent_free(in_c);
        rnnfast_tensors_free(tensors);
    });
}

TEST_CASE("C++ and C: networks of cells without a recurrent product give the layer's bits, from a saved state too") {
    for_each_form([](const Form& form, Weights weights, const std::vector<float>& x, const std::vector<float>& y) {
        const std::string bytes = network_of(form);
        const auto network = rnnfast::v1::Network::load(bytes.data(), bytes.size(), weights);
        std::vector<float> out(y.size()), step(hidden);
        network.run({x.data()}, {steps, 1}, {out.data()});
        CHECK(out == y);
        rnnfast::NetworkState state = network.initial_state(), later = state;
        const size_t half = steps / 2;
        for (size_t t = 0; t < half; ++t) {
            network.step({x.data() + t * inputs}, state, {step.data()});
            CHECK(step == part(y, t, 1));
        }
        const std::vector<uint8_t> saved = state.save();
        later.restore(saved.data(), saved.size());
        for (rnnfast::NetworkState* each : {&state, &later}) {
            const rnnfast::NetworkData rest[] = {x.data() + half * inputs};
            float* const to[] = {out.data()};
            network.read(rest, steps - half, *each, to);
            CHECK(part(out, 0, steps - half) == part(y, half, steps - half));
        }
        rnnfast_network* in_c;
        rnnfast_network_state* of_c;
        REQUIRE(rnnfast_network_load_memory(bytes.data(), bytes.size(), static_cast<int>(weights), &in_c) ==
                RNNFAST_OK);
        REQUIRE(rnnfast_network_state_new(in_c, &of_c) == RNNFAST_OK);
        CHECK(rnnfast_network_state_restore(of_c, saved.data(), saved.size()) == RNNFAST_OK);
        const rnnfast_values rest[] = {{x.data() + half * inputs, nullptr, (steps - half) * inputs}};
        const rnnfast_result to[] = {{out.data(), out.size()}};
        CHECK(rnnfast_network_read(in_c, rest, 1, steps - half, of_c, to, 1) == RNNFAST_OK);
        CHECK(part(out, 0, steps - half) == part(y, half, steps - half));
        rnnfast_network_state_free(of_c);
        rnnfast_network_free(in_c);
    });
}
